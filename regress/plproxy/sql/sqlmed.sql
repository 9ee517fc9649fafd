-- Foreign servers as clusters, changed while this session holds compiled
-- functions and open connections.
\set SHOW_CONTEXT never
create function med() returns setof text language plproxy as $$ cluster 'med'; run on all; target whoami; $$;
create function med_user() returns text language plproxy as $$ cluster 'med'; run on 0; select current_user::text; $$;
create function med_pid() returns int4 language plproxy as $$ cluster 'med'; run on 0; target pid; $$;
create procedure on_parts(i_format text, variadic i_parts int4[]) language plpgsql as $$
begin
    execute format(i_format, variadic array(select connstr('plproxy_part' || p) from unnest(i_parts) with ordinality u(p, n) order by n));
end;
$$;
-- the connections that this session has here, once what was closed is gone
create function connections() returns table (db text, role text) language plpgsql as $$
begin
    return query
        select datname::text, usename::text from pg_stat_activity
        where application_name = 'med' order by 1, 2;
end;
$$;
create procedure wait_for(i_n bigint) language plpgsql as $$
begin
    for i in 1 .. 600 loop
        perform pg_stat_clear_snapshot();
        exit when (select count(*) from connections()) = i_n;
        perform pg_sleep(0.1);
    end loop;
end;
$$;
create role plproxy_med login;
create role plproxy_med2 login;

-- both spellings, leading zeros, any order
call on_parts('create server med foreign data wrapper plproxy options (partition_2 %L, "P0" %L, p003 %L, "Partition_01" %L)', 2, 0, 3, 1);
create user mapping for public server med;
select med();

-- ALTER SERVER: options, then gaps that are refused
call on_parts('alter server med options (set p003 %L)', 0);
select med();
alter server med options (drop "P0");
alter server med options (drop p003, drop partition_2);
select med();
-- equal partitions are asked once
call on_parts('alter server med options (set "Partition_01" %L)', 0);
select med();
call on_parts('alter server med options (set "Partition_01" %L, add p2 %L)', 1, 2);
select attempt('select med()');

-- the wrapper's options are defaults
alter foreign data wrapper plproxy options (add modular_mapping 'on');
select med();
alter foreign data wrapper plproxy options (add query_timeout '100ms');
create function med_sleep() returns void language plproxy as $$ cluster 'med'; run on 0; select pg_sleep(5); $$;
select med_sleep();
alter server med options (add query_timeout '200 ms');
select med_sleep();
alter foreign data wrapper plproxy options (set query_timeout '300');
select med_sleep();
alter server med options (drop query_timeout);
alter foreign data wrapper plproxy options (set query_timeout '50ms');
select med_sleep();
alter foreign data wrapper plproxy options (drop query_timeout);
alter foreign data wrapper plproxy options (drop modular_mapping);
select attempt('select med()');
alter server med options (drop p2);
select med();

-- ALTER USER MAPPING: the next call connects with what stands there, and what
-- was opened with the old one is closed
drop server med cascade;
do $$ begin execute format('create server med foreign data wrapper plproxy options (p0 %L)', connstr('plproxy_part0') || ' application_name=med'); end $$;
create user mapping for public server med options (user 'plproxy_med');
select med_user();
call wait_for(1);
select * from connections();
alter user mapping for public server med options (set user 'plproxy_med2');
select med_user();
call wait_for(1);
select * from connections();
-- one of its own comes first, in any case of the option's name
do $$ begin execute format('create user mapping for %I server med options ("USER" ''plproxy_med'', "Password" ''x'')', current_user); end $$;
select med_user();
drop user mapping for current_user server med;
select med_user();
drop user mapping for public server med;
\set VERBOSITY sqlstate
select med_user();
\set VERBOSITY default
call wait_for(0);
select * from connections();
create user mapping for public server med;
select med_user() = current_user;

-- the mapping of one role is no business of another's connections
select med_pid() as pid \gset
create user mapping for plproxy_med server med;
alter user mapping for plproxy_med server med options (add password 'x');
select med_pid() = :pid;
-- nor is another server's
create server med_other foreign data wrapper plproxy options (p0 '');
alter server med_other options (set p0 'x');
drop server med_other;
select med_pid() = :pid;

