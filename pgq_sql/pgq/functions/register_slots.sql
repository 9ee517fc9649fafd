create or replace function pgq._slots(i_queue_name text, i_consumer_name text) returns setof pgq.subscription
language sql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
    -- The slots of a split consumer, in order; none if it is not split.
    select s.*
    from pgq.queue q
    join pgq.subscription s on s.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = s.sub_consumer
    where q.queue_name = i_queue_name
      and c.co_name = i_consumer_name || '#' || s.sub_slot
    order by s.sub_slot;
$$;

create or replace function pgq.register_slots(
    i_queue_name text,
    i_consumer_name text,
    i_slots integer,
    i_key text default 'ev_extra1')
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Splits a consumer into slots that workers process in parallel: an event goes to
-- the slot that its key hashes to, so events of one key keep their order. Slot I of
-- consumer C is registered as consumer C#I and has a position of its own; what they
-- retry is theirs in common.
--
-- Parameters: i_queue_name; i_consumer_name - a new one, which begins at the latest
--     tick, a registered one, which keeps its position, or one that is split already;
--     i_slots - how many; i_key - the column of the events that is the key.
-- Returns: number of slots made, 0 if they were so already.
-- Raises: 22004 null parameter; 22023 no such column, or not 1 .. 1000 slots; PGQ01
--     queue not found; PGQ05 the queue has no tick; 55000 the consumer has an open
--     batch, subconsumers, or slots that do not all stand at one tick; or a slot's name
--     is taken.
-- Calls: _slots, _retry_config, register_consumer_at, _forget_consumers
-- Tables written: pgq.subscription, pgq.consumer
-- Locks taken: the queue's row for no key update; the consumer's subscriptions.
declare
    v_queue_id integer;
    v_base pgq.subscription;
    v_config record;
    v_split boolean;
    v_apart text;
    v_gone integer[] := '{}';
    v_name text;
begin
    if i_consumer_name is null or i_slots is null or i_key is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The name of the consumer, the number of slots or the key is NULL.';
    end if;
    if i_slots not between 1 and 1000 then
        raise exception 'number of slots must be between 1 and 1000' using errcode = '22023';
    end if;
    if i_key not in ('ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4') then
        raise exception 'events have no key "%"', i_key
            using errcode = '22023', hint = 'It can be ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3 or ev_extra4.';
    end if;
    select q.queue_id into v_queue_id from pgq.queue q where q.queue_name = i_queue_name for no key update;
    if not found then
        raise exception 'Event queue not created yet'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', i_queue_name),
                  hint = 'Create it with pgq.create_queue().';
    end if;

    -- Where it stands: as a whole, or in slots.
    select s.* into v_base
    from pgq.subscription s
    join pgq.consumer c on c.co_id = s.sub_consumer
    where s.sub_queue = v_queue_id
      and c.co_name = i_consumer_name;
    v_split := not found;
    if v_split then
        select s.* into v_base from pgq._slots(i_queue_name, i_consumer_name) s limit 1;
    end if;
    perform 1 from pgq.subscription s where s.sub_id = v_base.sub_id order by s.sub_consumer for update;
    select s.* into v_base
    from pgq.subscription s
    where s.sub_queue = v_base.sub_queue
      and s.sub_consumer = v_base.sub_consumer;

    if v_base.sub_slots = i_slots and v_base.sub_slot_key = i_key then
        return 0;
    elsif v_split then
        select string_agg(format('slot %s at tick %s%s', s.sub_slot, s.sub_last_tick,
                                 ' with batch ' || s.sub_batch || ' open'), ', ' order by s.sub_slot)
        into v_apart
        from pgq._slots(i_queue_name, i_consumer_name) s
        where s.sub_batch is not null
           or s.sub_last_tick < (select max(m.sub_last_tick) from pgq._slots(i_queue_name, i_consumer_name) m);
        if v_apart is not null then
            raise exception 'slots of consumer % on queue % are not all at one tick', i_consumer_name, i_queue_name
                using errcode = '55000', detail = format('Behind are: %s.', v_apart),
                      hint = 'Let the workers finish what there is while the ticker is paused, or move all with pgq.seek_consumer().';
        end if;
    elsif v_base.sub_batch is not null then
        raise exception 'consumer % on queue % has a batch open', i_consumer_name, i_queue_name
            using errcode = '55000', detail = format('It is batch %s.', v_base.sub_batch),
                  hint = 'Stop it, finish the batch, and try again.';
    elsif v_base.sub_last_tick is null
        or exists (select 1 from pgq.subscription s
                   where s.sub_id = v_base.sub_id and s.sub_consumer <> v_base.sub_consumer)
    then
        raise exception 'consumer % on queue % belongs to a group of subconsumers', i_consumer_name, i_queue_name
            using errcode = '55000';
    end if;

    select c.* into v_config from pgq._retry_config(v_base) c;
    if v_base.sub_id is null then
        -- Subscriptions that share an id are one group: never meet an old one.
        loop
            v_base.sub_id := nextval('pgq.subscription_sub_id_seq');
            exit when not exists (select 1 from pgq.subscription s where s.sub_id = v_base.sub_id);
        end loop;
        select max(t.tick_id) into v_base.sub_last_tick from pgq.tick t where t.tick_queue = v_queue_id;
        v_base.sub_paused := false;
    else
        with gone as (
            delete from pgq.subscription s where s.sub_id = v_base.sub_id returning s.sub_consumer)
        select array_agg(g.sub_consumer) into v_gone from gone g;
    end if;

    for v_slot in 0 .. i_slots - 1 loop
        v_name := i_consumer_name || '#' || v_slot;
        if pgq.register_consumer_at(i_queue_name, v_name, v_base.sub_last_tick) = 0 then
            raise exception 'consumer % is registered on queue % already', v_name, i_queue_name
                using errcode = '55000', detail = 'It is not a slot.', hint = 'Unregister it, or take another name.';
        end if;
        update pgq.subscription s
        set sub_id = v_base.sub_id,
            sub_slot = v_slot,
            sub_slots = i_slots,
            sub_slot_key = i_key,
            sub_paused = v_base.sub_paused,
            sub_max_retries = v_config.max_retries,
            sub_retry_delay = v_config.delay,
            sub_retry_max_delay = coalesce(v_config.max_delay, s.sub_retry_max_delay)
        from pgq.consumer c
        where s.sub_queue = v_queue_id
          and s.sub_consumer = c.co_id
          and c.co_name = v_name;
    end loop;
    perform pgq._forget_consumers(v_gone);
    return i_slots;
end;
$$;

create or replace function pgq.unregister_slots(i_queue_name text, i_consumer_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Ends a split consumer's reading of a queue, with all its slots and what they have
-- put aside.
--
-- Returns: number of slots removed, 0 if the consumer is not split.
-- Calls: _slots, unregister_consumer
begin
    perform 1 from pgq._slots(i_queue_name, i_consumer_name);
    if not found then
        return 0;
    end if;
    return pgq.unregister_consumer(i_queue_name, i_consumer_name || '#0');
end;
$$;
