-- However often a function is called, and however its calls fail, a backend does not
-- keep memory for it.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create function twice(i_a int4) returns int4 language sql as 'select i_a * 2';
    create function some_rows(i_a int4, out n int4, out t text) returns setof record language sql as
        'select i, repeat(''x'', 100) from generate_series(1, i_a) i';
    create function any_rows(i_a int4) returns setof record language sql as
        'select i, repeat(''x'', 100) from generate_series(1, i_a) i';
    create function lengths(i_a text[]) returns int4 language sql as 'select cardinality(i_a)';
    create function fails(i_a int4) returns int4 language plpgsql as
        'begin raise ''no %'', i_a using detail = repeat(''x'', 1000); end';
$$);
do $$
begin
    execute format('create server memory foreign data wrapper plproxy options (p0 %L, p1 %L)',
        connstr('plproxy_part0'), connstr('plproxy_part1'));
end
$$;
create user mapping for public server memory;

create function h_plpgsql(i_a int4) returns int4 language plpgsql as $$ begin return i_a; end $$;
create function h_set(i_a int4) returns setof int4 language sql as 'select generate_series(1, 2)';
create function h_row(i_a int4, out h int4, out t text) language sql as $$ select i_a, 'x' $$;
create function h_fails(i_a int4) returns int4 language plpgsql as $$ begin raise 'no %', i_a; end $$;
create function name_of(i_a int4) returns text language sql stable as $$ select 'four'::text $$;

