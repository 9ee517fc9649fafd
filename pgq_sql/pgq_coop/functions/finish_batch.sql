create or replace function pgq_coop.finish_batch(i_batch_id bigint) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Closes a worker's batch.
--
-- Returns: 1 closed; 0, with a warning, when no worker has it open.
-- Calls: _remove
-- Tables written: pgq.subscription; pgq.consumer when the worker is gone already
declare
    v_done record;
begin
    -- A consumer that is no subconsumer would lose its position.
    update pgq.subscription s
    set sub_active = now(), sub_last_tick = null, sub_next_tick = null, sub_batch = null
    from pgq.consumer c
    where s.sub_batch = i_batch_id
      and c.co_id = s.sub_consumer
      and exists (
          select 1
          from pgq.subscription m
          join pgq.consumer mc on mc.co_id = m.sub_consumer
          where m.sub_queue = s.sub_queue
            and m.sub_id = s.sub_id
            and starts_with(c.co_name, mc.co_name || '.'))
    returning s as sub, c.co_name into v_done;
    if not found then
        raise warning 'coop_finish_batch: batch % not found', i_batch_id;
        return 0;
    end if;
    if v_done.co_name like '%.(batch ' || i_batch_id || ')' then
        perform pgq_coop._remove(v_done.sub);
    end if;
    return 1;
end;
$$;
