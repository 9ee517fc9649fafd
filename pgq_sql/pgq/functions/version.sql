create or replace function pgq.version() returns text
language sql stable parallel safe
as $$
    -- Returns the version of the installed extension.
    select e.extversion from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) 'pgq';
$$;
