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
alter server med_other options (set p0 'dbname=x');
drop server med_other;
select med_pid() = :pid;

-- partitions that moved: what leads to where they were is closed by the next call,
-- whatever that calls
create function elsewhere() returns text language plproxy as $$ connect connstr('plproxy_part3'); select current_database()::text; $$;
do $$ begin execute format('alter server med options (add p1 %L)', connstr('plproxy_part1') || ' application_name=med'); end $$;
select med();
select partition, dbname from plproxy_connections where cluster = 'med' order by 1;
-- a change of somebody else
create server med_other foreign data wrapper plproxy options (p0 'host=x');
drop server med_other;
select elsewhere();
select partition, dbname from plproxy_connections where cluster = 'med' order by 1;
alter server med options (drop p1);
select elsewhere();
select partition, dbname from plproxy_connections where cluster = 'med' order by 1;
call wait_for(0);
select med_pid() as pid \gset
drop function elsewhere;

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
-- an empty name is none, not that of the server's operating system user
reset role;
alter user mapping for public server med options (add user '');
set role plproxy_med;
select med_user();
reset role;
alter user mapping for public server med options (drop user);
do $$ begin execute format('alter server med options (set p0 %L)', connstr('plproxy_part0') || ' user='''''); end $$;
set role plproxy_med;
select med_user();
reset role;
do $$ begin execute format('alter server med options (set p0 %L)', connstr('plproxy_part0')); end $$;
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

-- connect strings that libpq could not read are refused; what may be a password
-- is not repeated
create function try_string(i_string text) returns setof text language plpgsql as $$
begin
    execute format('create server try foreign data wrapper plproxy options (partition_0 %L)', i_string);
    drop server try;
    return next 'ok';
exception when others then
    return query select * from attempt(format('create server try foreign data wrapper plproxy options (partition_0 %L)', i_string));
end;
$$;
select s as string, try_string(s) from unnest(array[
    '', ' ', 'service=shop', 'dbname=x', 'dbname = ''x y''', 'host=a,b port=1,2 target_session_attrs=read-write',
    'postgresql://', 'postgres://u@h:5/d?connect_timeout=10', 'postgresql:///d?host=/tmp', 'options=''-c geqo=off''',
    'connect_timeout=5', 'connect_timeout=5s', 'connect_timeout=',
    'x', 'dbname', 'dbname=x y', 'dbname=''x', 'hots=x', 'host=x pasword=s3cret', 'sslmode=require Host=x',
    'host=x password=my s3cret', 'host=x password=my s3=cret', 'st=1 host=x password=my st=cret',
    'postgresql://u:100%@h/d', 'postgresql://u:pw@h/d?sslmod=require', 'postgresql://u:s/3?c=ret@h/d',
    'postgresql://h/d?user=u&password=hun&ter2=x', 'postgresql://h/d?%70assword=hun&t%65r2=x', 'postgresql://h/d?sslmod=x&password=s3',
    'postgresql://h/d?sslmode', 'postgresql://[::1/d', 'p0=host=x']) s;
do $$ begin execute format('create server try foreign data wrapper plproxy options (p0 %L)', connstr('plproxy_part0')); end $$;
alter server try options (add p1 'nonsense=1');
alter server try options (add p1 '');
alter server try options (set p1 'host=x sslmod=require');
drop server try;
-- but not by a restore, so that the rest of the server is there; calls tell which
-- partition is at fault
set check_function_bodies = off;
do $$ begin execute format('create server try foreign data wrapper plproxy options (p0 %L, p1 ''was moved'')', connstr('plproxy_part0')); end $$;
reset check_function_bodies;
create user mapping for public server try;
create function try(i_part int4) returns text language plproxy as $$ cluster 'try'; run on i_part; select current_database()::text; $$;
select try(0);
select attempt('select try(1)');
drop server try cascade;
-- the same with functions
insert into plproxy.cluster values ('try');
insert into plproxy.partition values ('try', 0, connstr('plproxy_part0')), ('try', 1, 'was moved');
select try(0);
select attempt('select try(1)');
delete from plproxy.cluster where name = 'try';
delete from plproxy.partition where name = 'try';
drop function try(int4), try_string;

-- the validator: nothing crashes it, nothing tells a password
create function validate(i_options text[], i_catalog oid default 'pg_foreign_server'::regclass) returns setof text language sql as $$
    select attempt(format('select public.plproxy_fdw_validator(%L, %s)', i_options, i_catalog));
$$;
select validate('{}');
select validate(null);
select validate('{NULL}');
select validate('{p0=dbname=a,NULL}');
select validate('{""}');
select validate('{=}');
select validate('{==}');
select validate('{p=a}');
select validate('{p0=dbname=a,p0=dbname=b}');
select validate('{p-1=a}');
select validate('{p0=password=secret,p2=password=secret}');
select validate('{{p0=dbname=a,p1=dbname=b},{p2=dbname=c,p3=dbname=d}}');
select validate('{{p0=dbname=a,p1=dbname=b},{p2=dbname=c,query_timeout=d}}');
select validate('{p0}');
select validate('{p0=dbname=a}', 0);
select validate('{p0=dbname=a}', 1);
select validate('{p0=dbname=a}', 4294967295);
select validate('{password=secret,user=u}', 'pg_user_mapping'::regclass);
select validate('{password=secret,use=u}', 'pg_user_mapping'::regclass);
select validate('{password=secret}');
select validate('{query_timeout=1}', 'pg_foreign_data_wrapper'::regclass);
select validate('[2:3]={p0=dbname=a,p1=dbname=b}');
select validate(array_agg('p' || i || '=dbname=' || repeat('x', 1000))) from generate_series(0, 9999) i;
select validate(array_agg('p' || i || '=dbname=x')) from generate_series(1, 9999) i;
select left(v, 60) from validate(array[repeat('x', 1000000) || '=1']) v limit 1;
select left(v, 60) from validate(array['hash_ranges=' || repeat('0+', 500000), 'p0=dbname=x']) v limit 1;
set role plproxy_med;
select attempt('select public.plproxy_fdw_validator(''{}'', 0)');
reset role;

drop server med cascade;
drop function med, med_user, med_pid, med_sleep, connections, first_user, validate;
drop procedure on_parts, wait_for;
drop owned by plproxy_med;
drop role plproxy_med, plproxy_med2;
