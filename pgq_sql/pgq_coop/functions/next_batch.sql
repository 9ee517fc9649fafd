create or replace function pgq_coop.next_batch_custom(
    i_queue_name text,
    i_consumer_name text,
    i_subconsumer_name text,
    i_min_lag interval,
    i_min_count integer,
    i_min_interval interval,
    i_dead_interval interval)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Opens a batch for a worker, or tells of the one that it has open. Both the
-- consumer and the worker are registered if they are not yet.
--
-- Parameters: i_queue_name; i_consumer_name - the main consumer;
--     i_subconsumer_name - the worker; i_min_lag, i_min_count, i_min_interval - as
--     in pgq.next_batch_custom(); i_dead_interval - a worker not heard of for so
--     long is dead: it is unregistered, and we get its batch. Null: nobody dies.
-- Returns: batch id, the same one until finish_batch(). It is, in this order: the
--     worker's own; the oldest one of those left by unregistered or dead workers; the
--     consumer's next. Null when there is none yet, or the consumer or the worker is
--     paused.
-- Raises: PGQ01 queue not found; 55006 the main consumer has a batch open, which it
--     got from pgq.next_batch(); what register_subconsumer and
--     pgq.next_batch_custom raise.
-- Calls: register_subconsumer, pgq.next_batch_custom, _lock_main, _get_sub,
--     _set_batch, _remove
-- Tables written: pgq.subscription, pgq.consumer
-- Locks taken: the main consumer's subscription for update: workers of a group come
--     one after the other.
declare
    v_name text := i_consumer_name || '.' || i_subconsumer_name;
    v_main pgq.subscription;
    v_sub pgq.subscription;
    v_left pgq.subscription;
    v_batch record;
begin
    v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    v_sub := pgq_coop._get_sub(v_main, v_name);
    if v_sub.sub_id is null then
        perform pgq_coop.register_subconsumer(i_queue_name, i_consumer_name, i_subconsumer_name);
        v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
        v_sub := pgq_coop._get_sub(v_main, v_name);
    end if;
    if v_main.sub_batch is not null then
        raise exception 'main consumer has batch open?'
            using errcode = '55006',
                  detail = format('Consumer "%s" has batch %s open, which pgq.next_batch() gave it.', i_consumer_name,
                                  v_main.sub_batch),
                  hint = 'Finish it with pgq.finish_batch(); then let subconsumers do the work.';
    end if;
    if v_main.sub_paused or v_sub.sub_paused then
        return null;
    end if;
    if v_sub.sub_batch is not null then
        perform pgq_coop._set_batch(v_sub, v_sub.sub_batch, v_sub.sub_last_tick, v_sub.sub_next_tick);
        return v_sub.sub_batch;
    end if;

    -- Whoever is finishing a batch at this moment holds its row, and lives.
    select s.* into v_left
    from pgq.subscription s
    join pgq.consumer c on c.co_id = s.sub_consumer
    where s.sub_queue = v_main.sub_queue
      and s.sub_id = v_main.sub_id
      and s.sub_consumer <> v_main.sub_consumer
      and s.sub_consumer <> v_sub.sub_consumer
      and (c.co_name = i_consumer_name || '.(batch ' || s.sub_batch || ')'
           or pgq._age(s.sub_active) > i_dead_interval and not s.sub_paused)
    order by s.sub_batch is null, s.sub_last_tick, c.co_name
    limit 1
    for update of s skip locked;
    if found then
        perform pgq_coop._remove(v_left);
        if v_left.sub_batch is not null then
            perform pgq_coop._set_batch(v_sub, v_left.sub_batch, v_left.sub_last_tick, v_left.sub_next_tick);
            return v_left.sub_batch;
        end if;
    end if;

    select b.* into v_batch
    from pgq.next_batch_custom(i_queue_name, i_consumer_name, i_min_lag, i_min_count, i_min_interval) b;
    if v_batch.batch_id is null then
        -- One that only waits is not dead. And pgq.finish_batch() leaves a position
        -- where there should be none, which would stop rotation.
        if v_sub.sub_last_tick is not null or pgq._age(v_sub.sub_active) > i_dead_interval / 2 then
            perform pgq_coop._set_batch(v_sub, null, null, null);
        end if;
        return null;
    end if;
    perform pgq_coop._set_batch(v_main, null, v_batch.cur_tick_id, null);
    perform pgq_coop._set_batch(v_sub, v_batch.batch_id, v_batch.prev_tick_id, v_batch.cur_tick_id);
    return v_batch.batch_id;
end;
$$;

create or replace function pgq_coop.next_batch_custom(
    i_queue_name text,
    i_consumer_name text,
    i_subconsumer_name text,
    i_min_lag interval,
    i_min_count integer,
    i_min_interval interval)
returns bigint
language sql volatile parallel unsafe
as $$
    -- The same; no worker counts as dead.
    select pgq_coop.next_batch_custom($1, $2, $3, $4, $5, $6, null);
$$;

create or replace function pgq_coop.next_batch(
    i_queue_name text,
    i_consumer_name text,
    i_subconsumer_name text,
    i_dead_interval interval)
returns bigint
language sql volatile parallel unsafe
as $$
    -- Opens a batch for a worker: next_batch_custom without wishes.
    select pgq_coop.next_batch_custom($1, $2, $3, null, null, null, $4);
$$;

create or replace function pgq_coop.next_batch(
    i_queue_name text,
    i_consumer_name text,
    i_subconsumer_name text)
returns bigint
language sql volatile parallel unsafe
as $$
    -- The same; no worker counts as dead.
    select pgq_coop.next_batch_custom($1, $2, $3, null, null, null, null);
$$;
