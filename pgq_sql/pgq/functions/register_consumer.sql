create or replace function pgq.register_consumer_at(
    x_queue_name text,
    x_consumer_name text,
    x_tick_pos bigint)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets a consumer read a queue, or moves one that does.
--
-- Parameters: x_queue_name; x_consumer_name - made if new; x_tick_pos - it gets
--     the events after this tick; null: after the latest one, or, if it is
--     registered already, from where it stands.
-- Returns: 1 newly registered; 0 registered already (with a tick: moved there,
--     its open batch forgotten).
-- Raises: PGQ01 queue not found; PGQ05 tick not found, or the queue has none;
--     22004 null consumer.
-- Tables written: pgq.consumer, pgq.subscription
-- Locks taken: the queue's row for share: rotation, which drops ticks, waits.
declare
    v_queue_id integer;
    v_tick bigint;
    v_consumer_id integer;
    v_sub_id integer;
begin
    if x_consumer_name is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The name of the consumer is NULL.';
    end if;
    select q.queue_id into v_queue_id from pgq.queue q where q.queue_name = x_queue_name for share;
    if not found then
        raise exception 'Event queue not created yet'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', x_queue_name),
                  hint = 'Create it with pgq.create_queue().';
    end if;

    if x_tick_pos is not null then
        perform 1 from pgq.tick t where t.tick_queue = v_queue_id and t.tick_id = x_tick_pos;
        if not found then
            raise exception 'cannot reposition, tick not found: %', x_tick_pos
                using errcode = 'PGQ05', detail = format('Queue "%s" never had this tick, or rotated past it.', x_queue_name);
        end if;
    end if;

    select c.co_id into v_consumer_id from pgq.consumer c where c.co_name = x_consumer_name for key share;
    while not found loop
        -- A restored dump has the rows but not the position of this sequence.
        loop
            v_consumer_id := nextval('pgq.consumer_co_id_seq');
            exit when not exists (select 1 from pgq.consumer c where c.co_id = v_consumer_id);
        end loop;
        insert into pgq.consumer (co_id, co_name)
        values (v_consumer_id, x_consumer_name)
        on conflict (co_name) do nothing;
        select c.co_id into v_consumer_id from pgq.consumer c where c.co_name = x_consumer_name for key share;
    end loop;

    perform 1 from pgq.subscription s where s.sub_queue = v_queue_id and s.sub_consumer = v_consumer_id;
    if not found then
        v_tick := x_tick_pos;
        if v_tick is null then
            select max(t.tick_id) into v_tick from pgq.tick t where t.tick_queue = v_queue_id;
            if v_tick is null then
                raise exception 'No ticks for this queue.  Please run ticker on database.'
                    using errcode = 'PGQ05', detail = format('Queue "%s" has no tick to start from.', x_queue_name);
            end if;
        end if;
        -- Subscriptions that share an id are one group: never meet an old one.
        loop
            v_sub_id := nextval('pgq.subscription_sub_id_seq');
            exit when not exists (select 1 from pgq.subscription s where s.sub_id = v_sub_id);
        end loop;
        insert into pgq.subscription (sub_id, sub_queue, sub_consumer, sub_last_tick)
        values (v_sub_id, v_queue_id, v_consumer_id, v_tick)
        on conflict (sub_queue, sub_consumer) do nothing;
        if found then
            return 1;
        end if;
    end if;

    if x_tick_pos is not null then
        update pgq.subscription s
        set sub_last_tick = x_tick_pos, sub_batch = null, sub_next_tick = null, sub_worker = null, sub_active = now()
        where s.sub_queue = v_queue_id
          and s.sub_consumer = v_consumer_id;
    end if;
    return 0;
end;
$$;

create or replace function pgq.register_consumer(x_queue_name text, x_consumer_id text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets a consumer read a queue, from the latest tick on.
--
-- Returns: 1 newly registered, 0 registered already.
-- Raises, calls: register_consumer_at
begin
    return pgq.register_consumer_at(x_queue_name, x_consumer_id, null);
end;
$$;
