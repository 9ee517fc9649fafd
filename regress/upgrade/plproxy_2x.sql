-- A stand-in for the base script of PL/Proxy 2.x: its five members as they are in
-- the catalogs there, on our library.
create function plproxy_call_handler() returns language_handler as 'plproxy' language c;
create function plproxy_validator(oid) returns void as 'plproxy' language c;
create language plproxy handler plproxy_call_handler validator plproxy_validator;
create function plproxy_fdw_validator(text[], oid) returns boolean as 'plproxy' language c;
create foreign data wrapper plproxy validator plproxy_fdw_validator;
