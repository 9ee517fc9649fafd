create or replace function pgq.batch_retry(i_batch_id bigint, i_retry_seconds integer) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts all events of an open batch aside for some seconds.
--
-- Returns: how many; those that were put aside before do not count.
-- Raises: PGQ03 batch not found.
-- Calls: _batch_sql
-- Tables written: pgq.retry_queue
declare
    v_sub pgq.subscription;
    v_count integer;
begin
    select s.* into v_sub from pgq.subscription s where s.sub_batch = i_batch_id;
    if not found then
        raise exception 'batch_retry: batch % not found', i_batch_id
            using errcode = 'PGQ03', detail = 'It is not open.';
    end if;
    execute format('insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_txid, ev_owner,'
                   ' ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
                   ' select $1, $2, b.ev_id, b.ev_time, null, $3, coalesce(b.ev_retry, 0) + 1, b.ev_type, b.ev_data,'
                   ' b.ev_extra1, b.ev_extra2, b.ev_extra3, b.ev_extra4 from (%s) b'
                   ' on conflict (ev_owner, ev_id) do nothing', pgq._batch_sql(i_batch_id, null))
        using now() + make_interval(secs => i_retry_seconds), v_sub.sub_queue, v_sub.sub_id;
    get diagnostics v_count = row_count;
    return v_count;
end;
$$;
