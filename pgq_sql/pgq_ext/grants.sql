-- grants.sql: who may do what in pgq_ext. Positions change only through the
-- functions; whoever writes as pgq_writer may read the tables to look into them.

select pgq_ext.upgrade_schema();

grant usage on schema pgq_ext to public;

grant select on
    pgq_ext.completed_tick,
    pgq_ext.completed_batch,
    pgq_ext.completed_event,
    pgq_ext.partial_batch
    to pgq_writer;

revoke all on all functions in schema pgq_ext from public;
grant execute on all functions in schema pgq_ext to pgq_writer;
grant execute on function pgq_ext.version() to public;
