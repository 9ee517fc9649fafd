-- Types: what is taken, what comes back, what is enforced on the way.
\set SHOW_CONTEXT never
\set VERBOSITY terse

-- types are known on both sides
create function on_both(i_sql text) returns void language plpgsql as $$
begin
    execute i_sql;
    perform everywhere(i_sql);
end;
$$;
select on_both($$
    create type color as enum ('red', 'green');
    create type point2 as (x int4, y int4);
    create type edge as (a point2, b point2[], c color);
    create domain short as varchar(3);
    create domain positive as int4 not null check (value > 0);
    create domain very_positive as positive check (value > 10);
    create domain ints as int4[] check (array_length(value, 1) < 4);
    create domain diagonal as point2 check ((value).x = (value).y);
    create domain warm as color check (value <> 'green');
    create type textrange as range (subtype = text);
    create schema "Far Away";
    create type "Far Away"."Type" as (v int4);
$$);

-- one value of each kind there and back, bare, in an array, as a column, as a null
create function round_trip(i_type text, i_value text) returns table (kind text, value text) language plpgsql as $$
begin
    -- a row comes back as its columns
    execute format('create function same(i_a %1$s) returns %1$s language plproxy as ''cluster ''''one''''; select %2$s;''', i_type,
        case when i_type in ('point2', 'edge', 'diagonal', '"Far Away"."Type"') then '(i_a).*' else 'i_a' end);
    execute format('create function same_array(i_a %1$s[]) returns %1$s[] language plproxy as ''cluster ''''one''''; select i_a;''', i_type);
    execute format('create function same_set(i_a %1$s, out b int4, out a %1$s) returns setof record language plproxy as
        ''cluster ''''one''''; select i_a as a, 1 as b;''', i_type);
    execute format('create function same_inout(inout a %1$s, inout b %1$s) language plproxy as ''cluster ''''one''''; select b as a, a as b;''', i_type);
    return query execute format('select ''value'', same(%L)::text', i_value);
    return query execute format('select ''array'', same_array(array[%L, null]::%s[])::text', i_value, i_type);
    return query execute format('select ''column'', a::text from same_set(%L)', i_value);
    return query execute format('select ''inout'', a::text || coalesce(b::text, '' and null'') from same_inout(null, %L)', i_value);
    drop function same, same_array, same_set, same_inout;
exception when others then
    return query select sqlstate, sqlerrm;
end;
$$;
select t, r.* from (values
    ('color', 'green'), ('point2', '(1,)'), ('edge', '("(1,2)","{""(3,4)"",NULL}",red)'), ('short', 'abc'), ('ints', '{1,2}'), ('diagonal', '(1,1)'),
    ('warm', 'red'), ('textrange', '[a,b)'), ('textmultirange', '{[a,b),[c,d)}'), ('"Far Away"."Type"', '(7)'), ('int4multirange', '{[1,3)}'),
    ('bpchar', 'ab   '), ('"char"', 'x'), ('name', 'a name'), ('bit varying', '101'), ('numeric', 'NaN'), ('float8', '1e-300'), ('float4', '0.1'),
    ('bytea', '\x0001ff'), ('oid', '4294967295'), ('regclass', 'pg_class'), ('jsonb', '{"a": [1]}'), ('uuid', '00000000-0000-0000-0000-000000000001'),
    ('interval', '1 year -2 days +03:04:05.6'), ('timetz', '12:00:00+02'), ('int2vector', '1 2'), ('tsquery', '''a'' & ''b'''), ('money', '1'), ('inet', '::1'), ('text', '')
) v (t, i), round_trip(t, i) r;
-- these have no null
select * from round_trip('positive', '5');
select * from round_trip('very_positive', '11');

-- pseudo-types do not travel
select attempt(format('create function pseudo(i_a %s) returns int4 language plproxy as ''cluster ''''one'''';''', t))
from unnest('{anyelement,anyarray,anyenum,record,record[],cstring,"\"any\"",void,internal,anycompatible}'::text[]) t;
select attempt(format('create function pseudo() returns %s language plproxy as ''cluster ''''one'''';''', t))
from unnest('{cstring,internal,trigger,event_trigger,language_handler,record[]}'::text[]) t;
create function pseudo(i_a int4) returns int4 language plproxy as $$ cluster 'one'; $$;
drop function pseudo;

-- lengths and precisions of columns
create type modified as (v varchar(3), n numeric(5,1), c char(4), b bit(3), bv bit varying(3), ts timestamp(0), t time(1), i interval second(0),
    va varchar(3)[], na numeric(5,1)[], ca char(4)[], s short, p point2);
create function modified(i_column text, i_value text) returns setof modified language plpgsql as $$
declare
    v_columns text := (
        select string_agg(format('%s as %I', case when a.attname = i_column then quote_literal(i_value) else 'null' end, a.attname), ', ')
        from pg_attribute a where a.attrelid = 'modified'::regclass);
begin
    execute format('create or replace function modified() returns modified language plproxy as %L', 'cluster ''one''; select ' || v_columns || ';');
    return query select * from modified();
end;
$$;
create function modified_try(i_column text, i_value text) returns text language plpgsql as $$
declare
    v_value text;
begin
    execute format('select %I::text from modified($1, $2)', i_column) into v_value using i_column, i_value;
    return v_value;
exception when others then
    return sqlstate || ' ' || sqlerrm;
