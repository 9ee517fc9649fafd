-- A database as check_list() compares it with others.
create type partconf.info as (
    database        text,
    part_nr         integer,        -- null: not configured
    max_part        integer,
    db_code         integer,
    hash_function   text,           -- null: the default
    hash_problem    text,           -- null: the hash is what it was when it was configured
    probes          integer[],      -- what it was then; not configured: what the default is now
    encoding        text,
    fenced_at       timestamptz,
    fenced_by       text,
    set_at          timestamptz,
    server_version  text,
    version         text            -- of the extension
);

create or replace function partconf.get_info() returns partconf.info
language sql stable parallel safe security definer
set search_path = pg_catalog, pg_temp
as $$
-- Tells what this database is, also where nothing is configured.
--
-- Returns: one row.
-- Calls: _hash_problem, _probes
    select current_database()::text, c.part_nr, c.max_part, c.db_code, c.hash_function, partconf._hash_problem(),
           coalesce(c.probes, partconf._probes(null)), getdatabaseencoding()::text, c.fenced_at, c.fenced_by, c.set_at,
           current_setting('server_version'), partconf.version()
      from (select) one
      left join partconf.conf c on true;
$$;
