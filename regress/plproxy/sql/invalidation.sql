-- A session that has called a function sees at its next call what has changed:
-- of the function, of the types and tables that it names, of their schemas.
\set SHOW_CONTEXT never
\set VERBOSITY terse
create function on_both(i_sql text) returns void language plpgsql as $$
begin
    execute i_sql;
    perform everywhere(i_sql);
end;
$$;

-- the function: replaced, renamed, moved, with other arguments and results
create schema there;
select count(*) from everywhere($$
    create schema there;
    create schema elsewhere;
    create function f(i_a int4) returns text language sql as 'select ''f''';
    create function g(i_a int4) returns text language sql as 'select ''g''';
    create function there.g(i_a int4) returns text language sql as 'select ''there.g''';
    create function elsewhere.g(i_a int4) returns text language sql as 'select ''elsewhere.g''';
$$);
create function f(i_a int4) returns text language plproxy as $$ cluster 'one'; $$;
select f(1);
create or replace function f(i_a int4) returns text language plproxy as $$ cluster 'one'; target g; $$;
select f(1);
drop function f(int4);
create function f(i_b int4) returns text language plproxy as $$ cluster 'one'; select i_b; $$;
select f(1);
create or replace function f(i_b int4) returns text language plproxy as $$ cluster 'one'; $$;
select f(1);
alter function f(int4) rename to g;
select g(1);
alter function g(int4) set schema there;
select there.g(1);
alter schema there rename to elsewhere;
select elsewhere.g(1);
-- in a prepared statement and in PL/pgSQL, which hold it
prepare call_g as select elsewhere.g(1);
execute call_g;
create or replace function elsewhere.g(i_b int4) returns text language plproxy as $$ cluster 'one'; select 'replaced'; $$;
execute call_g;
deallocate call_g;
-- undone
begin;
create or replace function elsewhere.g(i_b int4) returns text language plproxy as $$ cluster 'one'; select 'undone'; $$;
select elsewhere.g(1);
rollback;
select elsewhere.g(1);
begin;
select elsewhere.g(1);
savepoint s;
create or replace function elsewhere.g(i_b int4) returns text language plproxy as $$ cluster 'one'; select 'undone'; $$;
select elsewhere.g(1);
rollback to s;
select elsewhere.g(1);
commit;

-- an enum with more values, with another name, in another schema, made anew
select on_both($$create type color as enum ('red')$$);
create function paint(i_a color) returns color language plproxy as $$ cluster 'one'; select i_a; $$;
create function paints(i_a color[]) returns setof color[] language plproxy as $$ cluster 'one'; select i_a; $$;
select paint('red'), paints('{red}');
select on_both($$alter type color add value 'green'$$);
select paint('green'), paints('{red,green}');
select on_both($$alter type color rename value 'red' to 'Red'$$);
select paint('Red'), paints('{Red,green}');
select on_both($$alter type color rename to colour$$);
select paint('Red'), paints('{Red,green}');
select on_both($$alter type colour set schema elsewhere$$);
select paint('Red'), paints('{Red,green}');
select on_both($$alter schema elsewhere rename to far$$);
select paint('Red'), paints('{Red,green}');
drop type far.colour cascade;
select count(*) from everywhere('drop type far.colour');
select on_both($$create type color as enum ('blue')$$);
create function paint(i_a color) returns color language plproxy as $$ cluster 'one'; select i_a; $$;
create function paints(i_a color[]) returns setof color[] language plproxy as $$ cluster 'one'; select i_a; $$;
select paint('blue'), paints('{blue}');
select paint('green');

