-- Rows are taken as they arrive: a result of any size needs bounded memory, and
-- the columns of an answer are looked at before its rows.
\set VERBOSITY terse
select everywhere($$
    create or replace function many(i_n int4) returns table (i int4, t text, at timestamptz) language sql as
        'select g, ''row '' || g, ''2026-01-01 00:00+00''::timestamptz + g * interval ''1 s''
         from generate_series(1, i_n) g';
    create or replace function many_wide(i_n int4) returns setof text language sql as
        'select repeat(''x'', 1000000) from generate_series(1, i_n)';
    create or replace function fails_late(i_n int4) returns setof int4 language sql as
        'select 1000 / (i_n - g) from generate_series(1, i_n) g';
    create or replace function nothing() returns table (i int4, wrong int4) language sql as 'select 1, 1 where false';
$$);

create function many(i_part int4, i_n int4) returns table (i int4, t text, at timestamptz) language plproxy as
    $$ cluster 'four'; run on i_part; select i, t, at from many(i_n); $$;
create function many_everywhere(i_n int4) returns table (part text, i int4) language plproxy as
    $$ cluster 'four'; run on all; select current_database()::text as part, i from many(i_n); $$;
create function many_wide(i_n int4) returns setof text language plproxy as
    $$ cluster 'four'; run on 0; $$;
create function one_of_many(i_n int4) returns int4 language plproxy as
    $$ cluster 'four'; run on 0; select i from many(i_n); $$;
create function fails_late(i_n int4) returns setof int4 language plproxy as
    $$ cluster 'four'; run on all; $$;
create function nothing() returns table (i int4, right_one int4) language plproxy as
    $$ cluster 'four'; run on 0; select i, wrong from nothing(); $$;
create function nothing_setof() returns setof int4 language plproxy as
    $$ cluster 'four'; run on all; select i, wrong from nothing(); $$;

-- the most memory this backend has ever had, in MB
create function peak() returns int8 language sql as $$
    select (regexp_match(pg_read_file('/proc/self/status'), 'VmHWM:\s+(\d+) kB'))[1]::int8 / 1024;
$$;

-- in a new session, so that the peak is that of these calls
\c
set work_mem = '1MB';
select count(*) from many_everywhere(1);
select peak() as before \gset
select count(*), sum(i), min(t), max(at) at time zone 'utc' as max from many(0, 300000);
select count(*) from (select * from many(0, 300000) limit 3) s;
select count(*), sum(length) from (select length(t) from many_wide(50) t) s;
select one_of_many(300000);
select part, count(*), sum(i) from many_everywhere(50000) group by 1 order by 1;
select peak() - :before < 24 as bounded;

-- partition after partition, in the order in which they were chosen
select part, i from many_everywhere(3);
select array_agg(distinct part || ' ' || (n - i)) from (
    select part, i, row_number() over () as n from many_everywhere(20000)) s;

-- an error after many rows: none of them is returned, the connections are kept
create function pids() returns setof int4 language plproxy as $$ cluster 'four'; run on all; target pid; $$;
select array_agg(pids) as before from pids() \gset
select count(*) from fails_late(20000);
select array_agg(pids) = :'before' as kept from pids();

-- columns are looked at when there are no rows too
select * from nothing();
select * from nothing_setof();

-- no row, one row, more than one
select one_of_many(0);
select one_of_many(1);
select one_of_many(2);

-- values that do not fit are found in mid-stream; the next call is right
create domain small as int4 check (value < 30000);
create function many_small(i_n int4) returns setof small language plproxy as
    $$ cluster 'four'; run on all; select i from many(i_n); $$;
select count(*) from many_small(29999);
select count(*) from many_small(40000);
select count(*) from many_small(10);

-- a domain that calls a proxied function itself, while rows arrive
create function checked_remotely(i_value int4) returns bool language plproxy as
    $$ cluster 'four'; run on 1; select i_value < 5; $$;
create domain checked as int4 check (checked_remotely(value));
create function many_checked(i_n int4) returns setof checked language plproxy as
    $$ cluster 'four'; run on all; select i from many(i_n); $$;
select count(*), sum(many_checked::int4) from many_checked(4);
select count(*) from many_checked(5);
select count(*) from many_checked(4);

select count(*) from everywhere('drop function fails_late, many(int4), many_wide, nothing()');
drop function fails_late, many, many_checked, many_everywhere, many_small, many_wide, nothing, nothing_setof, one_of_many, peak, pids;
drop domain checked, small;
drop function checked_remotely;
