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
language plpgsql stable parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Describes where consumers stand.
--
-- Parameters: i_queue_name, i_consumer_name - null for all.
-- Returns: a row a subscription, by queue and consumer: age of the last tick it
--     finished, time since it was last heard of, that tick, the open batch and
--     its end, and how many events its queue has counted since.
begin
    return query
        select q.queue_name, c.co_name, now() - t.tick_time, now() - s.sub_active, s.sub_last_tick, s.sub_batch,
               s.sub_next_tick, n.tick_event_seq - t.tick_event_seq
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
        order by q.queue_name, c.co_name;
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
language sql stable parallel unsafe security definer
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
language sql stable parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
    -- Describes all consumers of all queues.
    select * from pgq.get_consumer_info(null, null);
$$;