end;
$$;
select c, v, modified_try(c, v) from (values
    ('v', 'abc'), ('v', 'abc  '), ('v', 'abcd'), ('n', '1.25'), ('n', '99999'), ('c', 'ab'), ('c', 'abcde'), ('b', '101'), ('b', '1011'), ('bv', '1'), ('bv', '1011'),
    ('ts', '2026-01-01 00:00:00.6'), ('t', '00:00:00.66'), ('i', '1.6'), ('va', '{abc}'), ('va', '{abcd}'), ('na', '{1.25}'), ('na', '{123456}'), ('ca', '{ab,abcde}'), ('ca', '{ab}'),
    ('s', 'abcd'), ('p', '(1,2,3)')) x (c, v);
-- also of a column list, of a set, and of a table's type whose columns change their length
create function records() returns setof record language plproxy as $$ cluster 'one'; select '12345' as a, 1.25 as b; $$;
select * from records() as (a varchar(5), b numeric(3,1));
select * from records() as (a varchar(4), b numeric(3,1));
select * from records() as (a text, b int4);

-- nulls that a domain forbids, and nulls that it does not get to see
create function null_positive(i_a int4) returns positive language plproxy as $$ cluster 'one'; select null where i_a = 1; $$;
select null_positive(1);
select null_positive(2);
create function null_positives() returns setof positive language plproxy as $$ cluster 'one'; select null; $$;
select null_positives();
create function null_column(out a int4, out b positive) language plproxy as $$ cluster 'one'; select 1 as a, null as b; $$;
select null_column();
create function null_table(i_b int4) returns table (a int4, b very_positive) language plproxy as $$ cluster 'one'; select 1 as a, i_b as b; $$;
select * from null_table(null);
select * from null_table(10);
select * from null_table(11);
create function null_array() returns positive[] language plproxy as $$ cluster 'one'; select '{1,null}'; $$;
select null_array();
create domain holds as point2 not null check ((value).x > 0);
create function null_holds(i_a int4) returns holds language plproxy as $$ cluster 'one'; select null as x, null as y where i_a = 1 union all select 1, 2 where i_a = 2; $$;
select null_holds(1);
select null_holds(2);
create function bad_ints() returns ints language plproxy as $$ cluster 'one'; select '{1,2,3,4}'; $$;
select bad_ints();
create function bad_diagonal() returns diagonal language plproxy as $$ cluster 'one'; select 1 as x, 2 as y; $$;
select bad_diagonal();
select * from bad_diagonal();

-- a function that returns record takes its columns from the call
create function one_record() returns record language plproxy as $$ cluster 'one'; select 1 as a, '{2,3}' as b; $$;
select * from one_record() as (a int4, b int4[]);
select * from one_record() as (b text, a positive);
select b[1] from one_record() as (b ints, a int8);
select one_record();
select (one_record()).a;
select * from one_record();
select * from one_record() as (a int4);
select * from one_record() as (a int4, c int4[]);
select * from one_record() as (a int4, b record);
select * from one_record() as (a int4, b record[]);
select * from one_record() as (a int4, b anyarray);
select count(*) from everywhere($$create function plain_record(i_a int4) returns record language sql as 'select i_a, array[i_a], row(1, 2)::point2'$$);
create function plain_record(i_a int4) returns record language plproxy as $$ cluster 'one'; $$;
select * from plain_record(1) as (a int4, "B c" int4[], d point2);
select * from plain_record(2) as (a int4, "B c" int4[], d point2), plain_record(3) as p (a int4, b int4[], c point2);
select * from plain_record(1) as (a text, b int4[], c point2);
-- from PL/pgSQL, with two column lists in one session
do $$
declare
    r record;
begin
    for i in 1..2 loop
        for r in select * from one_record() as (a int4, b int4[]) loop
            raise notice '%', r;
        end loop;
        for r in select * from one_record() as (b text, a numeric(4,2)) loop
            raise notice '%', r;
        end loop;
    end loop;
end;
$$;

-- nothing, and procedures, which call functions there
create function no_value(i_a int4) returns void language plproxy as $$ cluster 'one'; select i_a; $$;
select no_value(1), no_value(1)::text = '';
create function no_values(i_a int4) returns setof void language plproxy as $$ cluster 'four'; run on all; select i_a; $$;
select count(*) from no_values(1);
select count(*) from everywhere($$create table called (v int4); create function remember(i_a int4) returns void language sql as 'insert into called values (i_a)'$$);
create procedure remember(i_a int4) language plproxy as $$ cluster 'one'; $$;
call remember(5);
create procedure add_one(inout io_a int4, inout io_b text) language plproxy as $$ cluster 'one'; select io_a + 1 as io_a, 'b' as io_b; $$;
call add_one(5, null);
do $$ begin call remember(6); commit; call remember(7); end $$;
create function remembered() returns setof int4 language plproxy as $$ cluster 'one'; select v from called order by v; $$;
select * from remembered();

-- the words that PostgreSQL uses for parts of arguments
create function parts(i_a int4[], i_p point2, i_l edge[]) returns text language plproxy as $$
    cluster 'one'; select concat_ws(' ', i_a[2], (i_p).x, i_a[1:2], (i_l[1].a).y, (i_l)[1].c, array_length(i_a, 1), i_p::text);
$$;
select parts('{7,8,9}', '(1,2)', array['("(1,2)",,red)'::edge]);

drop function parts, remembered, no_value, no_values, plain_record, one_record, bad_diagonal, bad_ints, null_holds, null_array, null_table, null_column,
    null_positives, null_positive, records, modified_try, modified(text, text), modified(), round_trip;
drop procedure remember, add_one;
drop type modified;
drop domain holds;
select on_both($$
    drop domain short, very_positive, positive, ints, diagonal, warm;
    drop type edge, point2, color, textrange, "Far Away"."Type";
    drop schema "Far Away";
$$);
select count(*) from everywhere('drop table called; drop function remember(int4), plain_record(int4)');
drop function on_both;
