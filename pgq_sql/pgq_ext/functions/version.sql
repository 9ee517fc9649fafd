create or replace function pgq_ext.version()
returns text as $$
-- ----------------------------------------------------------------------
-- Returns:
--      the version of the extension, e.g. 4.0
-- ----------------------------------------------------------------------
    select e.extversion from pg_catalog.pg_extension e where e.extname operator(pg_catalog.=) 'pgq_ext';
$$ language sql stable parallel safe;
