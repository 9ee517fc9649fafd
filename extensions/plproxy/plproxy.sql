-- The language plproxy, and the wrapper whose foreign servers are clusters.
-- The server calls validators by itself; nobody else needs to.

create function plproxy_call_handler() returns language_handler
as 'MODULE_PATHNAME', 'plproxy_call_handler'
language c;

create function plproxy_validator(oid) returns void
as 'MODULE_PATHNAME', 'plproxy_validator'
language c strict;

create function plproxy_fdw_validator(text[], oid) returns boolean
as 'MODULE_PATHNAME', 'plproxy_fdw_validator'
language c strict;

revoke execute on function plproxy_call_handler(), plproxy_validator(oid),
    plproxy_fdw_validator(text[], oid) from public;

create language plproxy handler plproxy_call_handler validator plproxy_validator;
comment on language plproxy is 'functions that run on the partitions of a cluster';

create foreign data wrapper plproxy validator plproxy_fdw_validator;
comment on foreign data wrapper plproxy is 'wrapper of servers that describe PL/Proxy clusters';
