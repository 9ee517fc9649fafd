create or replace function pgq.get_queue_info(
    in i_queue_name text,
    out queue_name text,
    out queue_ntables integer,
    out queue_cur_table integer,
    out queue_rotation_period interval,
    out queue_switch_time timestamptz,
    out queue_external_ticker boolean,
    out queue_ticker_paused boolean,
    out queue_ticker_max_count integer,
    out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval,
    out ticker_lag interval,
    out ev_per_sec float8,
    out ev_new bigint,
    out last_tick_id bigint)
returns setof record
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Describes a queue, or all of them.
--
-- Parameters: i_queue_name - null for all.
-- Returns: a row a queue, by name: its settings; age and id of its last tick;
--     events a second over the last twenty ticks (null if no time passed);
--     events inserted since the last tick, committed or not. What a damaged
--     queue cannot tell is null, with a warning.
-- Calls: _event_count
declare
    v_queue pgq.queue;
    v_time  timestamptz;
    v_seq   bigint;
begin
    for v_queue in
        select q.*
        from pgq.queue q
        where i_queue_name is null or q.queue_name = i_queue_name
        order by q.queue_name
    loop
        queue_name := v_queue.queue_name;
        queue_ntables := v_queue.queue_ntables;
        queue_cur_table := v_queue.queue_cur_table;
        queue_rotation_period := v_queue.queue_rotation_period;
        queue_switch_time := v_queue.queue_switch_time;
        queue_external_ticker := v_queue.queue_external_ticker;
        queue_ticker_paused := v_queue.queue_ticker_paused;
        queue_ticker_max_count := v_queue.queue_ticker_max_count;
        queue_ticker_max_lag := v_queue.queue_ticker_max_lag;
        queue_ticker_idle_period := v_queue.queue_ticker_idle_period;
        ticker_lag := null;
        ev_per_sec := null;
        ev_new := null;
        select t.tick_id, t.tick_time, t.tick_event_seq into last_tick_id, v_time, v_seq
        from pgq.tick t
        where t.tick_queue = v_queue.queue_id
        order by t.tick_id desc
        limit 1;
        begin
            ticker_lag := case when pg_catalog.isfinite(v_time) then pg_catalog.now() - v_time end;
            select (v_seq - t.tick_event_seq) / nullif(case when pg_catalog.isfinite(v_time) and pg_catalog.isfinite(t.tick_time)
                                                         then extract(epoch from v_time - t.tick_time)::float8 end, 0)
            into ev_per_sec
            from pgq.tick t
            where t.tick_queue = v_queue.queue_id
              and t.tick_id >= last_tick_id - 20
            order by t.tick_id
            limit 1;
            ev_new := pgq._event_count(v_queue) - v_seq;
            if ev_new = -1 and v_seq = 1 then
                -- 3.5 has counted one before the first event.
                ev_new := 0;
            end if;
        exception
            when others then
                raise warning 'queue %: %', v_queue.queue_name, sqlerrm using errcode = sqlstate;
        end;
        return next;
    end loop;
end;
$$;

create or replace function pgq.get_queue_info(
    out queue_name text,
    out queue_ntables integer,
    out queue_cur_table integer,
    out queue_rotation_period interval,
    out queue_switch_time timestamptz,
    out queue_external_ticker boolean,
    out queue_ticker_paused boolean,
    out queue_ticker_max_count integer,
    out queue_ticker_max_lag interval,
    out queue_ticker_idle_period interval,
    out ticker_lag interval,
    out ev_per_sec float8,
    out ev_new bigint,
    out last_tick_id bigint)
returns setof record
language sql volatile parallel unsafe
as $$
    -- Describes all queues.
    select * from pgq.get_queue_info(null);
$$;
