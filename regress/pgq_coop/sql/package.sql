--
-- What the extension consists of, and who may use it.
--
\pset format unaligned
select pgq_coop.version() = extversion as version, extrelocatable, extconfig
from pg_extension where extname = 'pgq_coop';
select p.proname as function, pg_get_function_identity_arguments(p.oid) as arguments, p.prorettype::regtype as returns,
       case p.prosecdef when true then 'owner' else 'caller' end as runs_as,
       p.proconfig,
       coalesce((select string_agg(case a.grantee when 0 then 'public' else a.grantee::regrole::text end, ', ' order by 1)
                 from aclexplode(p.proacl) a
                 where a.grantee <> p.proowner), 'nobody') as callers
from pg_proc p
where p.pronamespace = 'pgq_coop'::regnamespace
order by 1, 2;

-- a reader is enough
set client_min_messages = warning;
select pgq.create_queue('roles');
create role regress_coop_reader in role pgq_reader;
create role regress_coop_nobody;
set role regress_coop_reader;
select pgq_coop.register_subconsumer('roles', 'main', 'sub');
select pgq_coop.next_batch('roles', 'main', 'sub', '1 hour');
select pgq_coop.next_batch_custom('roles', 'main', 'sub', null, null, null);
select pgq_coop.unregister_subconsumer('roles', 'main', 'sub', 0);
set role regress_coop_nobody;
select pgq_coop.version() ~ '^[3-9]' as new_enough;
\set VERBOSITY terse
select pgq_coop.next_batch('roles', 'main', 'sub');
reset role;
drop role regress_coop_reader, regress_coop_nobody;
select pgq.drop_queue('roles', true);

-- it goes before pgq does
drop extension pgq;
begin;
drop extension pgq_coop;
select count(*) from pg_namespace where nspname = 'pgq_coop';
rollback;
