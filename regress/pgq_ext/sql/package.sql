-- What the extension brings: functions, rights, and data that a dump must hold.
select pgq_ext.version() = e.extversion as says_its_version, pgq_ext.version() ~ '^[4-9]' as speaks_to_old_clients
  from pg_extension e where e.extname = 'pgq_ext';
select array_length(extconfig, 1) from pg_extension where extname = 'pgq_ext';

-- the role is made where it is missing, and only there
select pgq_ext.upgrade_schema();

-- who may call what
select p.oid::regprocedure as function,
       has_function_privilege('public', p.oid, 'execute') as public,
       has_function_privilege('pgq_writer', p.oid, 'execute') as writer,
       p.prosecdef
  from pg_proc p
 where p.pronamespace = 'pgq_ext'::regnamespace
 order by p.oid::regprocedure::text collate "C";

-- names of arguments are an interface; tables and keys are one, too
select p.oid::regprocedure as function, p.proargnames as arguments, p.prorettype::regtype as returns
  from pg_proc p
 where p.pronamespace = 'pgq_ext'::regnamespace
 order by p.oid::regprocedure::text collate "C";
select a.attrelid::regclass as table, a.attname, a.atttypid::regtype, a.attnotnull, pg_get_expr(d.adbin, d.adrelid) as default,
       pg_get_constraintdef(c.oid) as key
  from pg_constraint c
  join pg_attribute a on a.attrelid = c.conrelid and a.attnum > 0
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where c.connamespace = 'pgq_ext'::regnamespace and c.contype = 'p'
 order by a.attrelid::regclass::text, a.attnum;

-- a writer works through the functions, and only through them
create role regress_writer in role pgq_writer;
create role regress_stranger;
set role regress_writer;
select pgq_ext.set_batch_done('mover', 1), pgq_ext.set_last_tick('mover', 2), pgq_ext.set_event_done('mover', 3, 4);
select pgq_ext.is_batch_done('mover', 1), pgq_ext.get_last_tick('mover'), pgq_ext.is_event_done('mover', 3, 4);
select pgq_ext.set_events_aside('mover', 1, array[5], array[6], array['why']);
select * from pgq_ext.get_events_aside('mover', 1);
select last_batch_id from pgq_ext.completed_batch;
select event_id from pgq_ext.event_aside;
delete from pgq_ext.completed_batch;
delete from pgq_ext.event_aside;
reset role;
set role regress_stranger;
select pgq_ext.version() is not null as version;
select pgq_ext.set_batch_done('mover', 2);
select pgq_ext.is_batch_done('mover', 1);
select pgq_ext.set_events_aside('mover', 1, array[5], array[6], array['why']);
select * from pgq_ext.get_events_aside('mover', 1);
select * from pgq_ext.completed_batch;
reset role;
drop role regress_writer, regress_stranger;
truncate pgq_ext.completed_batch, pgq_ext.completed_tick, pgq_ext.completed_event, pgq_ext.partial_batch, pgq_ext.event_aside;

-- a definer's function does not follow the caller's search_path
create schema trap;
create function trap.eq(text, text) returns boolean language sql as $$ select true $$;
create operator trap.= (leftarg = text, rightarg = text, function = trap.eq);
set search_path = trap, pg_catalog;
select pgq_ext.set_last_tick('mine', 1);
select pgq_ext.get_last_tick('yours') is null as not_trapped;
reset search_path;
drop schema trap cascade;
truncate pgq_ext.completed_tick;

-- it goes away whole, and comes back
drop extension pgq_ext;
select count(*) from pg_namespace where nspname = 'pgq_ext';
create extension pgq_ext;
