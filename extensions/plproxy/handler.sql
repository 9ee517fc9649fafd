-- The functions behind the language and the wrapper. The server calls them by
-- itself; nobody else needs to.

create or replace function plproxy_call_handler() returns language_handler
as 'MODULE_PATHNAME', 'plproxy_call_handler'
language c;

create or replace function plproxy_validator(oid) returns void
as 'MODULE_PATHNAME', 'plproxy_validator'
language c strict;

create or replace function plproxy_fdw_validator(text[], oid) returns boolean
as 'MODULE_PATHNAME', 'plproxy_fdw_validator'
language c strict;

revoke execute on function plproxy_call_handler(), plproxy_validator(oid),
    plproxy_fdw_validator(text[], oid) from public;
