-- grants.sql: readers cooperate; everybody may ask for the version. What begins with _
-- is for the functions themselves, which run as their owner.
--
-- An update runs this too, and leaves what the extension has granted before as it is:
-- see those of pgq.

do $$
declare
    v_grant text;
begin
    for v_grant in
        select 'grant usage on schema pgq_coop to public'
        where not exists (
            select from pg_catalog.pg_init_privs i
            where i.classoid = 'pg_namespace'::regclass
              and i.objoid = 'pgq_coop'::regnamespace)
        union all
        select pg_catalog.format(f.grants, p.oid::regprocedure)
        from pg_catalog.pg_proc p
        join (values
            ('revoke all on function %s from public', '^(?!version$)'),
            ('grant execute on function %s to pgq_reader', '^(?!version$)[^_]'),
            ('grant execute on function %s to public', '^version$')) f (grants, names)
            on p.proname ~ f.names
        where p.pronamespace = 'pgq_coop'::regnamespace
          and not exists (
            select from pg_catalog.pg_init_privs i
            where i.classoid = 'pg_proc'::regclass
              and i.objoid = p.oid)
    loop
        execute v_grant;
    end loop;
end;
$$;
