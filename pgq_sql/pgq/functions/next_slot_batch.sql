create or replace function pgq.next_slot_batch(
    in i_queue_name text,
    in i_consumer_name text,
    in i_worker text,
    in i_dead_interval interval default null,
    out batch_id int8,
    out slot integer,
    out cur_tick_id int8,
    out prev_tick_id int8,
    out cur_tick_time timestamptz,
    out prev_tick_time timestamptz,
    out cur_tick_event_seq int8,
    out prev_tick_event_seq int8)
returns record
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Gives a worker of a split consumer something to do: its open batch; else the next
-- batch of a slot that nobody works on, the one furthest behind first; else the batch
-- of a worker that was not heard of, if asked for. That one gets a new id: if the
-- other worker lives after all, its finish_batch finds nothing.
--
-- Parameters: i_queue_name; i_consumer_name - as given to register_slots; i_worker -
--     its name, different from those of the others; i_dead_interval - how long not to
--     be heard of, by next_slot_batch or touch_batch, means dead; null: never.
-- Returns: one row: the batch, its slot, and the ticks that it ends and begins with.
--     All null when there is nothing to do. Paused slots have nothing.
-- Raises: 22004 null worker; PGQ02 the consumer has no slots on the queue; PGQ05 its
--     tick has vanished.
-- Calls: _slots
-- Tables written: pgq.subscription
-- Locks taken: the slot's row for update, without waiting for other workers' ones.
declare
    v_sub pgq.subscription;
    v_group pgq.subscription;
begin
    if i_worker is null then
        raise exception 'Invalid NULL value' using errcode = '22004', detail = 'The name of the worker is NULL.';
    end if;
    select s.* into v_group from pgq._slots(i_queue_name, i_consumer_name) s limit 1;
    if not found then
        raise exception 'Not subscriber to queue: %/%', coalesce(i_queue_name, 'NULL'),
                coalesce(i_consumer_name, 'NULL')
            using errcode = 'PGQ02', hint = 'Register it with pgq.register_slots().';
    end if;

    update pgq.subscription s
    set sub_active = now()
    where (s.sub_queue, s.sub_consumer) = (
        select o.sub_queue, o.sub_consumer
        from pgq.subscription o
        where o.sub_id = v_group.sub_id
          and o.sub_worker = i_worker
          and o.sub_batch is not null
          and not o.sub_paused
        order by o.sub_slot
        limit 1
        for update)
    returning s.* into v_sub;

    if not found then
        select s.* into v_sub
        from pgq.subscription s
        where s.sub_id = v_group.sub_id
          and s.sub_batch is null
          and not s.sub_paused
          and exists (
              select 1 from pgq.tick t where t.tick_queue = s.sub_queue and t.tick_id > s.sub_last_tick)
        order by s.sub_last_tick, s.sub_slot
        limit 1
        for update of s skip locked;
        if found then
            update pgq.subscription s
            set sub_batch = nextval('pgq.batch_id_seq'),
                sub_next_tick = (
                    select t.tick_id
                    from pgq.tick t
                    where t.tick_queue = s.sub_queue
                      and t.tick_id > s.sub_last_tick
                    order by t.tick_id
                    limit 1),
                sub_worker = i_worker,
                sub_active = now()
            where s.sub_queue = v_sub.sub_queue
              and s.sub_consumer = v_sub.sub_consumer
            returning s.* into v_sub;
        end if;
    end if;

    if not found and i_dead_interval is not null then
        select s.* into v_sub
        from pgq.subscription s
        where s.sub_id = v_group.sub_id
          and s.sub_batch is not null
          and not s.sub_paused
          and pgq._age(s.sub_active) > i_dead_interval
        order by s.sub_active, s.sub_slot
        limit 1
        for update of s skip locked;
        if found then
            update pgq.subscription s
            set sub_batch = nextval('pgq.batch_id_seq'), sub_worker = i_worker, sub_active = now()
            where s.sub_queue = v_sub.sub_queue
              and s.sub_consumer = v_sub.sub_consumer
            returning s.* into v_sub;
        end if;
    end if;
    if not found then
        return;
    end if;

    batch_id := v_sub.sub_batch;
    slot := v_sub.sub_slot;
    cur_tick_id := v_sub.sub_next_tick;
    prev_tick_id := v_sub.sub_last_tick;
    select p.tick_time, p.tick_event_seq, n.tick_time, n.tick_event_seq
    into prev_tick_time, prev_tick_event_seq, cur_tick_time, cur_tick_event_seq
    from pgq.tick p, pgq.tick n
    where p.tick_queue = v_sub.sub_queue
      and p.tick_id = v_sub.sub_last_tick
      and n.tick_queue = v_sub.sub_queue
      and n.tick_id = v_sub.sub_next_tick;
    if not found then
        raise exception 'PgQ corruption: Consumer % on queue % does not see tick %', i_consumer_name || '#' || slot,
                i_queue_name, prev_tick_id
            using errcode = 'PGQ05', hint = 'Move it to a tick that exists with pgq.register_consumer_at().';
    end if;
end;
$$;

create or replace function pgq.touch_batch(x_batch_id bigint) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Tells that an open batch is still being worked on.
--
-- Returns: 1; 0 when it is not open: finished, or given to another worker.
-- Tables written: pgq.subscription
begin
    update pgq.subscription s set sub_active = now() where s.sub_batch = x_batch_id;
    return found::integer;
end;
$$;
