create or replace function partconf._conf_for_update() returns partconf.conf
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
-- Gives the row as it is, whatever an old snapshot shows, and keeps others from changing it.
--
-- Raises: PX004 not configured; 40001 under REPEATABLE READ, if somebody has changed it.
-- Locks taken: the row of partconf.conf, for update.
declare
    v_conf partconf.conf;
begin
    select c.*
      into v_conf
      from partconf.conf c
       for update;
    if not found then
        raise exception 'partconf is not configured in database "%"', current_database()
            using errcode = 'PX004', hint = 'Call partconf.set_conf(part_nr, max_part, db_code) first.';
    end if;
    return v_conf;
end;
$$;
