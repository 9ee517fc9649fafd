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

drop function plus_one, where_is, cluster_name, in_named, smalls, chain, next_chain, this_db, sum_up, endless;
drop domain small;
drop function is_small;
