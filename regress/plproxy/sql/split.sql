-- SPLIT: each element goes to the partition that RUN chooses for it.
select count(*) from everywhere($$
    create function got(i_a int4[], i_b text[], i_c text) returns text language sql as
        'select format(''%s: %s %s %s'', current_database(), i_a, coalesce(i_b::text, ''null''), i_c)';
    create function got(i_a int4[]) returns text language sql as
        'select format(''%s: %s %s'', current_database(), i_a, array_lower(i_a, 1))';
$$);
create function got(i_a int4[], i_b text[], i_c text) returns setof text language plproxy as $$
    cluster 'four'; split i_a, i_b; run on i_a;
$$;
select * from got('{0,1,2,3,4,5,6,7,1}', '{a,b,c,null,e,f,g,h,i}', 'whole') order by 1;
select * from got('{3,7}', '{x,y}', null);
-- bounds do not matter, emptiness and null are the same
select * from got('[5:6]={1,1}', '{x,y}', 'z');
select * from got('{}', null, 'z');
select attempt($$select got('{1,2}', '{x}', 'z')$$);
select attempt($$select got('{1,2}', null, 'z')$$);
select attempt($$select got('{{1,2}}', '{x,y}', 'z')$$);
select attempt($$select got('{1,null}', '{x,y}', 'z')$$);

-- not all arrays, all arrays
create or replace function got(i_a int4[], i_b text[], i_c text) returns setof text language plproxy as $$
    cluster 'four'; split $1; run on abs(i_a);
$$;
select * from got('{1,2}', '{x,y,z}', 'z') order by 1;
create or replace function got(i_a int4[], i_b text[], i_c text) returns setof text language plproxy as $$
    cluster 'four'; split all; run on hashtext(i_b);
$$;
select sum(a) from (select * from got('{1,2,3}', '{x,y,z}', 'z') g, regexp_matches(g, '\d+(?=[,}])', 'g') m, cast(m[1] as int4) a) s;

-- a set of hashes sends one element to several partitions, ALL sends all to all
create function twice(i_a int4) returns setof int4 language sql as 'select i_a union all select i_a + 1 union all select i_a';
create function got(i_a int4[]) returns setof text language plproxy as $$ cluster 'four'; split i_a; run on twice(i_a); $$;
select * from got('{0,1,4}') order by 1;
create or replace function got(i_a int4[]) returns setof text language plproxy as $$ cluster 'four'; split i_a; run on all; $$;
select * from got('{7,8}');
select * from got('{}');

-- one row wanted, none or one there
drop function got(int4[]);
create function got(i_a int4[]) returns text language plproxy as $$ cluster 'four'; split i_a; run on i_a; $$;
select got('{1,5,9}');
select attempt($$select got('{}')$$);
select attempt($$select got('{1,2}')$$);

-- CLUSTER and CONNECT see the array, only RUN its elements
create function got(i_a text[]) returns setof int4 language plproxy as $$
    cluster array_to_string(i_a[1:2], ''); split i_a; run on 0; select cardinality(i_a);
$$;
select got('{fo,ur,x}'::text[]);
drop function got(text[]);

-- many elements
create function lengths(i_a int4[]) returns setof int4 language plproxy as $$
    cluster 'four'; split i_a; run on i_a; select array_length(i_a, 1);
$$;
select l from lengths((select array_agg(i) from generate_series(1, 10000) i)) l;


