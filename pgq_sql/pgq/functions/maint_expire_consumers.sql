create or replace function pgq.maint_expire_consumers(i_queue_name text) returns integer
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Unregisters the forgotten consumers of a queue: those that were not heard of for
-- queue_consumer_expiry while a rotation that is due waits for them. Subconsumers
-- and slots go only when nobody of their group was heard of. Each one gives a
-- warning.
--
-- Returns: 0.
-- Calls: unregister_consumer
-- Tables written: pgq.subscription, retry_queue, consumer
-- Locks taken: the rows of the groups that go.
declare
    v_queue pgq.queue;
    v_group integer;
    v_name  text;
    v_names text[];
begin
    select q.* into v_queue
    from pgq.queue q
    where q.queue_name = i_queue_name
      and q.queue_consumer_expiry > '0'
      and q.queue_rotation_period is not null
      and q.queue_switch_step2 is not null
      and q.queue_rotation_period < pgq._age(q.queue_switch_time);
    if not found then
        return 0;
    end if;

    -- Who stands at the latest tick has nothing to read, whatever its age.
    for v_group in
        select distinct s.sub_id
        from pgq.subscription s
        left join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
        where s.sub_queue = v_queue.queue_id
          and pgq._age(s.sub_active) > v_queue.queue_consumer_expiry
          and s.sub_last_tick < (select max(l.tick_id) from pgq.tick l where l.tick_queue = v_queue.queue_id)
          and (t.tick_id is null or pg_catalog.txid_snapshot_xmin(t.tick_snapshot) <= v_queue.queue_switch_step2)
        order by s.sub_id
    loop
        perform 1 from pgq.subscription s where s.sub_id = v_group order by s.sub_consumer for update;
        select array_agg(c.co_name order by c.co_name) into v_names
        from pgq.subscription s
        join pgq.consumer c on c.co_id = s.sub_consumer
        where s.sub_id = v_group
        having pgq._age(max(s.sub_active)) > v_queue.queue_consumer_expiry;
        -- Unregistering one may take the others of its group along.
        foreach v_name in array coalesce(v_names, '{}') loop
            if pgq.unregister_consumer(i_queue_name, v_name) > 0 then
                raise warning 'consumer % on queue % was not heard of for %: unregistered',
                    v_name, i_queue_name, v_queue.queue_consumer_expiry;
            end if;
        end loop;
    end loop;
    return 0;
end;
$$;
