create or replace function pgq.tune_storage(i_queue_name text) returns integer
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Sets the storage options of a queue's event tables: they are only filled and
-- truncated, so they need neither free space nor vacuum.
--
-- Returns: 1, 0 when the queue does not exist, null for null.
declare
    v_queue pgq.queue;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        return 0;
    end if;
    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute pg_catalog.format(
            'alter table %s set (fillfactor = 100, autovacuum_enabled = off, toast.autovacuum_enabled = off)',
            pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i));
    end loop;
    return 1;
end;
$$;
