create or replace function pgq.force_tick(i_queue_name text) returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Makes the next ticker() tick this queue: moves its event sequence on as if
-- many events had come. Does not tick by itself; nothing is moved if the queue
-- is paused or has an external ticker.
--
-- Returns: id of the last tick so far, null when the queue does not exist. The
--     awaited tick has a larger one.
-- Calls: _lock_ticks
-- Locks taken: that of _lock_ticks, where queue_ticker_max_count is very large.
declare
    v_queue pgq.queue;
    v_step bigint;
    v_tick bigint;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        return null;
    end if;
    if not v_queue.queue_external_ticker and not v_queue.queue_ticker_paused then
        v_step := greatest(v_queue.queue_ticker_max_count, 0)::bigint * 2 + 1000;
        if v_step <= 100000 then
            -- One by one: setval() could throw back ids that are being handed out.
            perform max(nextval(pgq.quote_fqname(v_queue.queue_event_seq)::regclass))
            from generate_series(1, v_step);
        else
            -- One by one would take long. So many ids are not handed out between
            -- the two calls, unless by another one who does this.
            perform pgq._lock_ticks(v_queue, true);
            perform setval(pgq.quote_fqname(v_queue.queue_event_seq)::regclass,
                           nextval(pgq.quote_fqname(v_queue.queue_event_seq)::regclass) + v_step);
        end if;
    end if;
    select max(t.tick_id) into v_tick from pgq.tick t where t.tick_queue = v_queue.queue_id;
    return v_tick;
end;
$$;