-- RENAME: the old name is gone, and so is what the session had for it
alter server med rename to med_new;
select attempt('select med_pid()');
call wait_for(0);
select * from connections();
alter server med_new rename to med;
select med_pid() <> :pid;
-- another server of the same name
alter server med rename to med_old;
call on_parts('create server med foreign data wrapper plproxy options (p0 %L)', 1);
create user mapping for public server med;
select med();

-- DROP: the functions are asked again, until there is a server again
insert into plproxy.cluster values ('med');
insert into plproxy.partition values ('med', 0, connstr('plproxy_part3'));
select med();
drop server med cascade;
select med();
alter server med_old rename to med;
select med();
drop server med cascade;
select med();
call wait_for(0);
select * from connections();
-- in a transaction that is rolled back
begin;
call on_parts('create server med foreign data wrapper plproxy options (p0 %L)', 1);
create user mapping for public server med;
select med();
rollback;
select med();
delete from plproxy.cluster where name = 'med';
delete from plproxy.partition where name = 'med';

-- USAGE, asked of the role that connects
call on_parts('create server med foreign data wrapper plproxy options (p0 %L)', 0);
create user mapping for public server med;
set role plproxy_med;
select attempt('select med_user()');
reset role;
grant usage on foreign server med to public;
set role plproxy_med;
select med_user();
reset role;
revoke usage on foreign server med from public;
set role plproxy_med;
select attempt('select med_user()');
reset role;
-- with session_user it is the session's, from the first call on
\c -
\set SHOW_CONTEXT never
alter server med options (add default_user 'session_user');
set role plproxy_med;
select med_user() = session_user;
reset role;
alter server med options (set default_user 'current_user');
set role plproxy_med;
select attempt('select med_user()');
reset role;

-- the same with functions: a new session's first call
insert into plproxy.cluster values ('first');
insert into plproxy.partition values ('first', 0, connstr('plproxy_part0'));
insert into plproxy.config values ('first', 'default_user', 'session_user');
create function first_user() returns text language plproxy as $$ cluster 'first'; select current_user::text; $$;
grant usage on schema plproxy to plproxy_med;
grant select on all tables in schema plproxy to plproxy_med;
\c -
set role plproxy_med;
select first_user() = session_user;
reset role;
delete from plproxy.cluster where name = 'first';
delete from plproxy.partition where name = 'first';
delete from plproxy.config where name = 'first';

-- the validator: nothing crashes it, nothing tells a password
create function validate(i_options text[], i_catalog oid default 'pg_foreign_server'::regclass) returns setof text language sql as $$
    select attempt(format('select public.plproxy_fdw_validator(%L, %s)', i_options, i_catalog));
$$;
select validate('{}');
select validate(null);
select validate('{NULL}');
select validate('{p0=a,NULL}');
select validate('{""}');
select validate('{=}');
select validate('{==}');
select validate('{p=a}');
select validate('{p0=a,p0=b}');
select validate('{p-1=a}');
select validate('{p0=password=secret,p2=password=secret}');
select validate('{{p0=a,p1=b},{p2=c,p3=d}}');
select validate('{{p0=a,p1=b},{p2=c,query_timeout=d}}');
select validate('{p0}');
select validate('{p0=a}', 0);
select validate('{p0=a}', 1);
select validate('{p0=a}', 4294967295);
select validate('{password=secret,user=u}', 'pg_user_mapping'::regclass);
select validate('{password=secret,use=u}', 'pg_user_mapping'::regclass);
select validate('{password=secret}');
select validate('{query_timeout=1}', 'pg_foreign_data_wrapper'::regclass);
select validate('[2:3]={p0=a,p1=b}');
select validate(array_agg('p' || i || '=' || repeat('x', 1000))) from generate_series(0, 9999) i;
select validate(array_agg('p' || i || '=x')) from generate_series(1, 9999) i;
select left(v, 60) from validate(array[repeat('x', 1000000) || '=1']) v limit 1;
select left(v, 60) from validate(array['hash_ranges=' || repeat('0+', 500000), 'p0=x']) v limit 1;
set role plproxy_med;
select attempt('select public.plproxy_fdw_validator(''{}'', 0)');
reset role;

drop server med cascade;
drop function med, med_user, med_pid, med_sleep, connections, first_user, validate;
drop procedure on_parts, wait_for;
drop owned by plproxy_med;
drop role plproxy_med, plproxy_med2;
