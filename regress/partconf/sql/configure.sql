-- Which partition this is: told by set_conf(), shown by the views, and nothing that makes no sense.
\set SHOW_CONTEXT never
\pset null NULL
delete from partconf.conf;

-- not yet
select configured, part_nr, max_part, partitions, db_code, hash_function, hash_ok, hash_problem, fenced, fenced_at from partconf.status;
select * from partconf.shard_conf;
select part_nr, max_part, db_code, encoding from partconf.get_info();

select partconf.set_conf(2, 3, 16383);
select configured, part_nr, max_part, partitions, db_code, hash_function, hash_ok, hash_problem, fenced, fenced_at from partconf.status;
select * from partconf.shard_conf;
select database = current_database() as here, part_nr, max_part, db_code, hash_function, hash_problem,
       cardinality(probes) as probes, encoding, fenced_at, fenced_by, set_at <= now() as set, server_version = current_setting('server_version') as server,
       version = partconf.version() as version
  from partconf.get_info();
-- anew, and the same again
select partconf.set_conf(0, 0, 0), partconf.set_conf(0, 0, 0);
select part_nr, max_part, db_code from partconf.status;

-- refused, and nothing is changed
select partconf.set_conf(null, 3, 1);
\echo :SQLSTATE
select partconf.set_conf(1, null, 1);
select partconf.set_conf(1, 3, null);
select partconf.set_conf(4, 3, 1);
\echo :SQLSTATE
select partconf.set_conf(-1, 3, 1);
select partconf.set_conf(0, 2, 1);
\echo :SQLSTATE
select partconf.set_conf(0, -1, 1);
select partconf.set_conf(0, 2147483646, 1);
select partconf.set_conf(-2147483648, -2147483648, 1);
select partconf.set_conf(0, 3, 16384);
\echo :SQLSTATE
select partconf.set_conf(0, 3, -1);
select part_nr, max_part, db_code from partconf.status;
-- the largest
select partconf.set_conf(2147483647, 2147483647, 16383);
select partconf.set_conf(1073741823, 1073741823, 16383);
select part_nr, max_part, db_code from partconf.status;
select partitions from partconf.status;
select shard_count from partconf.shard_conf;

-- nor by hand: the table says the same
\set VERBOSITY terse
update partconf.conf set part_nr = -1;
update partconf.conf set max_part = 2, part_nr = 0;
update partconf.conf set max_part = -1, part_nr = 0;
update partconf.conf set max_part = 2147483647, part_nr = 0;
update partconf.conf set part_nr = 4, max_part = 3;
update partconf.conf set db_code = 16384;
update partconf.conf set hash_function = 'my_hash';
update partconf.conf set probes = array[1, null];
update partconf.conf set fenced_by = 'me';
insert into partconf.conf (part_nr, max_part, db_code, probes) values (0, 0, 0, '{}');
insert into partconf.conf (only_row, part_nr, max_part, db_code, probes) values (false, 0, 0, 0, '{}');

-- whoever changes the table, all follow
select partconf.set_conf(0, 1, 5);
select partconf.valid_hash('alice');
update partconf.conf set part_nr = 1;
select partconf.valid_hash('alice');
create table saved as table partconf.conf;
truncate partconf.conf;
select partconf.valid_hash('alice');
\echo :SQLSTATE
insert into partconf.conf table saved;
select partconf.valid_hash('alice');
delete from partconf.conf;
select partconf.valid_hash('alice');
set session_replication_role = replica;
insert into partconf.conf table saved;
select partconf.valid_hash('alice');
update partconf.conf set part_nr = 0;
select partconf.valid_hash('alice');
reset session_replication_role;
drop table saved;

-- in a transaction: at once, and back with it
begin;
select partconf.set_conf(1, 1, 5);
select partconf.valid_hash('alice');
savepoint s;
select partconf.set_conf(0, 1, 5);
select partconf.valid_hash('alice');
rollback to s;
select partconf.valid_hash('alice');
rollback;
select partconf.valid_hash('alice');

-- the function of the trigger is good for nothing else
select partconf._conf_changed();
create table other (i int);
create trigger conf_changed after insert on other for each statement execute function partconf._conf_changed();
insert into other values (1);
drop table other;
delete from partconf.conf;
