-- check_list(): do these databases make up the cluster that the proxy believes in?
\set SHOW_CONTEXT never
\pset null NULL
set client_min_messages = notice;
create function info(i_part integer, i_max integer, i_code integer) returns partconf.info language sql as $$
    select ('db' || i_part, i_part, i_max, i_code, null, null, (partconf.get_info()).probes, 'UTF8', null, null, now(), '15.0', '4.0')::partconf.info
$$;
select partconf.check_list(array[info(0, 0, 1)]);
select partconf.check_list(array[info(0, 3, 1), info(1, 3, 2), info(2, 3, 3), info(3, 3, 4)]);
-- nothing
select partconf.check_list(null);
\echo :SQLSTATE
select partconf.check_list('{}');
-- number, order, twice and missing
select partconf.check_list(array[info(0, 1, 1), info(1, 1, 2), info(2, 1, 3)]);
\echo :SQLSTATE
select partconf.check_list(array[info(1, 1, 1), info(0, 1, 2)]);
select partconf.check_list(array[info(0, 3, 1), info(1, 3, 2), info(1, 3, 3), info(3, 3, 4)]);
-- max_part
select partconf.check_list(array[info(0, 1, 1), info(1, 3, 2)]);
select partconf.check_list(array[info(0, 3, 1), info(1, 3, 2)]);
-- db_code
select partconf.check_list(array[info(0, 3, 1), info(1, 3, 2), info(2, 3, 1), info(3, 3, 2)]);
-- not configured, an entry that is NULL
select partconf.check_list(array[info(0, 1, 1), info(null, null, null)]);
select partconf.check_list(array[null::partconf.info]);
-- hash: function, encoding, values, a problem
create table infos as select (info(n, 3, n)).* from generate_series(0, 3) n;
update infos set hash_function = 'public.my_hash(text)' where part_nr = 2;
update infos set probes[1] = 3, server_version = '19.0' where part_nr = 1;
update infos set encoding = 'LATIN1', probes = probes[1:1] where part_nr = 3;
select partconf.check_list(array(select i::text::partconf.info from infos i order by part_nr));
update infos set hash_function = 'public.my_hash(text)', encoding = 'UTF8', probes = (partconf.get_info()).probes, hash_problem = 'Key "a" is different.';
select partconf.check_list(array(select i::text::partconf.info from infos i order by part_nr));
-- a fence is no error
update infos set hash_problem = null, fenced_at = '2026-01-01 12:00+00', fenced_by = 'operator' where part_nr = 2;
update infos set hash_problem = null, hash_function = null;
set timezone = 'UTC';
set datestyle = 'ISO';
select partconf.check_list(array(select i::text::partconf.info from infos i order by part_nr));
-- whatever the bounds of the array are
select partconf.check_list(('[5:6]=' || array[info(0, 1, 1), info(1, 1, 2)]::text)::partconf.info[]);
drop table infos;
drop function info(integer, integer, integer);

-- from a proxy: two partitions, a list of them by PL/Proxy
set client_min_messages = warning;
drop database if exists partconf_part0 with (force);
drop database if exists partconf_part1 with (force);
create database partconf_part0;
create database partconf_part1;
select current_database() as suite \gset
\c partconf_part0
create extension partconf;
select partconf.set_conf(0, 1, 10);
create function whoami(i_key text) returns text language sql as $$ select current_database()::text from partconf.check_hash(i_key) $$;
\c partconf_part1
create extension partconf;
select partconf.set_conf(1, 1, 11);
create function whoami(i_key text) returns text language sql as $$ select current_database()::text from partconf.check_hash(i_key) $$;
\c :suite
set client_min_messages = warning;
create extension plproxy;
create schema plproxy;
create function plproxy.get_cluster_version(text) returns integer language sql as $$ select 1 $$;
create function plproxy.get_cluster_config(text, out key text, out val text) returns setof record language sql as $$
    select 'connection_lifetime', '60'
$$;
create table parts (number int, name text);
insert into parts values (0, 'partconf_part0'), (1, 'partconf_part1');
create function plproxy.get_cluster_partitions(text) returns setof text language sql as $$
    select format('host=127.0.0.1 port=%s dbname=%s user=%s', current_setting('port'), name, session_user) from parts order by number
$$;
\set infos `sed -n '/create function partconf_infos/,/language plproxy/p' ../../extensions/partconf/README.md`
:infos
select partconf.check_list(array(select i from partconf_infos() i));
create function whoami(i_key text) returns text language plproxy as $$ cluster 'userdb'; run on partconf.get_hash(i_key); $$;
select whoami('alice'), whoami('Carol');
select database, part_nr, max_part, db_code from partconf_infos();
-- a list in the wrong order
update parts set number = 1 - number;
create or replace function plproxy.get_cluster_version(text) returns integer language sql as $$ select 2 $$;
\set VERBOSITY terse
select whoami('alice');
\echo :SQLSTATE
\set VERBOSITY default
select partconf.check_list(array(select i from partconf_infos() i));
drop function whoami(text), partconf_infos();
drop extension plproxy cascade;
drop schema plproxy cascade;
drop table parts;
-- PL/Proxy keeps its connections
drop database partconf_part0 with (force);
drop database partconf_part1 with (force);
