create or replace view pgq.dead_letter as
select q.queue_name, g.co_name as consumer_name, r.ev_id, r.ev_time, r.ev_retry, r.ev_type, r.ev_data,
       r.ev_extra1, r.ev_extra2, r.ev_extra3, r.ev_extra4, r.ev_dead_time as dead_time, r.ev_reason as reason
from pgq.retry_queue r
join pgq.queue q on q.queue_id = r.ev_queue
left join lateral (
    -- A group is named after its main consumer, the one that has a position and no
    -- batch; a split consumer by its name without the slot.
    select case when s.sub_slots is null then c.co_name
                else pg_catalog.left(c.co_name, -pg_catalog.length('#' || s.sub_slot)) end as co_name
    from pgq.subscription s
    join pgq.consumer c on c.co_id = s.sub_consumer
    where s.sub_id = r.ev_owner
    order by (s.sub_last_tick is not null and s.sub_next_tick is null) desc, s.sub_consumer
    limit 1) g on true
where r.ev_dead_time is not null;

create or replace function pgq._sub_id(i_queue_name text, i_consumer_name text) returns integer
language plpgsql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Finds whose retried events are those of a consumer. A split one may be named with
-- its slot or without.
--
-- Returns: sub_id.
-- Raises: PGQ01 queue not found; PGQ02 consumer not registered.
declare
    v_sub_id integer;
begin
    select s.sub_id into v_sub_id
    from pgq.queue q
    join pgq.subscription s on s.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = s.sub_consumer
    where q.queue_name = i_queue_name
      and (c.co_name = i_consumer_name or c.co_name = i_consumer_name || '#' || s.sub_slot)
    order by c.co_name = i_consumer_name desc
    limit 1;
    if found then
        return v_sub_id;
    end if;
    perform 1 from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'Event queue not found'
            using errcode = 'PGQ01', detail = pg_catalog.format('There is no queue "%s".', i_queue_name),
                  hint = 'Create it with pgq.create_queue().';
    end if;
    raise exception 'consumer not registered'
        using errcode = 'PGQ02',
              detail = pg_catalog.format('Consumer "%s" does not read queue "%s".', i_consumer_name, i_queue_name),
              hint = 'Register it with pgq.register_consumer().';
end;
$$;

create or replace function pgq.event_failed(x_batch_id bigint, x_event_id bigint, x_reason text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Gives an event of an open batch up: it is dead, whatever its retries, until
-- somebody retries or deletes it. If it was put aside for later, it is not any more;
-- once maint_retry_events has moved it, it comes again all the same.
--
-- Returns: 1, 0 if it was dead already.
-- Raises: PGQ03 batch not found; PGQ04 event not in the batch.
-- Calls: _put_aside
begin
    return pgq._put_aside(x_batch_id, array[x_event_id], null, x_reason, true);
end;
$$;

create or replace function pgq.failed_event_list(
    in x_queue_name text,
    in x_consumer_name text,
    in x_count integer default null,
    in x_offset integer default 0,
    out ev_id bigint,
    out ev_time timestamptz,
    out ev_txid bigint,
    out ev_retry int4,
    out ev_type text,
    out ev_data text,
    out ev_extra1 text,
    out ev_extra2 text,
    out ev_extra3 text,
    out ev_extra4 text,
    out ev_failed_reason text,
    out ev_failed_time timestamptz)
returns setof record
language plpgsql stable parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lists the dead events of a consumer, ordered by ev_id.
--
-- Parameters: x_queue_name, x_consumer_name; x_count - null for all; x_offset - how
--     many to leave out first.
-- Raises: 22023 one of them is negative; PGQ01, PGQ02.
-- Calls: _sub_id
begin
    if x_count < 0 or x_offset < 0 then
        raise exception 'number of events must not be negative' using errcode = '22023';
    end if;
    return query
        select r.ev_id, r.ev_time, r.ev_txid, r.ev_retry, r.ev_type, r.ev_data, r.ev_extra1, r.ev_extra2,
               r.ev_extra3, r.ev_extra4, r.ev_reason, r.ev_dead_time
        from pgq.retry_queue r
        where r.ev_owner = pgq._sub_id(x_queue_name, x_consumer_name)
          and r.ev_dead_time is not null
        order by r.ev_id
        limit x_count offset x_offset;
end;
$$;

create or replace function pgq.failed_event_count(x_queue_name text, x_consumer_name text) returns bigint
language plpgsql stable parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Counts the dead events of a consumer.
--
-- Raises: PGQ01, PGQ02.
-- Calls: _sub_id
begin
    return (select count(*)
            from pgq.retry_queue r
            where r.ev_owner = pgq._sub_id(x_queue_name, x_consumer_name)
              and r.ev_dead_time is not null);
end;
$$;

create or replace function pgq.failed_event_retry(x_queue_name text, x_consumer_name text) returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets a consumer have all its dead events again, as if they had never been retried.
-- They come with the next maint_retry_events.
--
-- Returns: how many.
-- Raises: PGQ01, PGQ02.
-- Calls: _sub_id
-- Tables written: pgq.retry_queue
declare
    v_count bigint;
begin
    update pgq.retry_queue r
    set ev_retry_after = now(), ev_retry = 0, ev_dead_time = null, ev_reason = null
    where r.ev_owner = pgq._sub_id(x_queue_name, x_consumer_name)
      and r.ev_dead_time is not null;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$;

create or replace function pgq.failed_event_retry(x_queue_name text, x_consumer_name text, x_event_id bigint)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets a consumer have one dead event again.
--
-- Returns: 1, 0 if there is no such dead event.
-- Raises, calls: failed_event_retry of all
begin
    update pgq.retry_queue r
    set ev_retry_after = now(), ev_retry = 0, ev_dead_time = null, ev_reason = null
    where r.ev_owner = pgq._sub_id(x_queue_name, x_consumer_name)
      and r.ev_id = x_event_id
      and r.ev_dead_time is not null;
    return found::integer;
end;
$$;

create or replace function pgq.failed_event_delete(x_queue_name text, x_consumer_name text) returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Deletes all dead events of a consumer.
--
-- Returns: how many.
-- Raises: PGQ01, PGQ02.
-- Calls: _sub_id
-- Tables written: pgq.retry_queue
declare
    v_count bigint;
begin
    delete from pgq.retry_queue r
    where r.ev_owner = pgq._sub_id(x_queue_name, x_consumer_name)
      and r.ev_dead_time is not null;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$;

create or replace function pgq.failed_event_delete(x_queue_name text, x_consumer_name text, x_event_id bigint)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Deletes one dead event of a consumer.
--
-- Returns: 1, 0 if there is no such dead event.
-- Raises, calls: failed_event_delete of all
begin
    delete from pgq.retry_queue r
    where r.ev_owner = pgq._sub_id(x_queue_name, x_consumer_name)
      and r.ev_id = x_event_id
      and r.ev_dead_time is not null;
    return found::integer;
end;
$$;