create function by_hash(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on hashint4(i_a) + 1; target twice; $$;
create function by_plpgsql(i_a int4) returns int4 language plproxy as $$ cluster name_of(i_a); run on h_plpgsql(i_a); target twice; $$;
create function by_row(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on h_row(i_a); target twice; $$;
create function by_set(i_a int4) returns setof int4 language plproxy as $$ cluster 'four'; run on h_set(i_a); target twice; $$;
create function on_server(i_a int4) returns int4 language plproxy as $$ cluster 'memory'; run on any; target twice; $$;
create function on_all(i_a int4, out n int4, out t text) returns setof record language plproxy as $$ cluster 'memory'; run on all; target some_rows; $$;
create function in_record(i_a int4) returns setof record language plproxy as $$ cluster 'memory'; run on all; target any_rows; $$;
create function by_split(i_a text[]) returns setof int4 language plproxy as $$ cluster 'four'; split all; run on hashtext(i_a); target lengths; $$;
create function by_connect(i_a int4) returns int4 language plproxy as $$ connect connstr('plproxy_part0'); select i_a * 2; $$;
create function all_fail(i_a int4) returns setof int4 language plproxy as $$ cluster 'memory'; run on all; target fails; $$;
create function remote_fails(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on i_a; target fails; $$;
create function hash_fails(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on h_fails(i_a); target twice; $$;
create function hash_is_null(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on nullif(i_a, i_a); target twice; $$;
create function set_fails(i_a int4) returns setof int4 language plproxy as $$ cluster 'four'; run on h_set(i_a) / 0; target twice; $$;
create function no_cluster(i_a int4) returns int4 language plproxy as $$ cluster 'nosuch'; run on i_a; target twice; $$;
create function many_rows(i_a int4, out n int4, out t text) language plproxy as $$ cluster 'four'; run on i_a; target some_rows; $$;
create function wrong_columns(i_a int4, out x int4) returns setof int4 language plproxy as $$ cluster 'four'; run on i_a; target some_rows; $$;
create function split_fails(i_a text[], i_b int4[]) returns setof int4 language plproxy as $$ cluster 'four'; split all; run on h_fails(i_b); target lengths; $$;

-- Run a statement many times; how often did it fail?
create function many(i_sql text, i_times int4) returns int4 language plpgsql as $$
declare
    v_failed int4 := 0;
begin
    for i in 1..i_times loop
        begin
            execute i_sql using i;
        exception when others then
            v_failed := v_failed + 1;
        end;
    end loop;
    perform pg_stat_force_next_flush();
    return v_failed;
end;
$$;
-- Memory in use is always looked at by the same statement, so that what that needs
-- itself is always the same. Something else may grow once: what calls keep grows in
-- both of two rounds, which are the same. Two bytes a call would be seen.
-- What the server does at times of its own choice must not be seen: autovacuum makes
-- sessions load their caches anew, and a session's statistics wait up to a second or
-- more to be reported, unless that is asked for.
alter system set autovacuum = off;
select pg_reload_conf();
do $$
begin
    while exists (select from pg_stat_activity where backend_type in ('autovacuum launcher', 'autovacuum worker')) loop
        perform pg_stat_clear_snapshot(), pg_sleep(0.01);
    end loop;
end;
$$;
create temp table used (at serial, bytes int8);
prepare look as insert into used (bytes) select sum(used_bytes) from pg_backend_memory_contexts, pg_stat_force_next_flush();
prepare grown as select case when min(g) > 300 then min(g) || ' bytes' else 'no' end grown
    from (select bytes - lag(bytes) over (order by at) g from used order by at desc limit 2) s;

-- the measure sees what is kept
execute look;
execute look;
execute look;
execute grown;
do $$ begin execute format('prepare kept1 as select %L', repeat('x', 100000)); end $$;
execute look;
do $$ begin execute format('prepare kept2 as select %L', repeat('x', 100000)); end $$;
execute look;
execute grown \gset seen_
select :'seen_grown' <> 'no' seen;

-- calls; the first ones fill caches
\set calls '''{select by_hash($1), select by_plpgsql($1), select by_row($1), select by_set($1), select on_server($1), select on_all(3), select on_all(2) limit 1, "select * from in_record(3) as (n int4, t text)", "select by_split(array[$1::text, ''''a'''', ''''b''''])", select by_connect($1)}'''
select many(s, 50), s from unnest(:calls::text[]) s;
execute look;
select many(s, 150), s from unnest(:calls::text[]) s;
execute look;
select many(s, 150), s from unnest(:calls::text[]) s;
execute look;
execute grown;

-- calls that fail, here, there, in the middle and at the end
\set failing '''{select remote_fails($1), select hash_fails($1), select hash_is_null($1), select set_fails($1), select no_cluster($1), select many_rows(3), select wrong_columns($1), "select split_fails(array[''''a''''], array[1])"}'''
select many(s, 50), s from unnest(:failing::text[]) s;
execute look;
select many(s, 150), s from unnest(:failing::text[]) s;
execute look;
select many(s, 150), s from unnest(:failing::text[]) s;
execute look;
execute grown;

-- what is cached is replaced, time and again; partitions fail while others run
create function change(i_what int4) returns int4 language plpgsql as $$
begin
    case i_what
        when 0 then
            create or replace function by_hash(i_a int4) returns int4 language plproxy as 'cluster ''four''; run on hashint4(i_a); target twice;';
        when 1 then
            create or replace function h_plpgsql(i_a int4) returns int4 language plpgsql as 'begin return 1; end';
        when 2 then
            alter user mapping for public server memory options (user 'postgres');
            alter user mapping for public server memory options (drop user);
        when 3 then
            update plproxy.cluster set version = version + 1 where name = 'four';
    end case;
    return by_hash(i_what) + by_plpgsql(i_what) + on_server(i_what);
end;
$$;
\set changes '''{select change(0), select change(1), select change(2), select change(3), select all_fail($1)}'''
select many(s, 20), s from unnest(:changes::text[]) s;
execute look;
select many(s, 30), s from unnest(:changes::text[]) s;
execute look;
select many(s, 30), s from unnest(:changes::text[]) s;
execute look;
execute grown;

alter system reset autovacuum;
select pg_reload_conf();
deallocate all;
drop table used;
drop function h_plpgsql, h_set, h_row, h_fails, name_of, by_hash, by_plpgsql, by_row, by_set, on_server, on_all, in_record,
    by_split, by_connect, remote_fails, hash_fails, hash_is_null, set_fails, no_cluster, many_rows, wrong_columns,
    split_fails, all_fail, many, change;
drop server memory cascade;
select count(*) from everywhere('drop function twice(int4), some_rows(int4), any_rows(int4), lengths(text[]), fails(int4)');

-- notifications that partitions send to a session which something there made listen
-- are not kept
select count(*) from everywhere($$
    create function listens() returns void language plpgsql as 'begin listen plproxy_heard; end';
    create function notifies(i_n int4) returns int8 language sql as
        'select count(pg_notify(''plproxy_heard'', repeat(''x'', 7900) || i)) from generate_series(1, i_n) i';
$$);
create function listens() returns void language plproxy as $$ cluster 'one'; $$;
create function notifies(i_n int4) returns int8 language plproxy as $$ cluster 'one'; $$;
create function resident() returns int8 language sql as $$
    select (regexp_match(pg_read_file('/proc/self/status'), 'VmRSS:\s+(\d+) kB'))[1]::int8 / 1024;
$$;
select listens(), notifies(100);
select resident() as before \gset
select sum(notifies(500)) from generate_series(1, 8);
select resident() - :before < 12 as bounded;
set plproxy.transactions = tied;
select sum(notifies(500)) from generate_series(1, 8);
reset plproxy.transactions;
select resident() - :before < 12 as bounded;
drop function listens, notifies, resident;
select count(*) from everywhere('drop function listens(), notifies(int4)');
