-- Which partitions a call runs on.
\set SHOW_CONTEXT never
create function on_all() returns setof text language plproxy as $$ cluster 'four'; run on all; target whoami; $$;
create function on_any() returns text language plproxy as $$ cluster 'four'; run on any; target whoami; $$;
create function on_default() returns text language plproxy as $$ cluster 'four'; target whoami; $$;
create function on_two() returns text language plproxy as $$ cluster 'four'; run on 2; target whoami; $$;
create function on_four() returns text language plproxy as $$ cluster 'four'; run on 4; target whoami; $$;
create function on_arg(i_a int8) returns text language plproxy as $$ cluster 'four'; run on i_a; target whoami; $$;
create function on_small(i_a int2) returns text language plproxy as $$ cluster 'four'; run on $1; target whoami; $$;

select * from on_all();
select on_two(), on_four();
-- a set of databases, in the end every one of them
select count(distinct d) from (select on_any() d from generate_series(1, 200)) s;
select on_default() like 'plproxy_part_';
-- a hash of any size and sign
select on_arg(h) from unnest(array[0, 1, 5, -1, 9223372036854775807, (-9223372036854775808)::int8]) h;
select on_small(-2::int2);
select on_arg(null);

-- functions as hashes: any integer, any language, more SQL behind them
create function hash_int2(a int8) returns int2 language sql as 'select $1::int2';
create function hash_int8(a int8) returns int8 language plpgsql as 'begin return a; end';
create function hash_text(a int8) returns text language sql as 'select $1::text';
create function hash_row(a int8, out h int4, out comment text) language sql as 'select $1::int4, ''x''';
create function hash_set(a int8) returns setof int4 language sql as 'select generate_series(1, $1::int4)';

create function f(i_a int8) returns text language plproxy as $$ cluster 'four'; run on hash_int2(i_a); target whoami; $$;
select f(1), f(2);
create or replace function f(i_a int8) returns text language plproxy as $$ cluster 'four'; run on hash_int8(i_a) + 1; target whoami; $$;
select f(1), f(2), f(null);
set check_function_bodies = off;
create or replace function f(i_a int8) returns text language plproxy as $$ cluster 'four'; run on hash_text(i_a); target whoami; $$;
reset check_function_bodies;
select f(1);
create or replace function f(i_a int8) returns text language plproxy as $$ cluster 'four'; run on hash_row(i_a); target whoami; $$;
select f(3);
create or replace function f(i_a int8) returns text language plproxy as $$ cluster 'four'; run on hash_set(i_a); target whoami; $$;
select f(1);
select f(2);
select f(0);
create or replace function f(i_a int8) returns text language plproxy as $$ cluster 'four'; run on nosuch(i_a); target whoami; $$;
select f(1);

-- a set of hashes chooses several partitions, each once, none is fine too
create function fs(i_a int8) returns setof text language plproxy as $$ cluster 'four'; run on hash_set(i_a); target whoami; $$;
select * from fs(3);
select * from fs(100);
select * from fs(0);

-- partitions with one connect string are one
insert into plproxy.cluster values ('double');
insert into plproxy.partition select 'double', i, connstr('plproxy_part' || i / 2) from generate_series(0, 3) i;
create function on_double() returns setof text language plproxy as $$ cluster 'double'; run on all; target whoami; $$;
select * from on_double();

-- three partitions want modular mapping
insert into plproxy.cluster values ('three');
insert into plproxy.partition select 'three', i, connstr('plproxy_part' || i) from generate_series(0, 2) i;
create function on_three(i_a int8) returns text language plproxy as $$ cluster 'three'; run on i_a; target whoami; $$;
select on_three(4);
insert into plproxy.config values ('three', 'modular_mapping', '1');
select on_three(h) from unnest(array[4, -1, -3, (-9223372036854775808)::int8]) h;

-- CLUSTER and CONNECT by argument and by function
create function c(i_cluster text) returns text language plproxy as $$ cluster i_cluster; run on 1; target whoami; $$;
select c('four'), c('three');
select c(null);
create function pick(i_a int4) returns text language sql as 'select case $1 when 1 then ''four'' when 2 then ''three'' end';
create function c(i_a int4) returns text language plproxy as $$ cluster pick(i_a) || ''; run on 1; target whoami; $$;
select c(1), c(2);
select c(3);
set check_function_bodies = off;
create or replace function c(i_a int4) returns text language plproxy as $$ cluster abs(i_a); run on 1; target whoami; $$;
reset check_function_bodies;
select c(1);
create function d(i_db text) returns text language plproxy as $$ connect connstr(i_db); target whoami; $$;
select d('plproxy_part1'), d('plproxy_part3');
create function e(i_connstr text) returns text language plproxy as $$ connect i_connstr; target whoami; $$;
select e(connstr('plproxy_part2')), e(format('postgresql://127.0.0.1:%s/plproxy_part3', current_setting('port')));
select e(null);
select attempt($$select e('host=127.0.0.1 nonsense=1')$$);
-- what might be a misplaced password is not repeated
select attempt($$select e('host=127.0.0.1 password=a s3cret')$$);

drop function on_all, on_any, on_default, on_two, on_four, on_arg, on_small, hash_int2, hash_int8, hash_text, hash_row,
    hash_set, f, fs, on_double, on_three, c(text), c(int4), pick, d, e;
