create or replace function pgq._forget_consumers(i_consumer_ids integer[]) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Deletes consumers that read no queue any more.
--
-- Parameters: i_consumer_ids - those that have just lost a subscription.
-- Tables written: pgq.consumer
-- Locks taken: the consumers' rows for update, before looking whether they read
--     anything: a registration elsewhere waits.
begin
    perform 1 from pgq.consumer c where c.co_id = any (i_consumer_ids) order by c.co_id for update;
    delete from pgq.consumer c
    where c.co_id = any (i_consumer_ids)
      and not exists (select 1 from pgq.subscription s where s.sub_consumer = c.co_id);
end;
$$;

create or replace function pgq.unregister_consumer(x_queue_name text, x_consumer_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Ends a consumer's reading of a queue, with its open batch and the events it
-- has put aside for later. A subconsumer leaves its group alone; the main
-- consumer takes the group along. The slots of a split consumer go together,
-- whether it is named itself or one of them.
--
-- Returns: number of subscriptions removed, 0 if there was none.
-- Calls: _forget_consumers
-- Tables written: pgq.subscription, retry_queue, consumer
-- Locks taken: the rows of the group.
declare
    v_sub pgq.subscription;
    v_count integer;
    v_gone integer[];
begin
    select s.* into v_sub
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.consumer c on c.co_id = s.sub_consumer
    where q.queue_name = x_queue_name
      and (c.co_name = x_consumer_name or c.co_name = x_consumer_name || '#' || s.sub_slot)
    order by c.co_name = x_consumer_name desc, s.sub_slot
    limit 1
    for update of s;
    if not found then
        return 0;
    end if;

    select count(*) into v_count
    from (select 1 from pgq.subscription s where s.sub_id = v_sub.sub_id order by s.sub_consumer for update) g;
    -- The main one of a group has a position but never a batch of its own.
    if v_count > 1 and v_sub.sub_slots is null and (v_sub.sub_last_tick is null) = (v_sub.sub_next_tick is null) then
        delete from pgq.subscription s
        where s.sub_queue = v_sub.sub_queue
          and s.sub_consumer = v_sub.sub_consumer;
        return 1;
    end if;

    delete from pgq.retry_queue r where r.ev_owner = v_sub.sub_id;
    with gone as (
        delete from pgq.subscription s where s.sub_id = v_sub.sub_id returning s.sub_consumer)
    select count(*), array_agg(g.sub_consumer)
    into v_count, v_gone
    from gone g;
    perform pgq._forget_consumers(v_gone);
    return v_count;
end;
$$;
