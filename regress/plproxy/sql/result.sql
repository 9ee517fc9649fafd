-- What comes back: values, rows, sets, nulls, types.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create table item (id int4, name text, price numeric);
    insert into item values (1, 'one', 1.25), (2, null, 2.75);
    create function get_item(i_id int4) returns setof item language sql as 'select * from item where id = i_id';
    create function get_items() returns setof item language sql as 'select * from item order by id';
    create function nothing(i_a int4) returns void language sql as '';
    create function same(i_a text) returns text language sql as 'select i_a';
$$);

-- values
create function same(i_a text) returns text language plproxy as $$ cluster 'four'; run on 0; $$;
select same('x'), same(''), same(null) is null, same(E'a\tb\\c''d"é€');
create function nothing(i_a int4) returns void language plproxy as $$ cluster 'four'; run on 0; $$;
select nothing(1), nothing(null);
create function nothings(i_a int4) returns setof void language plproxy as $$ cluster 'four'; run on all; target nothing; $$;
select count(*) from nothings(1);

-- rows: OUT, TABLE, a table's type; by name, not by position
create type item as (price numeric, id int4, name text);
create function get_item(i_id int4) returns item language plproxy as $$ cluster 'four'; run on 0; $$;
select * from get_item(1);
select get_item(2), (get_item(1)).name;
create function get_item_out(i_id int4, out name text, out id int4) language plproxy as $$
    cluster 'four'; run on 0; select name, id from get_item(i_id);
$$;
select * from get_item_out(1);
create function get_items() returns table (name text, id int4, price numeric) language plproxy as $$
    cluster 'four'; run on all;
$$;
select * from get_items();
create function get_records() returns setof record language plproxy as $$ cluster 'one'; target get_records; $$;
select count(*) from everywhere($$
    create function get_records() returns setof record language sql as 'select id, name from item order by id';
$$);
select * from get_records() as (a int4, b text);
select * from get_records() as (a int4, "B c" text);
select get_records();

-- one column of a row is a value
create function one_out(i_a text, out a text) language plproxy as $$ cluster 'four'; run on 0; target same; $$;
select one_out('x');

-- not one row
create or replace function get_item(i_id int4) returns item language plproxy as $$ cluster 'four'; run on 0; $$;
select attempt('select get_item(3)');
create function any_item() returns item language plproxy as $$ cluster 'four'; run on 0; target get_items; $$;
select attempt('select any_item()');

-- other columns than the function's
create function wrong() returns item language plproxy as $$ cluster 'four'; run on 0; select 1 as id, 'x' as name; $$;
select attempt('select wrong()');
create or replace function wrong() returns item language plproxy as $$ cluster 'four'; run on 0; select 1 as id, 2 as b, 3 as c, 4 as d; $$;
select attempt('select wrong()');
create or replace function wrong() returns item language plproxy as $$ cluster 'four'; run on 0; select 1 as id, 'x' as "Name", 2 as price; $$;
select attempt('select wrong()');
drop function wrong();
-- an answer without rows is looked at too
create function wrong() returns setof item language plproxy as $$ cluster 'four'; run on 0; select 1 as id where false; $$;
select attempt('select wrong()');
drop function wrong();
create function wrong() returns int4 language plproxy as $$ cluster 'four'; run on 0; select 1, 2; $$;
select attempt('select wrong()');
create or replace function wrong() returns int4 language plproxy as $$ cluster 'four'; run on 0; select 'x'; $$;
select attempt('select wrong()');

-- length and precision are enforced, domains checked, nulls included
create type narrow as (v varchar(3), n numeric(5,1), c char(4));
create function get_narrow(i_v text) returns narrow language plproxy as $$
    cluster 'four'; run on 0; select i_v as v, 1.25 as n, 'ab' as c;
$$;
select v, n, c, octet_length(c) from get_narrow('abc');
select attempt($$select get_narrow('abcd')$$);
create domain positive as int4 not null check (value > 0);
create function get_positive(i_a int4) returns positive language plproxy as $$ cluster 'four'; run on 0; select i_a; $$;
select attempt(format('select get_positive(%s)', a)) from unnest(array['1', '-1', 'null']) a;
create domain good_item as item check ((value).price > 2);
create function get_good_item(i_id int4) returns good_item language plproxy as $$ cluster 'four'; run on 0; target get_item; $$;
select * from get_good_item(2);
select attempt('select get_good_item(1)');
create function get_good_items() returns setof good_item language plproxy as $$ cluster 'one'; target get_items; $$;
select attempt('select get_good_items()');

