-- How clusters are described: by functions, by foreign servers.
\set SHOW_CONTEXT never
create function whoami() returns setof text language plproxy as $$ cluster 'shop'; run on all; $$;
create function pids() returns setof int4 language plproxy as $$ cluster 'shop'; run on all; select pg_backend_pid(); $$;

-- no such cluster: what the version function says
select attempt('select whoami()');
insert into plproxy.cluster values ('shop', 1);
select attempt('select whoami()');
insert into plproxy.partition values ('shop', 0, connstr('plproxy_part0'));
select whoami();

-- nothing is looked at before the version changes
insert into plproxy.partition values ('shop', 1, connstr('plproxy_part1'));
select whoami();
create table before as select pids() as pid;
update plproxy.cluster set version = 2 where name = 'shop';
select whoami();
-- and a new version drops the connections, a lower one too
select count(*) from before join pids() p on p = pid;
update plproxy.cluster set version = 1 where name = 'shop';
select count(*) from whoami();
truncate before;
insert into before select pids();
select count(*) from before join pids() p on p = pid;
-- a change that cannot be loaded is an error as long as it lasts
insert into plproxy.config values ('shop', 'modular_maping', '1');
update plproxy.cluster set version = 3 where name = 'shop';
select attempt('select whoami()');
select attempt('select whoami()');
update plproxy.config set key = 'MODULAR_mapping';
select whoami();
update plproxy.cluster set version = null where name = 'shop';
select attempt('select whoami()');
update plproxy.cluster set version = 4 where name = 'shop';
update plproxy.partition set connstr = null where name = 'shop' and number = 0;
select attempt('select whoami()');
update plproxy.partition set connstr = connstr('plproxy_part0') where name = 'shop' and number = 0;

-- every setting, good and bad
create function try_setting(i_key text, i_val text) returns setof text language plpgsql as $$
begin
    delete from plproxy.config where name = 'shop';
    insert into plproxy.config values ('shop', i_key, i_val);
    update plproxy.cluster set version = version + 1 where name = 'shop';
    return query select attempt('select count(*) from whoami()');
end;
$$;
select k, v, try_setting(k, v) from (values
    ('connection_lifetime', '3600'), ('query_timeout', '9'), ('connect_timeout', '5'), ('modular_mapping', '0'),
    ('disable_binary', '1'), ('keepalive_idle', '60'), ('keepalive_interval', '10'), ('keepalive_count', '3'),
    ('statement_timeout', '5'), ('default_user', 'Current_User'), ('query_timeout', null), ('query_timeout', ''),
    ('query_timeout', '1.5'), ('query_timeout', '-1'), ('query_timeout', '99999999999999999999'), ('query_timeout', 's'),
    ('query_timeout', '99999999999'), ('query_timeout', '5 s'), ('connect_timeout', '2500MS'), ('keepalive_idle', '1min'),
    ('statement_timeout', '1h'), ('connection_lifetime', '2d'), ('keepalive_count', '1s'),
    ('failover', 'on'), ('failover', 'perhaps'), ('read_only', 'off'), ('read_only', ''), ('modular_mapping', '2'),
    ('on_partition_error', 'Error'), ('on_partition_error', 'skip'), ('on_partition_error', 'off'),
    ('prepared_statements', 'auto'), ('prepared_statements', 'off'), ('prepared_statements', '1'), ('prepared_statements', 'x'),
    -- more than the kernel takes
    ('keepalive_idle', '36000'), ('keepalive_interval', '1d'), ('keepalive_count', '1000'),
    ('default_user', ''), ('default_user', 'postgres'), (null, '1'), ('keepalive', '1'), ('qery_timeout', null)) s(k, v);
\set SHOW_CONTEXT errors
select whoami();
\set SHOW_CONTEXT never
delete from plproxy.config where name = 'shop';
update plproxy.cluster set version = version + 1 where name = 'shop';

-- a cluster that changes while a call runs on it: the call goes on where it began,
-- and nothing of that stays open
create function moves() returns int4 language plpgsql as $$
begin
    update plproxy.partition set connstr = connstr('plproxy_part3') where name = 'shop' and number = 0;
    update plproxy.cluster set version = version + 1 where name = 'shop';
    perform whoami();
    return 0;
end;
$$;
create function moving() returns text language plproxy as $$ cluster 'shop'; run on moves(); select current_database()::text; $$;
select moving();
select partition, dbname from plproxy_connections where cluster = 'shop' order by 1;
update plproxy.partition set connstr = connstr('plproxy_part0') where name = 'shop' and number = 0;
update plproxy.cluster set version = version + 1 where name = 'shop';
select count(*) from whoami();
drop function moving, moves;

-- what is known of places goes with them
create function move_often() returns void language plpgsql as $$
begin
    for i in 1 .. 30 loop
        update plproxy.partition set connstr = connstr('plproxy_part0') || repeat(' ', 20000 + i) where name = 'shop' and number = 0;
        update plproxy.cluster set version = version + 1 where name = 'shop';
        perform whoami();
    end loop;
end;
$$;
select move_often();
select total_bytes < 200000 from pg_backend_memory_contexts where name = 'PL/Proxy connections';
update plproxy.partition set connstr = connstr('plproxy_part0') where name = 'shop' and number = 0;
update plproxy.cluster set version = version + 1 where name = 'shop';
drop function move_often;

-- the settings reach the connection
select try_setting('connection_lifetime', '0');
truncate before;
insert into before select pids();
select count(*) from before join pids() p on p = pid;

