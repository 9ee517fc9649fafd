create or replace function pgq.version() returns text
language sql immutable parallel safe
as $$
    -- Returns the version that the script pgq_plonly.sql had.
    select '@VERSION@'::pg_catalog.text;
$$;
