-- What the extension brings: functions, rights, and data that a dump must hold.
\set SHOW_CONTEXT never
select partconf.version() = e.extversion as says_its_version
  from pg_extension e where e.extname = 'partconf';
select c.oid::regclass as dumped
  from pg_extension e, unnest(e.extconfig) c (oid)
 where e.extname = 'partconf'
 order by 1;

-- names of arguments are an interface; how each may be used is, too
select p.oid::regprocedure as function, p.proargnames as arguments, p.prorettype::regtype as returns, p.provolatile as volatile,
       p.proparallel as parallel, p.proisstrict as strict, p.prosecdef as definer
  from pg_proc p
 where p.pronamespace = 'partconf'::regnamespace
 order by p.oid::regprocedure::text collate "C";
select p.oid::regprocedure as for_the_owner
  from pg_proc p
 where p.pronamespace = 'partconf'::regnamespace and not has_function_privilege('public', p.oid, 'execute')
 order by p.oid::regprocedure::text collate "C";
select c.oid::regclass as for_everybody, c.relkind
  from pg_class c
 where c.relnamespace = 'partconf'::regnamespace and has_table_privilege('public', c.oid, 'select') and c.relkind <> 'c'
 order by c.oid::regclass::text collate "C";

-- pg_upgrade refuses columns of types whose values are oids
select a.attrelid::regclass, a.attname
  from pg_attribute a join pg_class c on c.oid = a.attrelid
 where c.relnamespace = 'partconf'::regnamespace and c.relkind = 'r' and a.atttypid::regtype::text ~ '^(reg|oid)' and a.attnum > 0;

-- everybody asks; who may fence is up to the owner
create role regress_operator;
grant execute on function partconf.fence(interval), partconf.unfence() to regress_operator;
create role regress_app;
select partconf.set_conf(0, 0, 1);
set role regress_app;
select partconf.check_hash('a'), partconf.valid_hash('a'), partconf.get_hash('a') = hashtext('a') as hash, partconf.global_id() & 16383 as code;
select part_nr, db_code, hash_ok from partconf.status;
select * from partconf.shard_conf;
select (partconf.get_info()).db_code;
select partconf.check_list(array[partconf.get_info()]);
select partconf.set_conf(0, 0, 1);
select partconf.set_hash(null);
select partconf.accept_hash();
select partconf.fence();
select partconf.unfence();
select partconf._lock_conf('0');
select partconf._probes(null);
select part_nr, max_part from partconf.conf;
update partconf.conf set db_code = 2;
select nextval('partconf.global_id_seq');
reset role;
set role regress_operator;
select partconf.fence(), partconf.unfence();
select partconf.set_conf(0, 0, 1);
reset role;
revoke execute on function partconf.fence(interval), partconf.unfence() from regress_operator;
drop role regress_operator, regress_app;

-- a definer's function does not follow the caller's search_path
create schema trap;
create function trap.le(integer, integer) returns boolean language sql as $$ select 1 / 0 = 1 $$;
create operator trap.< (leftarg = integer, rightarg = integer, function = trap.le);
create operator trap.> (leftarg = integer, rightarg = integer, function = trap.le);
create operator trap.<> (leftarg = integer, rightarg = integer, function = trap.le);
create function trap.now() returns timestamptz language sql as $$ select 'infinity'::timestamptz $$;
create function trap.same(name, text) returns boolean language sql as $$ select 1 / 0 > 1 $$;
create operator trap.= (leftarg = name, rightarg = text, function = trap.same);
create operator trap.= (leftarg = integer, rightarg = integer, function = trap.le);
set search_path = trap, pg_catalog;
select partconf.set_conf(0, 0, 1), partconf.set_hash(null), partconf.accept_hash(), partconf.fence('1s'), partconf.unfence();
select isfinite(set_at) as not_trapped, part_nr, partconf.version() is not null as version from partconf.get_info();
select partconf.check_list(array[partconf.get_info()]);
reset search_path;
set client_min_messages = warning;
drop schema trap cascade;
reset client_min_messages;

-- it goes away whole, and comes back; this session has kept what the first one said
select partconf.valid_hash('a');
drop extension partconf;
select count(*) from pg_namespace where nspname = 'partconf';
create extension partconf;
select partconf.valid_hash('a');
select partconf.set_conf(1, 1, 3);
select partconf.valid_hash('a'), partconf.global_id();
begin;
select partconf.check_hash('alice');
drop extension partconf;
create extension partconf;
select partconf.set_conf(0, 1, 4);
select partconf.check_hash('alice');
rollback;
select partconf.check_hash('alice');
delete from partconf.conf;
alter sequence partconf.global_id_seq restart;
