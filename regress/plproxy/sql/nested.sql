-- Calls within calls, on the same cluster: each has its own state and connection.
\set SHOW_CONTEXT never
create function plus_one(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on i_a; $$;

select plus_one(plus_one(plus_one(0)));

-- a proxy function as hash
create function where_is(i_a int4) returns text language plproxy as $$ cluster 'four'; run on plus_one(i_a); target whoami; $$;
select where_is(a) from generate_series(0, 4) a;

-- a proxy function as the function behind CLUSTER, and behind CONNECT
select count(*) from everywhere($$create function cluster_name() returns text language sql as 'select ''four''::text'$$);
create function cluster_name() returns text language plproxy as $$ cluster 'one'; $$;
create function in_named() returns text language plproxy as $$ cluster cluster_name(); run on 3; target whoami; $$;
select in_named();

-- a domain whose check calls, while rows of another call on the cluster come in
create function is_small(i_a int4) returns bool language plpgsql as $$ begin return plus_one(i_a) < 4; end $$;
create domain small as int4 check (is_small(value));
create function smalls(i_n int4) returns setof small language plproxy as $$
    cluster 'four'; run on all; select * from generate_series(1, i_n);
$$;
select count(*) from smalls(2);
select count(*) from smalls(3);

-- a chain through this database again: proxy, proxy, partition
create function chain(i_depth int4) returns int4 language plpgsql as $$
begin
    return case when i_depth = 0 then 0 else plus_one(next_chain(i_depth - 1)) end;
end;
$$;
create function this_db() returns text language sql as $$ select connstr(current_database()) $$;
create function next_chain(i_depth int4) returns int4 language plproxy as $$ connect this_db(); target chain; $$;
select chain(5);

-- loops in PL/pgSQL; recursion without end is stopped by the server
create function sum_up(i_n int4) returns int4 language plpgsql as $$
declare
    v_sum int4 := 0;
    r record;
begin
    for r in select * from smalls(2) s loop
        v_sum := v_sum + plus_one(r.s);
    end loop;
    for i in 1..i_n loop
        v_sum := v_sum + plus_one(i);
    end loop;
    return v_sum;
end;
$$;
select sum_up(100);
create function endless(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on endless(i_a); $$;
select split_part(attempt('select endless(1)'), ':', 1) limit 1;
select plus_one(1);


-- exceptions in loops, at any depth, while sets of the same cluster are being read
select count(*) from everywhere($$
    create function odd_only(i_a int4) returns int4 language plpgsql as
        'begin if i_a % 2 = 0 then raise ''% is even'', i_a using errcode = ''22000''; end if; return i_a; end';
$$);
create function odd_only(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on i_a; $$;
create function whole(i_n int4) returns setof int4 language plproxy as $$ cluster 'four'; run on 1; select * from generate_series(1, i_n); $$;
create function odd_sum(i_n int4, out good int4, out bad text) language plpgsql as $$
declare
    v_inner int4;
    r record;
begin
    good := 0;
    bad := '';
    for r in select w, plus_one(w) p from whole(i_n) w loop
        begin
            good := good + odd_only(r.w);
            begin
                for v_inner in select odd_only(w) from whole(r.w) w loop
                    good := good + 100;
                end loop;
            exception when data_exception then
                bad := bad || format(' (%s in %s)', sqlerrm, plus_one(r.w));
            end;
        exception when others then
            bad := bad || ' ' || sqlerrm || ' ' || r.p;
        end;
    end loop;
end;
$$;
select * from odd_sum(5);
select * from odd_sum(3) a, lateral odd_sum(a.good - 101) b;

-- a hash that is found by calls, which find theirs by calls, and so on
create function down(i_n int4) returns int4 language plproxy as $$ cluster 'four'; run on down_hash(i_n); select i_n; $$;
create function down_hash(i_n int4) returns int4 language plpgsql as $$
begin
    return case when i_n > 0 then down(i_n - 1) + (select sum(w) from whole(2) w) else 0 end;
end;
$$;
select down(100);
create or replace function down_hash(i_n int4) returns int4 language plpgsql as $$
begin
    return case when i_n > 0 then down(i_n - 1) else odd_only(0) end;
exception when data_exception then
    return case when i_n > 3 then i_n else odd_only(i_n - i_n % 2) end;
end;
$$;
select down(100);

-- a function is replaced by what it calls, and finishes as what it was
create function replacing(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on replace_it(i_a); select i_a + 10; $$;
create function replace_it(i_a int4) returns int4 language plpgsql as $body$
begin
    create or replace function replacing(i_a int4) returns int4 language plproxy as $$ cluster 'four'; run on 0; select i_a + 20; $$;
    create or replace function replace_it(i_a int4) returns int4 language sql as $$ select 7 $$;
    perform replacing(i_a);
    return i_a;
end;
$body$;
select replacing(1);
select replacing(1);
-- and so is a cluster, twice, while a call chooses its partitions
create function bump(i_a int4) returns int4 language plpgsql as $$
begin
    update plproxy.cluster set version = version + 1 where name = 'four';
    return plus_one(i_a);
end;
$$;
create function bumping(i_a int4) returns text language plproxy as $$ cluster 'four'; run on bump(i_a); target whoami; $$;
select bumping(a) from generate_series(0, 3) a;

select count(*) from everywhere('drop function odd_only(int4)');
drop function odd_only, whole, odd_sum, down, down_hash, replacing, replace_it, bump, bumping;
drop function plus_one, where_is, cluster_name, in_named, smalls, chain, next_chain, this_db, sum_up, endless;
drop domain small;
drop function is_small;
