-- grants.sql: who may do what in pgq_ext. Positions change only through the
-- functions; whoever writes as pgq_writer may read the tables to look into them.
--
-- An update runs this too. What the extension has granted once is left as it is then:
-- else a dump would take the grants that users have made for the extension's own, and
-- leave them out.

select pgq_ext.upgrade_schema();

do $$
declare
    v_grant text;
begin
    for v_grant in
        select 'grant usage on schema pgq_ext to public'
        where not exists (
            select from pg_catalog.pg_init_privs i
            where i.classoid = 'pg_namespace'::regclass
              and i.objoid = 'pgq_ext'::regnamespace)
        union all
        select pg_catalog.format('grant select on %s to pgq_writer', c.oid::regclass)
        from pg_catalog.pg_class c
        where c.relnamespace = 'pgq_ext'::regnamespace
          and c.relkind = 'r'
          and not exists (
            select from pg_catalog.pg_init_privs i
            where i.classoid = 'pg_class'::regclass
              and i.objoid = c.oid)
        union all
        select pg_catalog.format(f.grants, p.oid::regprocedure)
        from pg_catalog.pg_proc p
        join (values
            ('revoke all on function %s from public', false),
            ('grant execute on function %s to pgq_writer', true)) f (grants, everybody)
            on f.everybody or p.proname <> 'version'
        where p.pronamespace = 'pgq_ext'::regnamespace
          and not exists (
            select from pg_catalog.pg_init_privs i
            where i.classoid = 'pg_proc'::regclass
              and i.objoid = p.oid)
    loop
        execute v_grant;
    end loop;
end;
$$;