-- a row type as an argument, as a result, inside of one
select on_both($$
    create type pair as (a int4, b int4);
    create type nest as (p pair, ps pair[]);
$$);
create function pass_pair(i_a pair) returns pair language plproxy as $$ cluster 'one'; select (i_a).*; $$;
create function pass_nest(i_a nest) returns setof nest language plproxy as $$ cluster 'one'; select (i_a).*; $$;
select pass_pair('(1,2)'), pass_nest(row(row(1,2), array[row(3,4)::pair])::nest);
select on_both($$alter type pair add attribute c text$$);
select pass_pair('(1,2,3)'), pass_nest(row(row(1,2,3), array[row(3,4,5)::pair])::nest);
select on_both($$alter type pair drop attribute a$$);
select pass_pair('(2,3)'), pass_nest(row(row(2,3), array[row(4,5)::pair])::nest);
select on_both($$alter type pair rename attribute b to z$$);
select (pass_pair('(2,3)')).z, (p).z from pass_nest(row(row(2,3), null)::nest);
select on_both($$alter type pair alter attribute z type text$$);
select pass_pair('(two,3)');
select on_both($$alter type nest drop attribute ps$$);
select pass_nest(row(row(2,3))::nest);

-- a table's columns: their length, their number, all but the name
create table wide (a varchar(3), b int4, c text);
create function get_wide() returns setof wide language plproxy as $$ cluster 'one'; select 'abc' as a, 2 as b, 'c' as c; $$;
create function get_wide_default() returns wide language plproxy as $$ cluster 'one'; $$;
select count(*) from everywhere($$
    create table wide (a text, b int4, c text);
    insert into wide values ('abc', 2, 'c');
    create function get_wide_default() returns setof wide language sql as 'select * from wide';
$$);
select * from get_wide(), get_wide_default();
alter table wide alter column a type varchar(2);
select * from get_wide();
select * from get_wide_default();
alter table wide alter column a type varchar(4), alter column b type text using b || 'x';
select *, pg_typeof(d.b) from get_wide(), get_wide_default() d;
alter table wide drop column c;
select * from get_wide();
select * from get_wide_default();
alter table wide drop column a, drop column b;
select * from get_wide_default();
alter table wide add column b int4;
select * from get_wide_default();
alter table wide rename to wider;
select * from get_wide_default();
begin;
alter table wider add column a text;
select * from get_wide_default();
rollback;
select * from get_wide_default();
-- while a cursor stands in the old rows
begin;
create function get_b() returns setof wider language plproxy as $$ cluster 'four'; run on all; select 1 as b; $$;
declare c cursor for select * from get_b();
fetch 2 from c;
create or replace function get_b() returns setof wider language plproxy as $$ cluster 'four'; run on all; select 2 as b; $$;
select * from get_b();
fetch all from c;
commit;

-- a domain that asks for more, or less
select on_both($$create domain whole as int4$$);
create function pass_whole(i_a int4) returns whole language plproxy as $$ cluster 'one'; select i_a; $$;
create function pass_wholes(i_a int4[]) returns whole[] language plproxy as $$ cluster 'one'; select i_a; $$;
select pass_whole(-1), pass_whole(null), pass_wholes('{-1,null}');
alter domain whole add constraint positive check (value > 0);
select pass_whole(-1);
select pass_wholes('{-1}');
alter domain whole set not null;
select pass_whole(null);
select pass_wholes('{null}');
alter domain whole drop not null;
alter domain whole drop constraint positive;
select pass_whole(-1), pass_whole(null), pass_wholes('{-1,null}');

-- what RUN ON calls
create function hash(i_a int4) returns int4 language sql as 'select 0';
create function where_is(i_a int4) returns text language plproxy as $$ cluster 'four'; run on hash(i_a); select current_database(); $$;
select where_is(1);
create or replace function hash(i_a int4) returns int4 language sql as 'select 1';
select where_is(1);
alter function hash(int4) rename to hash_2;
select where_is(1);
create function hash(i_a int8) returns int8 language sql as 'select 2::int8';
select where_is(1);

drop function where_is, hash, hash_2, pass_whole, pass_wholes, get_b, get_wide, get_wide_default, pass_pair, pass_nest, paint, paints;
drop table wider;
select on_both($$
    drop type color, nest, pair;
    drop domain whole;
    drop schema far cascade;
$$);
select count(*) from everywhere('drop function get_wide_default(), there.g(int4), f(int4), g(int4); drop table wide; drop schema there');
drop function on_both;
