-- Queries run as statements that are prepared on the partitions; what becomes of
-- those there must not be seen in results.
\set VERBOSITY terse
select count(*) from everywhere($$
    create sequence times_called;
    create function get_thing(i int4) returns int4 language sql as 'select i';
    create function prepared() returns setof text language sql as
        'select statement from pg_prepared_statements where name like ''plproxy\_%'' order by statement';
    create function times_called() returns int8 language sql as 'select nextval(''times_called'')';
    create function fake(i_state text, i_message text) returns int4 language plpgsql as $f$
    begin
        perform nextval('times_called');
        raise exception '%', i_message using errcode = i_state;
    end $f$;
$$);

create function get_thing(i int4) returns int4 language plproxy as $$ cluster 'one'; $$;
create function prepared() returns setof text language plproxy as $$ cluster 'one'; $$;
create function times_called() returns int8 language plproxy as $$ cluster 'one'; $$;
create function fake(i_state text, i_message text) returns int4 language plproxy as $$ cluster 'one'; $$;
create function run_one(i_sql text) returns void language plproxy as $$ cluster 'one'; target run_statement; $$;
create view known as select prepared from plproxy_connections where cluster = 'one';

-- prepared once, and used again
\c
select get_thing(1), get_thing(2);
select get_thing(3);
select * from prepared();
select * from known;

-- the session is reset there
select run_one('deallocate all');
select get_thing(4);
select run_one('deallocate all');
select get_thing(5), get_thing(6);
-- "auto" takes that for a pooler, and stops preparing
select * from prepared();
select get_thing(7);
select * from known;

-- "on" goes on
insert into plproxy.config values ('one', 'prepared_statements', 'on');
update plproxy.cluster set version = version + 1 where name = 'one';
do $$
begin
    for i in 1 .. 5 loop
        perform get_thing(i);
        perform run_one('deallocate all');
        if get_thing(i) <> i then
            raise exception 'wrong';
        end if;
    end loop;
end $$;
select * from prepared();

-- what the statement calls is another function now, of another type
select run_one('drop function get_thing(int4)');
select get_thing(1);
select run_one('create function get_thing(i int8) returns text language sql as ''select (i + 100)::text''');
select get_thing(1);
select run_one('create or replace function get_thing(i int8) returns text language sql as ''select (i + 200)::text''');
select get_thing(1);
select run_one('drop function get_thing(int8)');
select run_one('create function get_thing(i int4) returns numeric language sql as ''select i + 300.4''');
select get_thing(1);

-- the row type of the function there changes; columns are named, or behind "*"
select run_one('create table thing (a int4, b text)');
select run_one('create function things() returns setof thing language sql as ''select * from thing''');
select run_one('insert into thing values (1, ''b'')');
create function things(out a int4, out b text) returns setof record language plproxy as $$ cluster 'one'; $$;
create function things_ab(out a int4, out b text) returns setof record language plproxy as
    $$ cluster 'one'; select a, b from things(); $$;
create function things_all(out a int4, out b text) returns setof record language plproxy as
    $$ cluster 'one'; select * from things(); $$;
create function things_table(out a int4, out b text) returns setof record language plproxy as
    $$ cluster 'one'; select t.a, t.b from thing t; $$;
create function things_count() returns int8 language plproxy as $$ cluster 'one'; select count(*) from things(); $$;
create function all_things(out v_kind text, out a int4, out b text) returns setof record language sql as $$
    select 'default', * from things() union all select 'ab', * from things_ab() union all
    select 'all', * from things_all() union all select 'table', * from things_table() union all
    select 'count', things_count()::int4, null;
$$;
select * from all_things();
select run_one('alter table thing alter b type varchar(10), alter a type int8');
select * from all_things();
select run_one('alter table thing add column c int4');
select attempt('select * from things_all()');
select run_one('alter table thing drop column c');
select * from all_things();
select run_one('alter table thing drop column a');
select run_one('alter table thing add column a int4 default 7');
select * from all_things();
select run_one('alter table thing rename to thing_old');
select run_one('create table thing (b text, a int4)');
select run_one('insert into thing values (''new'', 2)');
select run_one('drop function things()');
select run_one('create function things() returns setof thing language sql as ''select * from thing''');
select * from all_things();

-- an argument's type is dropped there and made anew
select run_one('create type weather as enum (''good'', ''bad'')');
select run_one('create function weather_of(i_weather weather) returns text language sql as ''select i_weather::text''');
create type weather as enum ('good', 'bad');
create function weather_of(i_weather weather) returns text language plproxy as $$ cluster 'one'; $$;
select weather_of('good');
select run_one('drop type weather cascade');
select run_one('create type weather as enum (''good'', ''bad'', ''none'')');
select run_one('create function weather_of(i_weather weather) returns text language sql as ''select ''''very '''' || i_weather''');
select weather_of('good');

-- an error of the function itself is not taken for one of the statement: it has
-- run once only, although its words are chosen to deceive
select times_called() as before \gset
select fake('26000', 'prepared statement "x" does not exist');
select fake('0A000', 'cached plan must not change result type');
select fake('42P05', 'prepared statement "x" already exists');
select fake('XX000', 'cache lookup failed for type 1');
select times_called() - :before - 1 as times_four;

-- a cancelled call may or may not have left its statement behind
create function slow(i_s float8) returns text language plproxy as $$ cluster 'one'; select pg_sleep(i_s)::text; $$;
set statement_timeout = '100ms';
select slow(30);
reset statement_timeout;
select slow(0);
select slow(0);

-- there are at most 200 of them
do $$
begin
    for i in 1 .. 250 loop
        execute format('create function number_%s() returns int4 language plproxy as %L',
                       i, format('cluster ''one''; select %s;', i));
    end loop;
    for round in 1 .. 2 loop
        for i in 1 .. 250 loop
            execute format('select number_%s()', i);
        end loop;
    end loop;
end $$;
select count(*) from prepared();
select * from known;
-- those that were closed behind our back do no harm
select run_one('deallocate all');
do $$
begin
    for i in 1 .. 250 loop
        execute format('select number_%s()', i);
    end loop;
end $$;
select count(*) from prepared();

-- "off" prepares nothing
update plproxy.config set val = 'off' where name = 'one' and key = 'prepared_statements';
update plproxy.cluster set version = version + 1 where name = 'one';
select get_thing(1), get_thing(2);
select * from prepared();
select * from known;

delete from plproxy.config where name = 'one' and key = 'prepared_statements';
update plproxy.cluster set version = version + 1 where name = 'one';

do $$ begin for i in 1..250 loop execute format('drop function number_%s()', i); end loop; end $$;
select run_one('drop function fake, get_thing, prepared, things, times_called, weather_of; drop table thing, thing_old; drop sequence times_called; drop type weather');
drop view known;
drop function all_things, fake, get_thing, prepared, run_one, slow, things, things_ab, things_all, things_count, things_table, times_called, weather_of;
drop type weather;
