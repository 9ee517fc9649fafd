create or replace function pgq.maint_retry_events() returns integer
language plpgsql volatile parallel unsafe
as $$
-- Moves up to ten events whose time has come from the retry queue back into
-- their queues, for the consumer that put them aside. Queues that are closed to
-- inserts wait.
--
-- Returns: how many were moved; call again until it is 0.
-- Calls: insert_event_raw
-- Tables written: pgq.retry_queue, event tables
-- Locks taken: pgq.retry_queue in share update exclusive mode: one at a time.
declare
    v_event record;
    v_count integer := 0;
begin
    lock table pgq.retry_queue in share update exclusive mode;
    for v_event in
        select q.queue_name, r.*
        from pgq.retry_queue r
        join pgq.queue q on q.queue_id = r.ev_queue
        where r.ev_retry_after <= pg_catalog.now()
          and (not q.queue_disable_insert
               or pg_catalog.current_setting('session_replication_role') = 'replica')
        order by r.ev_retry_after, r.ev_id
        limit 10
    loop
        perform pgq.insert_event_raw(v_event.queue_name, v_event.ev_id, v_event.ev_time, v_event.ev_owner,
                                     v_event.ev_retry, v_event.ev_type, v_event.ev_data, v_event.ev_extra1,
                                     v_event.ev_extra2, v_event.ev_extra3, v_event.ev_extra4);
        delete from pgq.retry_queue r where r.ev_owner = v_event.ev_owner and r.ev_id = v_event.ev_id;
        v_count := v_count + 1;
    end loop;
    return v_count;
end;
$$;
