create or replace function pgq.find_tick_helper(
    in i_queue_id int4,
    in i_prev_tick_id int8,
    in i_prev_tick_time timestamptz,
    in i_prev_tick_seq int8,
    in i_min_count int8,
    in i_min_interval interval,
    out next_tick_id int8,
    out next_tick_time timestamptz,
    out next_tick_seq int8)
returns record
language plpgsql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Finds the end of a batch that is big or long enough.
--
-- Parameters: i_queue_id; i_prev_tick_* - where the batch begins; i_min_count,
--     i_min_interval - its wished size, null for no wish.
-- Returns: the latest tick if it satisfies a wish; if it lies more than twice
--     the wish ahead, the first tick that satisfies one; nulls if none does.
begin
    select t.tick_id, t.tick_time, t.tick_event_seq into next_tick_id, next_tick_time, next_tick_seq
    from pgq.tick t
    where t.tick_queue = i_queue_id
      and t.tick_id > i_prev_tick_id
    order by t.tick_id desc
    limit 1;
    if not found then
        return;
    end if;

    if next_tick_seq - i_prev_tick_seq > i_min_count * 2
       or pgq._age(i_prev_tick_time, next_tick_time) > i_min_interval * 2
    then
        select t.tick_id, t.tick_time, t.tick_event_seq into next_tick_id, next_tick_time, next_tick_seq
        from pgq.tick t
        where t.tick_queue = i_queue_id
          and t.tick_id > i_prev_tick_id
          and (t.tick_event_seq - i_prev_tick_seq >= i_min_count
               or pgq._age(i_prev_tick_time, t.tick_time) >= i_min_interval)
        order by t.tick_id
        limit 1;
    elsif next_tick_seq - i_prev_tick_seq >= i_min_count
       or pgq._age(i_prev_tick_time, next_tick_time) >= i_min_interval
    then
        null;
    else
        next_tick_id := null;
        next_tick_time := null;
        next_tick_seq := null;
    end if;
end;
$$;

create or replace function pgq.next_batch_custom(
    in i_queue_name text,
    in i_consumer_name text,
    in i_min_lag interval,
    in i_min_count int4,
    in i_min_interval interval,
    out batch_id int8,
    out cur_tick_id int8,
    out prev_tick_id int8,
    out cur_tick_time timestamptz,
    out prev_tick_time timestamptz,
    out cur_tick_event_seq int8,
    out prev_tick_event_seq int8)
returns record
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Opens the next batch of a consumer, or tells of the one that is open.
--
-- Parameters: i_queue_name, i_consumer_name; i_min_lag - only events at least
--     this old; i_min_count, i_min_interval - only if there are this many
--     events, or this much time, between the batch's ticks. Null: no wish.
-- Returns: one row: the batch and the ticks that it ends and begins with. All
--     null when there is no batch yet, or the consumer is paused.
-- Raises: PGQ02 consumer not registered; PGQ05 its tick has vanished.
-- Calls: find_tick_helper
-- Tables written: pgq.subscription, only when a batch is opened.
declare
    v_queue_id integer;
    v_consumer_id integer;
    v_paused boolean;
begin
    loop
        select s.sub_queue, s.sub_consumer, s.sub_batch, s.sub_last_tick, s.sub_next_tick,
               p.tick_time, p.tick_event_seq, n.tick_time, n.tick_event_seq, s.sub_paused
        into v_queue_id, v_consumer_id, batch_id, prev_tick_id, cur_tick_id,
             prev_tick_time, prev_tick_event_seq, cur_tick_time, cur_tick_event_seq, v_paused
        from pgq.queue q
        join pgq.consumer c on c.co_name = i_consumer_name
        join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = c.co_id
        left join pgq.tick p on p.tick_queue = s.sub_queue and p.tick_id = s.sub_last_tick
        left join pgq.tick n on n.tick_queue = s.sub_queue and n.tick_id = s.sub_next_tick
        where q.queue_name = i_queue_name;
        if not found then
            raise exception 'Not subscriber to queue: %/%', coalesce(i_queue_name, 'NULL'),
                    coalesce(i_consumer_name, 'NULL')
                using errcode = 'PGQ02', hint = 'Register it with pgq.register_consumer().';
        end if;
        if prev_tick_time is null then
            raise exception 'PgQ corruption: Consumer % on queue % does not see tick %', i_consumer_name,
                    i_queue_name, prev_tick_id
                using errcode = 'PGQ05', hint = 'Move it to a tick that exists with pgq.register_consumer_at().';
        end if;
        exit when batch_id is not null and not v_paused;

        if v_paused then
            cur_tick_id := null;
        elsif i_min_count is null and i_min_interval is null then
            select t.tick_id, t.tick_time, t.tick_event_seq
            into cur_tick_id, cur_tick_time, cur_tick_event_seq
            from pgq.tick t
            where t.tick_queue = v_queue_id
              and t.tick_id > prev_tick_id
            order by t.tick_id
            limit 1;
        else
            select h.next_tick_id, h.next_tick_time, h.next_tick_seq
            into cur_tick_id, cur_tick_time, cur_tick_event_seq
            from pgq.find_tick_helper(v_queue_id, prev_tick_id, prev_tick_time, prev_tick_event_seq,
                                      i_min_count, i_min_interval) h;
        end if;
        if cur_tick_id is null or pgq._age(cur_tick_time) < i_min_lag then
            batch_id := null;
            cur_tick_id := null;
            prev_tick_id := null;
            cur_tick_time := null;
            prev_tick_time := null;
            cur_tick_event_seq := null;
            prev_tick_event_seq := null;
            exit;
        end if;

        -- Another session of the same consumer may come first: then look again.
        update pgq.subscription s
        set sub_batch = nextval('pgq.batch_id_seq'), sub_next_tick = cur_tick_id, sub_worker = null, sub_active = now()
        where s.sub_queue = v_queue_id
          and s.sub_consumer = v_consumer_id
          and s.sub_batch is null
          and not s.sub_paused
          and s.sub_last_tick = prev_tick_id
        returning s.sub_batch into batch_id;
        exit when found;
    end loop;
end;
$$;

create or replace function pgq.next_batch_info(
    in i_queue_name text,
    in i_consumer_name text,
    out batch_id int8,
    out cur_tick_id int8,
    out prev_tick_id int8,
    out cur_tick_time timestamptz,
    out prev_tick_time timestamptz,
    out cur_tick_event_seq int8,
    out prev_tick_event_seq int8)
returns record
language plpgsql volatile parallel unsafe
as $$
-- Opens the next batch of a consumer, or tells of the one that is open.
--
-- Returns, raises, calls: next_batch_custom without wishes.
declare
    v_batch pg_catalog.record;
begin
    v_batch := pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null);
    batch_id := v_batch.batch_id;
    cur_tick_id := v_batch.cur_tick_id;
    prev_tick_id := v_batch.prev_tick_id;
    cur_tick_time := v_batch.cur_tick_time;
    prev_tick_time := v_batch.prev_tick_time;
    cur_tick_event_seq := v_batch.cur_tick_event_seq;
    prev_tick_event_seq := v_batch.prev_tick_event_seq;
end;
$$;

create or replace function pgq.next_batch(i_queue_name text, i_consumer_name text) returns int8
language plpgsql volatile parallel unsafe
as $$
-- Opens the next batch of a consumer.
--
-- Returns: batch id, the same one until finish_batch(); null when there is no
--     batch yet.
-- Raises, calls: next_batch_custom
begin
    return (pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null)).batch_id;
end;
$$;