-- a foreign server of the name comes first
create server shop foreign data wrapper plproxy options (p0 'dbname=x');
\set VERBOSITY sqlstate
select whoami();
\set VERBOSITY default
create user mapping for public server shop;
do $$ begin execute format('alter server shop options (set p0 %L, add p1 %L)', connstr('plproxy_part2'), connstr('plproxy_part3')); end $$;
select whoami();
drop server shop cascade;
select whoami();
-- but not one of another wrapper
create foreign data wrapper other;
create server shop foreign data wrapper other;
select whoami();
drop foreign data wrapper other cascade;
-- unless it was made with our validator, for defaults of its own
create foreign data wrapper other validator plproxy_fdw_validator options (modular_mapping '1');
do $$ begin execute format('create server shop foreign data wrapper other options (p0 %L)', connstr('plproxy_part3')); end $$;
create user mapping for public server shop;
select whoami();
alter foreign data wrapper other no validator;
select whoami();
drop foreign data wrapper other cascade;

-- what servers, wrappers and mappings may have
create server bad foreign data wrapper plproxy;
create server bad foreign data wrapper plproxy options (p0 '', p2 '');
create server bad foreign data wrapper plproxy options (p0 '', partition_0 '');
create server bad foreign data wrapper plproxy options (p0 '', p00001 '', partition_2 '');
drop server bad;
create server bad foreign data wrapper plproxy options (p0 '', p4294967297 '');
create server bad foreign data wrapper plproxy options (p0 '', query_timeout 'x');
create server bad foreign data wrapper plproxy options (p0 '', port '1');
create server bad foreign data wrapper plproxy options (p0 '', query_timeout '5', default_user 'session_user');
create user mapping for public server bad options (host 'x');
create user mapping for public server bad options (user 'x', "USER" 'y');
alter server bad options (add "Query_Timeout" '6');
alter server bad options (add user 'x');
alter server bad options (add host 'x');
create foreign table t (a int4) server bad options (a 'b');
create foreign table t (a int4) server bad;
select * from t;
drop server bad cascade;
alter foreign data wrapper plproxy options (add p0 'x');
alter foreign data wrapper plproxy options (add nonsense 'x');
alter foreign data wrapper plproxy options (add password 'x');
select plproxy_fdw_validator('{p0}'::text[], 'pg_foreign_server'::regclass);

-- thousands of partitions, half of them in the same place, and many slots
do $$
begin
    execute format('create server huge foreign data wrapper plproxy options (%s)', (
        select string_agg(format('p%s %L', i, connstr('plproxy_part' || i % 4) || case when i % 2 = 1 then ' application_name=' || i else '' end), ', ')
        from generate_series(0, 4095) i));
end;
$$;
create user mapping for public server huge;
create function huge(i_hash int4) returns text language plproxy as $$
    cluster 'huge'; run on i_hash; select current_database() || ' ' || current_setting('application_name');
$$;
create function huge_few() returns setof text language plproxy as $$
    cluster 'huge'; run on generate_series(0, 4095, 2); select current_database()::text;
$$;
select huge(4095), huge(4096 + 1), huge(-4096 + 3);
select huge_few() order by 1;
select count(*), count(distinct dbname) from plproxy_partitions('huge');
do $$
begin
    execute format('alter server huge options (add hash_ranges %L)', (
        select string_agg(i * 256 || '-' || i * 256 + 255, ',') from generate_series(0, 4095) i));
end;
$$;
select huge(255), huge(256), huge(-1);
select count(*), sum(slots) from plproxy_partitions('huge');
drop server huge cascade;
drop function huge, huge_few;

-- usage, mappings, changes of all of them count at once
do $$ begin execute format('create server shop foreign data wrapper plproxy options (p0 %L)', connstr('plproxy_part0')); end $$;
create role plproxy_shopper login;
create role plproxy_other login;
create function who() returns text language plproxy as $$ cluster 'shop'; select current_user::text; $$;
set role plproxy_shopper;
select attempt('select who()');
reset role;
grant usage on foreign server shop to plproxy_shopper;
set role plproxy_shopper;
\set VERBOSITY sqlstate
select who();
\set VERBOSITY default
reset role;
create user mapping for plproxy_shopper server shop;
set role plproxy_shopper;
select who();
reset role;
alter user mapping for plproxy_shopper server shop options (add user 'plproxy_other', add password 'not asked for');
set role plproxy_shopper;
select who();
reset role;
revoke usage on foreign server shop from plproxy_shopper;
set role plproxy_shopper;
select attempt('select who()');
reset role;
create user mapping for public server shop;
select who() = current_user;
-- defaults of the wrapper count, the server's come first
do $$ begin execute format('alter server shop options (add p1 %L, add p2 %L)', connstr('plproxy_part1'), connstr('plproxy_part2')); end $$;
select attempt('select whoami()');
alter foreign data wrapper plproxy options (add modular_mapping '1');
select whoami();
alter server shop options (add modular_mapping '0');
select attempt('select whoami()');
alter foreign data wrapper plproxy options (drop modular_mapping);
drop server shop cascade;
drop role plproxy_shopper, plproxy_other;

-- one of the functions is gone after it was used
alter function plproxy.get_cluster_config(text) rename to not_config;
update plproxy.cluster set version = version + 1 where name = 'shop';
select attempt('select whoami()');
alter function plproxy.not_config(text) rename to get_cluster_config;
alter function plproxy.get_cluster_partitions(text) rename to not_partitions;
select attempt('select whoami()');
alter function plproxy.not_partitions(text) rename to get_cluster_partitions;
select count(*) from whoami();

-- without the functions there are only servers
alter schema plproxy rename to not_plproxy;
\c -
\set SHOW_CONTEXT never
select attempt('select whoami()');
alter schema not_plproxy rename to plproxy;
select count(*) from whoami();

drop table before;
drop function whoami, pids, try_setting, who;
