--
-- What the extension consists of, and who may use it.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
select pgq.version() = extversion as version, extrelocatable, extnamespace::regnamespace
from pg_extension where extname = 'pgq';
select pgq.version() ~ '^[3-9]' as new_enough;

-- pg_dump saves their rows
select c::regclass from pg_extension e, unnest(e.extconfig) c where e.extname = 'pgq' order by c::regclass::text;

-- tables: an interface
select a.attrelid::regclass as table, a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull as not_null,
       pg_get_expr(d.adbin, d.adrelid) as default
from pg_attribute a
join pg_class c on c.oid = a.attrelid
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where c.relnamespace = 'pgq'::regnamespace and c.relkind = 'r' and a.attnum > 0
order by c.relname, a.attnum;
select conrelid::regclass as table, conname, pg_get_constraintdef(oid) as definition
from pg_constraint
where connamespace = 'pgq'::regnamespace and contype in ('p', 'u', 'f')
order by conrelid::regclass::text, conname;
select indexname from pg_indexes where schemaname = 'pgq' order by 1;

-- functions: arguments, rights
\pset format unaligned
select p.proname as function, pg_get_function_identity_arguments(p.oid) as arguments,
       case p.prosecdef when true then 'owner' else 'caller' end as runs_as, p.proisstrict as strict,
       coalesce((select string_agg(case a.grantee when 0 then 'public' else a.grantee::regrole::text end, ', ' order by 1)
                 from aclexplode(p.proacl) a
                 where a.grantee <> p.proowner), 'public') as callers
from pg_proc p
join pg_depend d on d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e'
join pg_extension e on e.oid = d.refobjid and e.extname = 'pgq'
where p.pronamespace = 'pgq'::regnamespace
  and p.prorettype <> 'trigger'::regtype
order by 1, 2;
\pset format aligned
-- those that run as the owner look nothing up where the caller wants
select p.oid::regprocedure as function
from pg_proc p
where p.pronamespace = 'pgq'::regnamespace and p.prosecdef and p.prolang <> (select oid from pg_language where lanname = 'c')
  and not coalesce(p.proconfig @> array['search_path=pg_catalog, pgq, pg_temp'], false);

-- roles
select r.rolname, r.rolcanlogin from pg_roles r where r.rolname like 'pgq\_%' order by 1;
select m.roleid::regrole as role, m.member::regrole as member
from pg_auth_members m where m.member = 'pgq_admin'::regrole order by m.roleid::regrole::text;
select pgq.upgrade_schema();

-- tables' grants, and those of a queue
select pgq.create_queue('grants');
select queue_id as id from pgq.queue \gset
select replace(c.relname, 'event_' || :id, 'event_N') as name,
       case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee,
       string_agg(a.privilege_type, ',' order by a.privilege_type) as privileges, a.is_grantable
from pg_class c, aclexplode(c.relacl) a
where c.relnamespace = 'pgq'::regnamespace and (c.relkind in ('r', 'S')) and a.grantee <> c.relowner
group by 1, 2, c.relkind, c.oid, a.is_grantable
order by c.relkind, c.oid, 2;

-- the roles do their work
create role regress_pgq_reader in role pgq_reader;
create role regress_pgq_writer in role pgq_writer;
create role regress_pgq_admin in role pgq_admin;
create role regress_pgq_nobody;
set role regress_pgq_admin;
select pgq.create_queue('roles');
select pgq.set_queue_config('roles', 'ticker_max_lag', '0'), pgq.set_queue_config('roles', 'ticker_idle_period', '0'),
       pgq.set_queue_config('roles', 'rotation_period', '0');
set role regress_pgq_reader;
select pgq.register_consumer('roles', 'c');
set role regress_pgq_writer;
select pgq.insert_event('roles', 't', 'd');
select pgq.current_event_table('roles') is not null as named;
select pgq.next_batch('roles', 'c');
set role regress_pgq_admin;
select pgq.insert_event_raw('roles', null, null, null, null, 't', 'raw', null, null, null, null);
select pgq.ticker();
set role regress_pgq_reader;
select pgq.next_batch('roles', 'c') as batch \gset
select ev_data from pgq.get_batch_events(:batch);
begin;
select ev_data from pgq.get_batch_cursor(:batch, 'c', 1);
commit;
select pgq.event_retry(:batch, 1, 0), pgq.batch_retry(:batch, 0);
select pgq.finish_batch(:batch);
select pgq.force_tick('roles');
select pgq.insert_event('roles', 't', 'd');
select pgq.ticker('roles');
set role regress_pgq_admin;
select pgq.ticker('roles');
select pgq.maint_retry_events();
select pgq.finish_batch(pgq.next_batch('roles', 'c'));
select pgq.maint_rotate_tables_step1('roles'), queue_cur_table from pgq.queue where queue_name = 'roles';
select pgq.maint_rotate_tables_step2();
select queue_cur_table from pgq.queue where queue_name = 'roles';
set role regress_pgq_nobody;
select queue_name from pgq.get_queue_info('roles');
select queue_name, consumer_name from pgq.get_consumer_info('roles');
select pgq.insert_event('roles', 't', 'd');
select pgq.next_batch('roles', 'c');
select count(*) from pgq.event_template;
select count(*) from pgq.retry_queue;
set role regress_pgq_admin;
select pgq.drop_queue('roles', true);
reset role;
drop role regress_pgq_reader, regress_pgq_writer, regress_pgq_admin, regress_pgq_nobody;

-- the tables of a queue are not the extension's: they stop its removal
select count(*) from pg_depend d
where d.deptype = 'e' and d.classid = 'pg_class'::regclass and d.objid::regclass::text like 'pgq.event\_' || :id || '%';
\set VERBOSITY terse
drop extension pgq;
\set VERBOSITY default
select pgq.drop_queue('grants');
begin;
drop extension pgq;
select count(*) from pg_namespace where nspname = 'pgq';
rollback;
