-- The language, and comments on it and the wrapper.

create or replace language plproxy handler plproxy_call_handler validator plproxy_validator;

comment on language plproxy is 'functions that run on the partitions of a cluster';
comment on foreign data wrapper plproxy is 'wrapper of servers that describe PL/Proxy clusters';