-- types whose text depends on the session: dates, intervals, floats
select count(*) from everywhere($$
    create function same_times(a date, b timestamptz, c interval, d float8) returns table (a date, b timestamptz, c interval, d float8)
    language sql as 'select a, b, c, d';
$$);
create function same_times(inout a date, inout b timestamptz, inout c interval, inout d float8) language plproxy as $$ cluster 'four'; run on 0; $$;
set datestyle = 'SQL, DMY';
set intervalstyle = 'sql_standard';
set extra_float_digits = -10;
select s.a = date '2026-02-03', s.b = timestamptz '2026-02-03 04:05:06.789+01', s.c = interval '-1 year -2 days +03:04:05', s.d = 1 / 3::float8
from same_times('2026-02-03', '2026-02-03 04:05:06.789+01', '-1 year -2 days +03:04:05', 1 / 3::float8) s;
show datestyle;
reset datestyle;
reset intervalstyle;
reset extra_float_digits;
-- partitions of another style
select current_database() as proxy_db \gset
do $$ begin execute format('alter database plproxy_part3 set datestyle = %L', 'SQL, DMY'); end $$;
alter database plproxy_part3 set intervalstyle = 'sql_standard';
create function part3_times(inout a date, inout c interval) language plproxy as $$ cluster 'four'; run on 3; select a as a, c as c; $$;
\c :proxy_db
\set SHOW_CONTEXT never
select a = '2026-02-03', c = '-1 year -2 days +03:04:05' from part3_times('2026-02-03', '-1 year -2 days +03:04:05');
-- a partition's function that changes its session for good
create function part3_set(i_key text, i_value text) returns text language plproxy as $$
    cluster 'four'; run on 3; select set_config(i_key, i_value, false);
$$;
select part3_set('datestyle', 'SQL, DMY'), part3_set('intervalstyle', 'sql_standard');
select a = '2026-02-03', c = '-1 year -2 days +03:04:05' from part3_times('2026-02-03', '-1 year -2 days +03:04:05');
-- what it answers is ASCII, which is the same in both encodings
select part3_set('client_encoding', 'LATIN1');
create function part3_length(i_a text) returns int4 language plproxy as $$ cluster 'four'; run on 3; select length(i_a); $$;
select part3_length('é€');
alter database plproxy_part3 reset all;

-- further types: arrays, composites, enums, ranges, multiranges, char
create type mood as enum ('sad', 'it''s ok');
select count(*) from everywhere($$create type mood as enum ('sad', 'it''s ok'); create type item_pair as (a int4, b text);$$);
create type item_pair as (a int4, b text);
create function types(inout a int4[], inout b item_pair, inout c mood[], inout d int4range, inout e int4multirange,
    inout f bpchar, inout g "char", inout h bytea, inout i json, inout j name, inout k text[]) language plproxy as $$
    cluster 'four'; run on 0;
    select a as a, b as b, c as c, d as d, e as e, f as f, g as g, h as h, i as i, j as j, k as k;
$$;
select * from types('{1,null,3}', '(1,"a ""b"" c")', '{sad,"it''s ok"}', '[1,5)', '{[1,2),[5,7)}', 'a longer one', 'x',
    '\x00ff', '{"a": 1}', 'n', '{"a,b","","\"",null}');

-- a changed row type is noticed: added, dropped (the first one too), renamed columns
create table wide (a int4, b text, c text);
create function get_wide() returns setof wide language plproxy as $$ cluster 'one'; $$;
create function get_wide_by_select() returns setof wide language plproxy as $$ cluster 'one'; select * from get_wide(); $$;
select count(*) from everywhere($$
    create table wide (a int4, b text, c text);
    insert into wide values (1, 'b', 'c');
    create function get_wide() returns setof wide language sql as 'select * from wide';
$$);
select * from get_wide();
select * from get_wide_by_select();
alter table wide drop column a;
select count(*) from everywhere('alter table wide drop column a');
select * from get_wide();
select * from get_wide_by_select();
alter table wide add column d int4;
select count(*) from everywhere('alter table wide add column d int4 default 4');
select * from get_wide();
select * from get_wide_by_select();
alter table wide rename column d to e;
select attempt('select * from get_wide()');
select count(*) from everywhere('alter table wide rename column d to e');
select * from get_wide();

-- as do a replaced function, a renamed type, a renamed schema
create or replace function get_wide() returns setof wide language plproxy as $$ cluster 'one'; select 'new' as b, null as c, 1 as e; $$;
select * from get_wide();
create function say_mood(i_m mood) returns mood language plproxy as $$ cluster 'one'; select i_m; $$;
select say_mood('sad');
alter type mood rename to temper;
select attempt($$select say_mood('sad')$$);
select count(*) from everywhere('alter type mood rename to temper');
select say_mood('sad');
create schema one_name;
create function one_name.whoami() returns text language plproxy as $$ cluster 'one'; $$;
select count(*) from everywhere($$create schema other_name; create function other_name.whoami() returns text language sql as 'select ''other name''::text'$$);
select attempt('select one_name.whoami()');
alter schema one_name rename to other_name;
select other_name.whoami();

drop schema other_name cascade;
drop function same, nothing, nothings, get_item, get_item_out, get_items, get_records, one_out, any_item, wrong, get_narrow,
    get_positive, get_good_item, get_good_items, same_times, part3_times, part3_set, part3_length, types, get_wide,
    get_wide_by_select, say_mood;
drop domain positive, good_item;
drop type item, narrow, temper, item_pair;
drop table wide;
