create or replace function pgq._subscriptions(i_queue_name text, i_consumer_name text)
returns setof pgq.subscription
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Finds what a consumer's name means: its subscription, or for CONSUMER those of
-- its slots CONSUMER#0, CONSUMER#1 ...
--
-- Returns: the rows, by slot; at least one.
-- Raises: PGQ02 consumer not registered.
begin
    return query
        select s.*
        from pgq.subscription s
        join pgq.queue q on q.queue_id = s.sub_queue
        join pgq.consumer c on c.co_id = s.sub_consumer
        where q.queue_name = i_queue_name
          and (c.co_name = i_consumer_name or c.co_name = i_consumer_name || '#' || s.sub_slot)
        order by s.sub_slot;
    if not found then
        raise exception 'Not subscriber to queue: %/%', coalesce(i_queue_name, 'NULL'),
                coalesce(i_consumer_name, 'NULL')
            using errcode = 'PGQ02', hint = 'Register it with pgq.register_consumer().';
    end if;
end;
$$;

create or replace function pgq.set_consumer_config(
    i_queue_name text,
    i_consumer_name text,
    i_param_name text,
    i_param_value text)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Changes one setting of a consumer on a queue.
--
-- Parameters: i_queue_name; i_consumer_name - a main consumer means its
--     subconsumers, too, for retries; i_param_name - max_retries, retry_delay,
--     retry_max_delay or paused; i_param_value - as text; null sets the first two
--     to none.
-- Returns: 1.
-- Raises: 22004 null parameter; PGQ02 consumer not registered; 22023 no such
--     setting, or a negative value; what the cast raises for a value of the wrong
--     type.
-- Calls: _subscriptions, pause_consumer, resume_consumer
-- Tables written: pgq.subscription
declare
    v_allowed text[] := array['max_retries', 'retry_delay', 'retry_max_delay', 'paused'];
    v_sub pgq.subscription;
    v_main boolean;
    v_bad boolean;
begin
    if i_param_name is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The name of the setting is NULL.';
    end if;
    if not i_param_name = any (v_allowed) then
        raise exception 'cannot change parameter "%"', i_param_name
            using errcode = '22023', hint = format('It can change: %s.', array_to_string(v_allowed, ', '));
    end if;
    if i_param_value is null and i_param_name in ('retry_max_delay', 'paused') then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = format('The value for %s is NULL.', i_param_name);
    end if;

    if i_param_name = 'paused' then
        if i_param_value::boolean then
            perform pgq.pause_consumer(i_queue_name, i_consumer_name);
        else
            perform pgq.resume_consumer(i_queue_name, i_consumer_name);
        end if;
        return 1;
    end if;

    v_bad := case when i_param_name = 'max_retries' then i_param_value::integer < 0
                  else i_param_value::interval < '0' end;
    if v_bad then
        raise exception 'invalid value for parameter "%": "%"', i_param_name, i_param_value
            using errcode = '22023', detail = format('Consumer "%s" keeps the value it has.', i_consumer_name);
    end if;
    for v_sub in select s.* from pgq._subscriptions(i_queue_name, i_consumer_name) s loop
        -- Of a group, the main one has a position but never a batch of its own.
        v_main := v_sub.sub_slot is null and v_sub.sub_last_tick is not null and v_sub.sub_next_tick is null;
        update pgq.subscription s
        set sub_max_retries = case when i_param_name = 'max_retries' then i_param_value::integer
                                   else s.sub_max_retries end,
            sub_retry_delay = case when i_param_name = 'retry_delay' then i_param_value::interval
                                   else s.sub_retry_delay end,
            sub_retry_max_delay = case when i_param_name = 'retry_max_delay' then i_param_value::interval
                                       else s.sub_retry_max_delay end
        where s.sub_queue = v_sub.sub_queue
          and (s.sub_consumer = v_sub.sub_consumer or v_main and s.sub_id = v_sub.sub_id);
    end loop;
    return 1;
end;
$$;
