create or replace function pgq.unregister_consumer(x_queue_name text, x_consumer_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Ends a consumer's reading of a queue, with its open batch and the events it
-- has put aside for later. A subconsumer leaves its group alone; the main
-- consumer takes the group along.
--
-- Returns: number of subscriptions removed, 0 if there was none.
-- Tables written: pgq.subscription, retry_queue, consumer
-- Locks taken: the rows of the group.
declare
    v_sub pgq.subscription;
    v_count integer;
begin
    select s.* into v_sub
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.consumer c on c.co_id = s.sub_consumer
    where q.queue_name = x_queue_name
      and c.co_name = x_consumer_name
    for update of s;
    if not found then
        return 0;
    end if;

    select count(*) into v_count
    from (select 1 from pgq.subscription s where s.sub_id = v_sub.sub_id order by s.sub_consumer for update) g;
    -- The main one of a group has a position but never a batch of its own.
    if v_count > 1 and (v_sub.sub_last_tick is null) = (v_sub.sub_next_tick is null) then
        delete from pgq.subscription s
        where s.sub_queue = v_sub.sub_queue
          and s.sub_consumer = v_sub.sub_consumer;
        return 1;
    end if;

    delete from pgq.retry_queue r where r.ev_owner = v_sub.sub_id;
    delete from pgq.subscription s where s.sub_id = v_sub.sub_id;
    get diagnostics v_count = row_count;

    -- Lock out a registration elsewhere before looking whether there is one.
    perform 1 from pgq.consumer c where c.co_id = v_sub.sub_consumer for update;
    delete from pgq.consumer c
    where c.co_id = v_sub.sub_consumer
      and not exists (select 1 from pgq.subscription s where s.sub_consumer = v_sub.sub_consumer);
    return v_count;
end;
$$;
