create or replace function pgq.maint_retry_events() returns integer
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Moves events whose time has come from the retry queue into their queues: retried
-- ones for the consumer that put them aside, delayed ones for everybody. A queue
-- that is closed to inserts waits; one that fails gives a warning and stops no
-- other.
--
-- Returns: how many were moved, some thousand of each queue at most; call again
--     until it is 0.
-- Calls: current_event_table
-- Tables written: pgq.retry_queue, event tables
-- Locks taken: pgq.retry_queue in share update exclusive mode: one at a time.
declare
    v_queue pgq.queue;
    v_moved integer;
    v_count integer := 0;
begin
    lock table pgq.retry_queue in share update exclusive mode;
    for v_queue in
        select q.*
        from pgq.queue q
        where q.queue_id in (select r.ev_queue from pgq.retry_queue r where r.ev_retry_after <= pg_catalog.now())
          and (not q.queue_disable_insert
               or pg_catalog.current_setting('session_replication_role') = 'replica')
        order by q.queue_name
    loop
        begin
            -- A delayed event has its queue's number, below zero, for an owner.
            execute pg_catalog.format($sql$
                with gone as (
                    delete from pgq.retry_queue r
                    using (select d.ev_owner, d.ev_id
                           from pgq.retry_queue d
                           where d.ev_queue = $1
                             and d.ev_retry_after <= pg_catalog.now()
                           order by d.ev_retry_after
                           limit 5000) due
                    where r.ev_owner = due.ev_owner
                      and r.ev_id = due.ev_id
                    returning r.*)
                insert into %s (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data,
                                ev_extra1, ev_extra2, ev_extra3, ev_extra4)
                select g.ev_id, case when g.ev_owner < 0 then g.ev_retry_after else g.ev_time end,
                       case when g.ev_owner > 0 then g.ev_owner end, g.ev_retry, g.ev_type, g.ev_data,
                       g.ev_extra1, g.ev_extra2, g.ev_extra3, g.ev_extra4
                from gone g
                $sql$, pgq.quote_fqname(pgq.current_event_table(v_queue.queue_name)))
                using v_queue.queue_id;
            get diagnostics v_moved = row_count;
            -- The ticker sees by the sequence that something came.
            perform count(pg_catalog.nextval(pgq.quote_fqname(v_queue.queue_event_seq)::regclass))
            from pg_catalog.generate_series(1, v_moved);
            v_count := v_count + v_moved;
        exception
            when others then
                raise warning 'maint_retry_events: queue %: %', v_queue.queue_name, sqlerrm using errcode = sqlstate;
        end;
    end loop;
    return v_count;
end;
$$;
