create or replace function pgq.batch_retry(i_batch_id bigint, i_retry_seconds integer) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts all events of an open batch aside for some seconds, by the rules of
-- event_retry.
--
-- Returns: how many; those that were put aside before do not count.
-- Raises: PGQ03 batch not found.
-- Calls: _put_aside
declare
    v_sub pgq.subscription;
begin
    select s.* into v_sub from pgq.subscription s where s.sub_batch = i_batch_id;
    if not found then
        raise exception 'batch_retry: batch % not found', i_batch_id
            using errcode = 'PGQ03', detail = 'It is not open.';
    end if;
    return (pgq._put_aside(v_sub, null, now() + make_interval(secs => i_retry_seconds), null, false)).n_put;
end;
$$;
