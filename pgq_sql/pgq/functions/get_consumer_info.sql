create or replace function pgq.get_consumer_info(
    in i_queue_name text,
    in i_consumer_name text,
    out queue_name text,
    out consumer_name text,
    out lag interval,
    out last_seen interval,
    out last_tick bigint,
    out current_batch bigint,
    out next_tick bigint,
    out pending_events bigint)
returns setof record
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Describes where consumers stand.
--
-- Parameters: i_queue_name, i_consumer_name - null for all.
-- Returns: a row a subscription, by queue and consumer: age of the last tick it
--     finished, time since it was last heard of, that tick, the open batch and
--     its end, and how many events its queue has counted since. What a damaged
--     queue cannot tell is null, with a warning.
declare
    v_sub record;
begin
    for v_sub in
        select q.queue_name, c.co_name, s.*, t.tick_time, t.tick_event_seq, n.tick_event_seq as newest_seq
        from pgq.subscription s
        join pgq.queue q on q.queue_id = s.sub_queue
        join pgq.consumer c on c.co_id = s.sub_consumer
        left join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
        left join lateral (
            select l.tick_event_seq
            from pgq.tick l
            where l.tick_queue = s.sub_queue
            order by l.tick_id desc
            limit 1) n on true
        where (i_queue_name is null or q.queue_name = i_queue_name)
          and (i_consumer_name is null or c.co_name = i_consumer_name)
        order by q.queue_name, c.co_name
    loop
        queue_name := v_sub.queue_name;
        consumer_name := v_sub.co_name;
        lag := null;
        last_seen := null;
        last_tick := v_sub.sub_last_tick;
        current_batch := v_sub.sub_batch;
        next_tick := v_sub.sub_next_tick;
        pending_events := null;
        begin
            last_seen := case when isfinite(v_sub.sub_active) then now() - v_sub.sub_active end;
            pending_events := v_sub.newest_seq - v_sub.tick_event_seq;
            if pending_events = -1 and v_sub.newest_seq = 0 then
                -- 3.5 has counted one before the first event.
                pending_events := 0;
            end if;
            lag := case when isfinite(v_sub.tick_time) then now() - v_sub.tick_time end;
        exception
            when others then
                raise warning 'consumer % on queue %: %', consumer_name, queue_name, sqlerrm using errcode = sqlstate;
        end;
        return next;
    end loop;
end;
$$;

create or replace function pgq.get_consumer_info(
    in i_queue_name text,
    out queue_name text,
    out consumer_name text,
    out lag interval,
    out last_seen interval,
    out last_tick bigint,
    out current_batch bigint,
    out next_tick bigint,
    out pending_events bigint)
returns setof record
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
    -- Describes all consumers of a queue.
    select * from pgq.get_consumer_info($1, null);
$$;

create or replace function pgq.get_consumer_info(
    out queue_name text,
    out consumer_name text,
    out lag interval,
    out last_seen interval,
    out last_tick bigint,
    out current_batch bigint,
    out next_tick bigint,
    out pending_events bigint)
returns setof record
language sql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
    -- Describes all consumers of all queues.
    select * from pgq.get_consumer_info(null, null);
$$;
