-- What a session's connections are, and what calls have cost.

create function plproxy_connections(
    out cluster text, out partition int4, out host text, out dbname text, out usename text, out port int4,
    out pid int4, out state text, out since timestamptz, out connected_at timestamptz, out prepared int4)
returns setof record
as 'MODULE_PATHNAME', 'plproxy_connections'
language c volatile parallel restricted;
comment on function plproxy_connections() is 'connections of this session to partitions, in no order';

create view plproxy_connections as
    select c.cluster, c.partition, c.host, c.port, c.dbname, c.usename, c.pid, c.state, c.since, c.connected_at, c.prepared
    from plproxy_connections() c;
comment on view plproxy_connections is 'connections of this session to partitions';

create function plproxy_stat_calls(
    out datid oid, out userid oid, out funcid oid, out cluster text, out partition int4,
    out calls int8, out errors int8, out canceled int8, out rows int8, out bytes int8,
    out total_time float8, out max_time float8, out stats_since timestamptz)
returns setof record
as 'MODULE_PATHNAME', 'plproxy_stat_calls'
language c volatile parallel restricted;
comment on function plproxy_stat_calls() is 'counts of calls that the current user may see, in no order';

-- a function is looked up in its own database only, and may be gone there
create view plproxy_stat_calls as
    select d.datname, u.rolname as usename, s.funcid,
        case when p.oid is not null then p.oid::pg_catalog.regprocedure::text end as function,
        s.cluster, s.partition, s.calls, s.errors, s.canceled, s.rows, s.bytes,
        s.total_time, s.max_time, s.stats_since
    from plproxy_stat_calls() s
    left join pg_catalog.pg_database d on d.oid = s.datid
    left join pg_catalog.pg_roles u on u.oid = s.userid
    left join pg_catalog.pg_proc p on p.oid = s.funcid and d.datname = pg_catalog.current_database();
comment on view plproxy_stat_calls is 'what calls of functions in language plproxy have cost';

create function plproxy_stat_reset() returns void
as 'MODULE_PATHNAME', 'plproxy_stat_reset'
language c volatile parallel restricted;
comment on function plproxy_stat_reset() is 'forgets all counts of plproxy_stat_calls';

revoke execute on function plproxy_stat_reset() from public;
grant select on plproxy_connections, plproxy_stat_calls to public;
