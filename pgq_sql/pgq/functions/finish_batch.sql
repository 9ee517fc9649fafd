create or replace function pgq.finish_batch(x_batch_id bigint) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Closes a batch: its consumer stands behind its events now.
--
-- Returns: 1 closed; 0, with a warning, when no such batch is open.
-- Tables written: pgq.subscription
begin
    update pgq.subscription s
    set sub_active = now(), sub_last_tick = s.sub_next_tick, sub_next_tick = null, sub_batch = null,
        sub_worker = null
    where s.sub_batch = x_batch_id;
    if not found then
        raise warning 'finish_batch: batch % not found', x_batch_id;
        return 0;
    end if;
    return 1;
end;
$$;
