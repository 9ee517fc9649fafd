create or replace function pgq.pause_consumer(i_queue_name text, i_consumer_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets a consumer get no batches until it is resumed. A batch that it is working
-- on may be finished. Events wait for it, and rotation does.
--
-- Returns: 1 paused, 0 was so already.
-- Raises: PGQ02 consumer not registered.
-- Calls: _subscriptions
-- Tables written: pgq.subscription
begin
    update pgq.subscription s
    set sub_paused = true, sub_active = now()
    from pgq._subscriptions(i_queue_name, i_consumer_name) n
    where s.sub_queue = n.sub_queue
      and s.sub_consumer = n.sub_consumer
      and not s.sub_paused;
    return found::integer;
end;
$$;

create or replace function pgq.resume_consumer(i_queue_name text, i_consumer_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Ends the pause of a consumer: it goes on where it stands.
--
-- Returns: 1 resumed, 0 was not paused.
-- Raises: PGQ02 consumer not registered.
-- Calls: _subscriptions
-- Tables written: pgq.subscription
begin
    update pgq.subscription s
    set sub_paused = false, sub_active = now()
    from pgq._subscriptions(i_queue_name, i_consumer_name) n
    where s.sub_queue = n.sub_queue
      and s.sub_consumer = n.sub_consumer
      and s.sub_paused;
    return found::integer;
end;
$$;