-- whatever the type of the elements, they arrive as they are, null included, and
-- what the session has set does not matter
create function echoes(i_type text, i_elements text) returns setof text language plpgsql as $body$
begin
    perform everywhere(format('create function echo(i_i int4[], i_a %s) returns %s language sql as $$ select i_a $$',
        i_type, i_type));
    execute format('create function echo(i_i int4[], i_a %s) returns setof %s language plproxy as
        $$ cluster ''four''; split i_i, i_a; run on i_i; $$', i_type, i_type);
    return query execute format('select pg_typeof(e) || '' '' || e::text from echo(''{0,1,0,1}'', %L::%s) e', i_elements, i_type);
    execute format('drop function echo(int4[], %s)', i_type);
    perform everywhere(format('drop function echo(int4[], %s)', i_type));
end;
$body$;
select count(*) from everywhere($$create domain small as int4 check (value < 10)$$);
create domain small as int4 check (value < 10);
select count(*) from everywhere($$create type mood as enum ('sad', 'ok')$$);
create type mood as enum ('sad', 'ok');
set datestyle = 'SQL, DMY';
set bytea_output = 'escape';
set extra_float_digits = 0;
set timezone = 'UTC';
create table kinds as select * from (values
    ('bool[]', '{t,f,null,t}'),
    ('int2[]', '{-32768,0,null,32767}'),
    ('int4[]', '{-2147483648,null,0,2147483647}'),
    ('int8[]', '{-9223372036854775808,null,0,9223372036854775807}'),
    ('oid[]', '{4294967295,0,1,null}'),
    ('float4[]', '{NaN,-0,1e-30,0.1}'),
    ('float8[]', '{Infinity,null,0.1,1e300}'),
    ('date[]', '{2026-02-03,infinity,null,0001-01-01 BC}'),
    ('time[]', '{24:00,null,00:00:00.000001,12:00}'),
    ('timestamp[]', '{2026-02-03 04:05:06.789,-infinity,null,2000-01-01}'),
    ('timestamptz[]', '{2026-02-03 04:05:06.789+00,infinity,null,2000-01-01 00:00+05}'),
    ('timetz[]', '{04:05:06+01,null,null,12:00+00}'),
    ('interval[]', '{1 mon 2 days,null,-1 s,1 y}'),
    ('text[]', '{a,"",null,"NULL \"quoted\", {é};\\ x"}'),
    ('varchar[]', '{a,null,"b,c"," "}'),
    ('bpchar[]', '{"a ",null,b,""}'),
    ('bytea[]', '{"\\x00ff","\\x",null,"\\x61"}'),
    ('name[]', '{a,null,"b c",d}'),
    ('numeric[]', '{1.50,null,NaN,1e10}'),
    ('uuid[]', '{00000000-0000-0000-0000-000000000001,null,null,00000000-0000-0000-0000-000000000002}'),
    ('box[]', '{(1,1),(0,0);(2,2),(0,0);null;(3,3),(0,0)}'),
    ('int4range[]', '{"[1,3)",null,empty,"(,)"}'),
    ('small[]', '{1,null,2,3}'),
    ('mood[]', '{sad,null,ok,sad}'),
    ('int2vector', '1 2 3 4'),
    ('oidvector', '1 2 3 4')) v(t, a);
create table echoed as select echoes(t, a) from kinds;
table echoed;
-- the same in text
insert into plproxy.config values ('four', 'disable_binary', 'on');
update plproxy.cluster set version = version + 1 where name = 'four';
select count(*), count(e) filter (where e in (table echoed)) same from kinds, echoes(t, a) e;
delete from plproxy.config where name = 'four';
update plproxy.cluster set version = version + 1 where name = 'four';
drop table kinds, echoed;
reset datestyle;
reset bytea_output;
reset extra_float_digits;
reset timezone;
-- elements that lie in a table, some of them stored elsewhere
create table kept (a text[]);
alter table kept alter a set storage external;
insert into kept values (array[repeat('x', 3000), 'y', null, repeat('z', 200000)]);
create function kept(i_i int4[], i_a text[]) returns setof text language plproxy as $$
    cluster 'four'; split all; run on i_i; select length(a) || left(a, 1) from unnest(i_a) a;
$$;
select kept('{0,1,2,3}', a) from kept;
drop function kept;
drop table kept;
select count(*) from everywhere($$drop domain small; drop type mood$$);
drop domain small;
drop type mood;

drop function got(int4[]), got(int4[], text[], text), twice, lengths, echoes;
