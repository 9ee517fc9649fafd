-- What stands behind RUN ON, CLUSTER and CONNECT runs here, and each call sees it
-- as it is now.
\set SHOW_CONTEXT never
create schema other;
create function h(i_a int4) returns int4 language sql as 'select i_a + 1';
create function h_row(i_a int4, out h int4, out comment text) language plpgsql as $$ begin h := i_a; comment := 'x'; end $$;
create function h_set(i_a int4) returns setof int4 language sql as 'select generate_series(1, i_a)';

-- expressions, and queries on what the function returns
create function run_on(i_expression text, i_a int4) returns setof text language plpgsql
set check_function_bodies = off as $$
begin
    execute format('create or replace function f(i_a int4) returns setof text language plproxy as
        ''cluster ''''four''''; run on %s; target whoami;''', i_expression);
    return query select * from attempt(format('select f(%s)', i_a));
    if exists (select from attempt(format('select f(%s)', i_a)) a where a = 'ok') then
        return query select f(i_a);
    end if;
end;
$$;
select run_on('h(i_a)', 1);
select run_on('h(i_a) & 1', 2);
select run_on('h(i_a)::int8 * h(1)', 0);
select run_on('h(i_a) + (select 1)', 1);
select run_on('h(i_a), h(i_a)', 1);
select run_on('h(i_a) a', 1);
select run_on('h(i_a) as a where a > 1', 0);
select run_on('h(i_a) as t(a) where t.a > 1', 1);
select run_on('h_row(i_a)', 3);
select run_on('h_row(i_a) r where r.comment = ''''x''''', 3);
select run_on('h_set(i_a)', 2);
select run_on('h_set(i_a) + 1', 2);
select run_on('h_set(i_a) s order by s desc limit 1', 2);
select run_on('h_set(i_a) with ordinality', 3);
select run_on('max(i_a)', 3);
select run_on('coalesce(h(null), i_a)', 2);
select run_on('h(i_a) &', 2);
select run_on('h(i_a', 2);
select run_on('h(i_a) into x', 2);

-- functions are replaced, change their type, go away and come back
create or replace function f(i_a int4) returns setof text language plproxy as $$ cluster 'four'; run on h(i_a); target whoami; $$;
select f(1);
create or replace function h(i_a int4) returns int4 language sql as 'select i_a';
select f(1);
create or replace function h(i_a int4) returns int4 language plpgsql stable as 'begin return i_a + 2; end';
select f(1);
create or replace function h(i_a int4) returns int4 language plpgsql as 'begin raise ''no %'', i_a; end';
select f(1);
drop function h;
select f(1);
create function h(i_a int4) returns setof int8 language sql as 'select generate_series(1, i_a)';
select f(2);
drop function h;
create function h(i_a int4) returns text language sql as 'select ''1''::text';
select f(1);
drop function h;
create function h(i_a int4, out b int8, out c text) language sql as 'select i_a, ''x''';
select f(1);
drop function h;
create function h(i_a int4) returns setof record language sql as 'select i_a, ''x''';
select f(1);
drop function h;
create function h(i_a int4, out b int8) language sql as 'select i_a';
select f(1);

-- domains count as what they are made of; a row may have lost its first column
create domain whole as int4 check (value > 0);
drop function h;
create function h(i_a int4) returns whole language plpgsql as 'begin return i_a; end';
select f(1);
select f(0);
create type pair as (a text, b int4, c int4);
alter type pair drop attribute a;
drop function h;
create function h(i_a int4) returns pair language sql as 'select row(i_a, 7)::pair';
select f(2);
create or replace function h(i_a int4) returns pair language sql as 'select null::pair';
select f(2);

-- the search_path counts at the time of the call
drop function h;
create function h(i_a int4) returns int4 language sql as 'select 0';
create function other.h(i_a int4) returns int4 language plpgsql as 'begin return 3; end';
select f(1);
set search_path = other, public;
select f(1);
set search_path = public, other;
select f(1);
reset search_path;

-- and the privileges
revoke execute on function h(int4) from public;
create role regress_local login;
grant usage on schema plproxy to regress_local;
grant select on all tables in schema plproxy to regress_local;
set role regress_local;
select f(1);
reset role;
grant execute on function h(int4) to regress_local;
set role regress_local;
select f(1);
reset role;
revoke execute on function h(int4) from regress_local;
set role regress_local;
select f(1);
reset role;
select f(1);

-- volatile functions are called each time and may write; what was written before is seen
create table counter (n int4);
insert into counter values (0);
create or replace function h(i_a int4) returns int4 language sql as 'update counter set n = n + 1 returning n';
select f(a) from generate_series(1, 4) a;
select * from counter;
create or replace function h(i_a int4) returns int4 language sql stable as 'select n from counter';
do $$
begin
    for i in 1..3 loop
        update counter set n = i;
        raise notice '% runs on %', i, f(0);
    end loop;
end
$$;

-- as CLUSTER and CONNECT
create function name_of(i_a int4) returns text language sql as $$ select case i_a when 1 then 'four' else 'on' end $$;
create or replace function f(i_a int4) returns setof text language plproxy as $$ cluster name_of(i_a); run on 1; target whoami; $$;
select f(1);
create or replace function f(i_a int4) returns setof text language plproxy as $$ cluster name_of(i_a) || 'e'; run on 0; target whoami; $$;
select f(2);
create or replace function f(i_a int4) returns setof text language plproxy as $$ cluster name_of(i_a) from generate_series(1, 3) limit 1; run on 0; target whoami; $$;
select f(1);
create or replace function f(i_a int4) returns setof text language plproxy as $$ connect connstr('plproxy_part') || i_a; target whoami; $$;
select f(2);
create function names(i_a int4, out name name, out comment text) language sql as $$ select 'four'::name, 'x' $$;
create or replace function f(i_a int4) returns setof text language plproxy as $$ cluster names(i_a); run on i_a; target whoami; $$;
select f(2);

-- the version of a cluster is asked for with a fresh snapshot, however it is declared
alter function plproxy.get_cluster_version(text) stable;
create function set_partition(i_db text) returns int4 language sql as $$
    update plproxy.partition set connstr = connstr(i_db) where name = 'one';
    update plproxy.cluster set version = version + 1 where name = 'one' returning version;
$$;
create or replace function f(i_a int4) returns setof text language plproxy as $$ cluster 'one'; target whoami; $$;
select f(1), set_partition('plproxy_part2') > 0 moved
union all
select f(1), set_partition('plproxy_part0') > 0;
alter function plproxy.get_cluster_version(text) volatile;
select f(1);

drop function f, h, other.h, h_row, h_set, run_on, name_of, names, set_partition;
drop table counter;
drop domain whole;
drop type pair;
drop schema other;
drop owned by regress_local;
drop role regress_local;
