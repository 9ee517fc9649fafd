-- Everything that the catalogs say of the members of extension :ext; grants spelt out and in order.
create temp view grants as
select a.oid, string_agg(x.grantee::regrole || '=' || x.privilege_type || case when x.is_grantable then '*' else '' end, ','
                         order by x.grantee::regrole::text, x.privilege_type) as acl
from (select 'pg_proc'::regclass as class, p.oid, coalesce(p.proacl, acldefault('f', p.proowner)) as acl from pg_proc p
      union all
      select 'pg_class'::regclass, c.oid, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
      from pg_class c) a
cross join aclexplode(a.acl) x
group by a.class, a.oid;
create temp view members as
select d.classid, d.objid from pg_depend d join pg_extension e on e.oid = d.refobjid
where e.extname = :'ext' and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e';

select extname, extversion, extrelocatable, extnamespace::regnamespace,
       (select array_agg(c::regclass::text order by 1) from unnest(extconfig) c), extcondition
from pg_extension where extname = :'ext';
select pg_describe_object(m.classid, m.objid, 0) from members m order by 1;
select pg_get_functiondef(m.objid), g.acl
from members m left join grants g on g.oid = m.objid
where m.classid = 'pg_proc'::regclass order by m.objid::regprocedure::text;
select a.attrelid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid)
from members m
join pg_attribute a on a.attrelid = m.objid and a.attnum > 0
left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where m.classid = 'pg_class'::regclass order by a.attrelid::regclass::text, a.attnum;
select c.oid::regclass, c.relkind, c.reloptions, g.acl, case c.relkind when 'v' then pg_get_viewdef(c.oid) end
from members m join pg_class c on c.oid = m.objid left join grants g on g.oid = c.oid
where m.classid = 'pg_class'::regclass order by c.oid::regclass::text;
select k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid)
from members m join pg_constraint k on k.conrelid = m.objid and k.contype <> 'n'
where m.classid = 'pg_class'::regclass order by k.conrelid::regclass::text, k.conname;
select pg_get_indexdef(i.indexrelid)
from members m join pg_index i on i.indrelid = m.objid
where m.classid = 'pg_class'::regclass order by i.indexrelid::regclass::text;
select s.seqrelid::regclass, s.seqtypid::regtype, s.seqincrement, s.seqcache
from members m join pg_sequence s on s.seqrelid = m.objid
where m.classid = 'pg_class'::regclass order by s.seqrelid::regclass::text;
