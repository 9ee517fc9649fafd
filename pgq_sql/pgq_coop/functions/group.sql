create or replace function pgq_coop._lock_main(i_queue_name text, i_consumer_name text) returns pgq.subscription
language plpgsql volatile parallel unsafe
as $$
-- Finds the main consumer of a group, and keeps the others of it waiting.
--
-- Returns: its subscription, nulls when it is not registered.
-- Raises: 22023 the consumer is a subconsumer itself, or works in slots.
-- Locks taken: the subscription's row for update.
declare
    v_main pgq.subscription;
begin
    select s.* into v_main
    from pgq.queue q
    join pgq.consumer c on c.co_name = i_consumer_name
    join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = c.co_id
    where q.queue_name = i_queue_name
    for update of s;
    if found and (v_main.sub_last_tick is null or v_main.sub_slots is not null) then
        raise exception 'consumer % on queue % cannot have subconsumers', i_consumer_name, i_queue_name
            using errcode = '22023',
                  detail = case when v_main.sub_slots is null then 'It is a subconsumer itself.'
                                else 'It works in slots.' end;
    end if;
    return v_main;
end;
$$;

create or replace function pgq_coop._get_sub(i_main pgq.subscription, i_name text) returns pgq.subscription
language plpgsql volatile parallel unsafe
as $$
-- Finds a member of a group.
--
-- Parameters: i_main - the main consumer's subscription, locked; i_name - the
--     member's whole name, MAIN.SUB.
-- Returns: its subscription, nulls when it is not registered.
-- Raises: 22023 the queue has a consumer of this name that is not of the group.
-- Locks taken: the subscription's row for update.
declare
    v_sub pgq.subscription;
begin
    select s.* into v_sub
    from pgq.consumer c
    join pgq.subscription s on s.sub_consumer = c.co_id
    where c.co_name = i_name
      and s.sub_queue = i_main.sub_queue
    for update of s;
    if v_sub.sub_id <> i_main.sub_id then
        raise exception 'consumer % is registered already, and is no subconsumer', i_name
            using errcode = '22023', hint = 'Unregister it, or choose another name for the subconsumer.';
    end if;
    return v_sub;
end;
$$;

create or replace function pgq_coop._register(i_queue_name text, i_main pgq.subscription, i_name text)
returns pgq.subscription
language plpgsql volatile parallel unsafe
as $$
-- Adds a member without a batch to a group.
--
-- Parameters: i_queue_name; i_main - the main consumer's subscription, locked;
--     i_name - the member's whole name.
-- Returns: its subscription.
-- Calls: pgq.register_consumer
-- Tables written: pgq.subscription
declare
    v_sub pgq.subscription;
begin
    perform pgq.register_consumer(i_queue_name, i_name);
    update pgq.subscription s
    set sub_id = i_main.sub_id, sub_last_tick = null, sub_next_tick = null
    from pgq.consumer c
    where c.co_name = i_name
      and s.sub_consumer = c.co_id
      and s.sub_queue = i_main.sub_queue
    returning s.* into v_sub;
    return v_sub;
end;
$$;

create or replace function pgq_coop._remove(i_sub pgq.subscription) returns void
language plpgsql volatile parallel unsafe
as $$
-- Removes a member from its group, and the consumer if it reads no other queue.
--
-- Parameters: i_sub - its subscription, locked.
-- Tables written: pgq.subscription, pgq.consumer
-- Locks taken: the consumer's row for update: a registration elsewhere waits.
begin
    delete from pgq.subscription s
    where s.sub_queue = i_sub.sub_queue
      and s.sub_consumer = i_sub.sub_consumer;
    perform 1 from pgq.consumer c where c.co_id = i_sub.sub_consumer for update;
    delete from pgq.consumer c
    where c.co_id = i_sub.sub_consumer
      and not exists (select 1 from pgq.subscription s where s.sub_consumer = i_sub.sub_consumer);
end;
$$;

create or replace function pgq_coop._set_batch(
    i_sub pgq.subscription,
    i_batch_id bigint,
    i_last_tick bigint,
    i_next_tick bigint)
returns void
language plpgsql volatile parallel unsafe
as $$
-- Gives a member a batch, or takes it (nulls). Whoever had the batch has it no more:
-- no two rows may hold one.
--
-- Tables written: pgq.subscription
begin
    update pgq.subscription s
    set sub_batch = i_batch_id, sub_last_tick = i_last_tick, sub_next_tick = i_next_tick, sub_active = pg_catalog.now()
    where s.sub_queue = i_sub.sub_queue
      and s.sub_consumer = i_sub.sub_consumer;
end;
$$;
