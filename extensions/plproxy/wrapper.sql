-- The wrapper whose foreign servers are clusters.

create foreign data wrapper plproxy validator plproxy_fdw_validator;
