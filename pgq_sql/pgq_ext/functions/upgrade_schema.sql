create or replace function pgq_ext.upgrade_schema()
returns integer as $$
-- ----------------------------------------------------------------------
-- Makes what the schema needs outside of itself, where it is missing: the role
-- pgq_writer, which a dump of this database alone does not bring along.
--
-- Returns:
--      the number of changes made
-- ----------------------------------------------------------------------
declare
    v_changes   integer := 0;
begin
    if not exists (select from pg_catalog.pg_roles r where r.rolname = 'pgq_writer') then
        begin
            create role pgq_writer nologin;
            v_changes := v_changes + 1;
        exception
            -- roles are the cluster's: another database's install was faster
            when duplicate_object or unique_violation then
                null;
        end;
    end if;
    return v_changes;
end;
$$ language plpgsql set search_path = pg_catalog, pg_temp;
