create or replace function pgq.batch_event_tables(x_batch_id bigint) returns setof text
language plpgsql volatile parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Names the event tables that may hold events of a batch: the one written now,
-- the one before it, or both. No order.
--
-- Raises: PGQ03 batch not found.
declare
    v_batch record;
begin
    select q.queue_data_pfx, q.queue_cur_table, q.queue_switch_step1, q.queue_switch_step2,
           (q.queue_cur_table + q.queue_ntables - 1) % q.queue_ntables as prev_table,
           pg_catalog.txid_snapshot_xmin(p.tick_snapshot) as prev_xmin,
           pg_catalog.txid_snapshot_xmax(n.tick_snapshot) as next_xmax
    into v_batch
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.tick p on p.tick_queue = s.sub_queue and p.tick_id = s.sub_last_tick
    join pgq.tick n on n.tick_queue = s.sub_queue and n.tick_id = s.sub_next_tick
    where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'batch not found'
            using errcode = 'PGQ03', detail = pg_catalog.format('Batch %s is not open.', coalesce(x_batch_id::text, 'NULL'));
    end if;

    -- Whoever got its id after step2 writes into the current table; whoever was
    -- done when step1 was not, has written into the one before it.
    if v_batch.queue_switch_step2 is null or v_batch.prev_xmin <= v_batch.queue_switch_step2 then
        return next v_batch.queue_data_pfx || '_' || v_batch.prev_table;
    end if;
    if v_batch.next_xmax >= v_batch.queue_switch_step1 then
        return next v_batch.queue_data_pfx || '_' || v_batch.queue_cur_table;
    end if;
end;
$$;
