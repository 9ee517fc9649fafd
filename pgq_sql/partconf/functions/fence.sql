create or replace function partconf.fence(i_timeout interval default '5 seconds') returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
-- Stops writes: when it returns, every transaction that has passed check_hash() or one of
-- the triggers has ended, and every later one gets PX002, as soon as ours is committed;
-- until then it waits. While we wait for the earlier ones, later ones wait too.
--
-- Parameters: i_timeout - how long to wait for them at most.
-- Returns: true; false if there was a fence already.
-- Raises: 55P03 somebody was still writing: the detail tells who, nothing is changed; PX004
--      not configured; 22004, 22023 timeouts that make no sense; 40001 under REPEATABLE READ,
--      if somebody has changed the configuration.
-- Calls: _lock_conf, _conf_for_update
-- Tables written: partconf.conf
-- Locks taken: as _lock_conf
begin
    perform partconf._lock_conf(i_timeout);
    if (partconf._conf_for_update()).fenced_at is not null then
        return false;
    end if;
    -- It must not be forgotten in a crash once we have said that it is there.
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'local', true);
    end if;
    update partconf.conf
       set fenced_at = clock_timestamp(), fenced_by = session_user;
    return true;
end;
$$;

create or replace function partconf.unfence() returns boolean
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
-- Lets everybody write again, as soon as it is committed.
--
-- Returns: true; false if there was no fence.
-- Raises: PX004 not configured; 40001 under REPEATABLE READ, if somebody has changed the
--      configuration.
-- Calls: _conf_for_update
-- Tables written: partconf.conf
begin
    if (partconf._conf_for_update()).fenced_at is null then
        return false;
    end if;
    update partconf.conf
       set fenced_at = null, fenced_by = null;
    return true;
end;
$$;
