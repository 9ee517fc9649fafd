-- What kinds of routines a body may be of, and from where they are called.
\set SHOW_CONTEXT never
select current_database() as proxy_db \gset
\c plproxy_part0
create table kinds_log (i int4);
create procedure log_twice(i_i int4) language plpgsql as $$
begin
    insert into kinds_log values (i_i);
    commit;
    insert into kinds_log values (i_i);
end;
$$;
create function call_log_twice(i_i int4) returns void language plpgsql as 'begin call log_twice(i_i); end';
create function log_once(i_i int4) returns void language sql as 'insert into kinds_log values (i_i)';
\c :proxy_db
\set SHOW_CONTEXT never

-- a procedure asks its partition as a function does
create procedure log(i_i int4) language plproxy as $$ cluster 'four'; run on 0; target log_once; $$;
create procedure add_up(i_a int4, inout b int4, inout c int4) language plproxy as $$
    cluster 'four'; run on i_a; select i_a + b as b, i_a as c;
$$;
call log(1);
call log(i_i => 2);
call add_up(2, 3, null);
do $$
declare
    v_b int4 := 4;
    v_c int4;
begin
    call add_up(1, v_b, v_c);
    raise notice '% %', v_b, v_c;
    commit;
    call log(3);
    rollback;
end
$$;
-- so it calls no procedure there, and nothing there can commit halfway
create procedure log_twice(i_i int4) language plproxy as $$ cluster 'four'; run on 0; $$;
create function call_log_twice(i_i int4) returns void language plproxy as $$ cluster 'four'; run on 0; $$;
create function logged() returns int4[] language plproxy as $$ cluster 'four'; run on 0; select array_agg(l.i order by l.i) from kinds_log l; $$;
call log_twice(4);
select call_log_twice(4);
select logged();
create procedure log_all() language plproxy as $$ cluster 'four'; run on all; select 1; $$;
do language plproxy $$ cluster 'four'; select 1; $$;

-- SELECT INTO would make a table on the partition
create function into_table() returns int4 language plproxy as $$
    cluster 'four';
    select 1 as a into made_by_mistake;
$$;
create function into_table() returns int4 language plproxy as $$ cluster 'four'; select 1 into temp t union all select 2; $$;
set check_function_bodies = off;
create function into_table() returns setof int4 language plproxy as $$ cluster 'four'; run on all; select 1 as into_a into made_by_mistake; $$;
select into_table();
-- a word that is called like that is none of its business
create function no_into() returns text language plproxy as $$
    cluster 'four'; run on 0; select '/* into' || coalesce(to_regclass('made_by_mistake')::text, ' nothing') as into;
$$;
reset check_function_bodies;
select no_into();

-- one that reads strings in another way would see an INTO where we see none
alter database plproxy_part3 set standard_conforming_strings = off;
create function into_there() returns text language plproxy as $$ cluster 'four'; run on 3; select '\' || ' into pg_temp.t --'; $$;
create function pid() returns int4 language plproxy as $$ cluster 'four'; run on 3; $$;
\c -
\set SHOW_CONTEXT never
select pid() \gset
select into_there();
select pid() = :pid;
alter database plproxy_part3 reset standard_conforming_strings;

-- aggregates, operators and casts may stand on one; a window function may not
create function add_on_partition(i_a int4, i_b int4) returns int4 language plproxy as $$
    cluster 'four'; run on 0; select coalesce(i_a, 0) + i_b;
$$;
create aggregate sum_on_partition(int4) (sfunc = add_on_partition, stype = int4);
create operator +& (leftarg = int4, rightarg = int4, function = add_on_partition);
create function box_of(i_a int4) returns box language plproxy as $$ cluster 'four'; run on 0; select box(point(i_a, i_a)); $$;
create cast (int4 as box) with function box_of(int4);
select i, sum_on_partition(i) over (order by i), i +& i as twice, i::box from generate_series(1, 3) i;
create function numbered(i_a int4) returns int4 window language plproxy as $$ cluster 'four'; run on 0; select i_a; $$;
create function fired() returns trigger language plproxy as $$ cluster 'four'; select 1; $$;

-- defaults and named arguments; as many arguments as there can be
create function defaults(i_a int4, i_b int4 default 5, i_c text default 'c') returns text language plproxy as $$
    cluster 'four'; run on i_a; select concat_ws(' ', i_a, i_b, i_c);
$$;
select defaults(1), defaults(1, 2), defaults(i_c => 'd', i_a => 3);
do $$
declare
    v_sum int8;
begin
    execute format('create function hundred(%s) returns int8 language plproxy as %L',
        (select string_agg('a' || i || ' int4', ', ') from generate_series(1, 100) i),
        'cluster ''four''; run on a100; select ' || (select string_agg('a' || i, ' + ') from generate_series(1, 100) i) || ';');
    execute format('select hundred(%s)', (select string_agg(i::text, ', ') from generate_series(1, 100) i)) into v_sum;
    raise notice '%', v_sum;
end
$$;

-- called where rows are filtered, checked, indexed and looked at for statistics
create function where_is(i_a int4) returns text language plproxy as $$ cluster 'four'; run on i_a; target whoami; $$;
create function where_is_always(i_a int4) returns text immutable language plpgsql as 'begin return public.where_is(i_a); end';
create table item (id int4 check (where_is(id) <> 'plproxy_part3'), place text default where_is(2));
create index on item (where_is_always(id));
insert into item (id) values (0), (1), (2), (4);
insert into item (id) values (7);
analyze item;
create view near_items with (security_barrier) as select id, place from item where where_is(id) = 'plproxy_part0';
set enable_seqscan = off;
select * from near_items;
select id from item where where_is_always(id) = 'plproxy_part1';
reset enable_seqscan;

drop table item cascade;
drop cast (int4 as box);
drop operator +& (int4, int4);
drop aggregate sum_on_partition(int4);
drop procedure log, add_up, log_twice;
drop function call_log_twice, logged, into_table, no_into, into_there, pid, add_on_partition, box_of, defaults, hundred, where_is, where_is_always;
