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

drop function got(int4[]), got(int4[], text[], text), twice, lengths;
