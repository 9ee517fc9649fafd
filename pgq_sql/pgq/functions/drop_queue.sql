create or replace function pgq.drop_queue(x_queue_name text, x_force bool) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Drops a queue with all its events; also one whose tables are gone already.
--
-- Parameters: x_queue_name; x_force - unregister its consumers first instead of
--     refusing.
-- Returns: 1.
-- Raises: PGQ01 queue not found; PGQ08 consumers still attached.
-- Calls: unregister_consumer, _forget_consumers
-- Tables written: pgq.queue, tick, subscription, consumer, retry_queue; drops
--     the queue's own.
-- Locks taken: the parent of its event tables, as a ticker does, then the queue's
--     row for update, then its other tables.
declare
    v_queue pgq.queue;
    v_sub   record;
    v_names text;
    v_gone  integer[];
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = x_queue_name;
    if found then
        -- In a ticker's order, or the two would wait for each other.
        if to_regclass(pgq.quote_fqname(v_queue.queue_data_pfx)) is not null then
            execute format('lock table only %s in access exclusive mode', pgq.quote_fqname(v_queue.queue_data_pfx));
        end if;
        select q.* into v_queue from pgq.queue q where q.queue_name = x_queue_name for update;
    end if;
    if not found then
        raise exception 'No such event queue'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', x_queue_name);
    end if;

    if coalesce(x_force, false) then
        select array_agg(s.sub_consumer) into v_gone from pgq.subscription s where s.sub_queue = v_queue.queue_id;
        -- Unregistering one may take the others of its group along.
        for v_sub in
            select c.co_name
            from pgq.subscription s
            join pgq.consumer c on c.co_id = s.sub_consumer
            where s.sub_queue = v_queue.queue_id
            order by 1
        loop
            perform pgq.unregister_consumer(x_queue_name, v_sub.co_name);
        end loop;
        -- A subconsumer that goes alone leaves its name behind.
        perform pgq._forget_consumers(v_gone);
    else
        select string_agg(c.co_name, ', ' order by c.co_name) into v_names
        from pgq.subscription s
        join pgq.consumer c on c.co_id = s.sub_consumer
        where s.sub_queue = v_queue.queue_id;
        if v_names is not null then
            raise exception 'cannot drop queue, consumers still attached'
                using errcode = 'PGQ08', detail = format('Queue "%s" is read by: %s.', x_queue_name, v_names),
                      hint = 'Unregister them, or call pgq.drop_queue(queue, true).';
        end if;
    end if;

    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('drop table if exists %s', pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i));
    end loop;
    execute format('drop table if exists %s', pgq.quote_fqname(v_queue.queue_data_pfx));
    execute format('drop sequence if exists %s', pgq.quote_fqname(v_queue.queue_tick_seq));
    execute format('drop sequence if exists %s', pgq.quote_fqname(v_queue.queue_event_seq));

    delete from pgq.retry_queue r where r.ev_queue = v_queue.queue_id;
    delete from pgq.tick t where t.tick_queue = v_queue.queue_id;
    delete from pgq.queue q where q.queue_id = v_queue.queue_id;
    return 1;
end;
$$;

create or replace function pgq.drop_queue(x_queue_name text) returns integer
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Drops a queue that no consumer reads.
--
-- Returns: 1; null for null.
-- Calls: drop_queue(text, bool)
begin
    return pgq.drop_queue(x_queue_name, false);
end;
$$;
