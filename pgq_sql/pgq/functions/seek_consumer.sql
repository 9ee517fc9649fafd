create or replace function pgq._tick_at(i_queue_id integer, i_time timestamptz) returns bigint
language plpgsql volatile parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Finds the tick to read from in order to get everything that came after a time.
-- That is the one before the first later tick, also where the clock was set back
-- in between.
--
-- Returns: tick id, null if the queue keeps no tick that old.
declare
    v_later bigint;
begin
    select min(t.tick_id) into v_later
    from pgq.tick t
    where t.tick_queue = i_queue_id
      and t.tick_time > i_time;
    return (select max(t.tick_id)
            from pgq.tick t
            where t.tick_queue = i_queue_id
              and (v_later is null or t.tick_id < v_later));
end;
$$;

create or replace function pgq._tick_at(i_queue_id integer, i_age interval) returns bigint
language plpgsql volatile parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- The same for an age. Ages are compared, since an absurd one cannot be
-- subtracted; a month has thirty days here.
--
-- Returns: tick id, null if the queue keeps no tick that old.
declare
    v_later bigint;
begin
    select min(t.tick_id) into v_later
    from pgq.tick t
    where t.tick_queue = i_queue_id
      and pgq._age(t.tick_time) < i_age;
    return (select max(t.tick_id)
            from pgq.tick t
            where t.tick_queue = i_queue_id
              and (v_later is null or t.tick_id < v_later));
end;
$$;

create or replace function pgq.seek_consumer(i_queue_name text, i_consumer_name text, i_time timestamptz)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Moves a consumer to where its queue was at a time: it gets what came later, be
-- it again. Its open batch is forgotten, what it has put aside is not.
--
-- Parameters: i_queue_name; i_consumer_name; i_time - in the future: skips all
--     there is.
-- Returns: id of the tick that it stands at, the latest one not later than i_time.
-- Raises: 22004 null time; PGQ02 consumer not registered; PGQ05 the queue does not
--     keep anything that old; 22023 it is a subconsumer.
-- Calls: _subscriptions, _tick_at
-- Tables written: pgq.subscription
-- Locks taken: the queue's row for share: rotation, which drops ticks, waits.
declare
    v_sub pgq.subscription;
    v_tick bigint;
begin
    if i_time is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The time is NULL.';
    end if;
    perform 1 from pgq.queue q where q.queue_name = i_queue_name for share;
    for v_sub in select s.* from pgq._subscriptions(i_queue_name, i_consumer_name) s loop
        if v_sub.sub_slot is null
           and (v_sub.sub_last_tick is null) = (v_sub.sub_next_tick is null)
           and exists (select 1
                       from pgq.subscription g
                       where g.sub_id = v_sub.sub_id
                         and g.sub_consumer <> v_sub.sub_consumer)
        then
            raise exception 'consumer % on queue % is a subconsumer', i_consumer_name, i_queue_name
                using errcode = '22023', hint = 'Move its main consumer.';
        end if;
        v_tick := coalesce(v_tick, pgq._tick_at(v_sub.sub_queue, i_time));
        if v_tick is null then
            raise exception 'tick not found: queue % keeps none as old as %', i_queue_name, i_time
                using errcode = 'PGQ05',
                      detail = format('The oldest is of %s.',
                                      (select min(t.tick_time) from pgq.tick t where t.tick_queue = v_sub.sub_queue)),
                      hint = 'Set retention with pgq.set_queue_config() to keep events for longer.';
        end if;
        update pgq.subscription s
        set sub_last_tick = v_tick, sub_next_tick = null, sub_batch = null, sub_worker = null, sub_active = now()
        where s.sub_queue = v_sub.sub_queue
          and s.sub_consumer = v_sub.sub_consumer;
    end loop;
    return v_tick;
end;
$$;
