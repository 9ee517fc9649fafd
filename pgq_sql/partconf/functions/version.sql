create or replace function partconf.version() returns text
language sql stable parallel safe
as $$
-- Returns: the version of the extension, e.g. 4.0
    select e.extversion from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) 'partconf';
$$;
