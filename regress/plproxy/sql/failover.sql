-- When a partition is down: another host, another partition, or without it.
-- (Silent hosts and broken connections need a network that fails: the Go tests
-- in goworkers/internal/plproxy.)
\set SHOW_CONTEXT never
create function db() returns text language sql as 'select current_database()';
select count(*) from everywhere($$
    create function db() returns text language sql as 'select current_database()::text';
    create function only_two() returns setof text language plpgsql as $f$
    begin
        return next current_database();
        if current_database() like '%2' then
            return next 'and more';
            return;
        end if;
        raise exception 'not two' using errcode = 'P1234', detail = 'a detail', hint = 'a hint';
    end;
    $f$;
$$);
insert into plproxy.cluster values ('down');
insert into plproxy.config values ('down', 'modular_mapping', 'on'), ('down', 'failover', 'on');
insert into plproxy.partition values
    ('down', 0, 'host=127.0.0.1 port=1'),
    ('down', 1, 'host=127.0.0.1,127.0.0.1 port=1,2'),
    ('down', 2, format('host=127.0.0.1,127.0.0.1 port=1,%s dbname=plproxy_part2', current_setting('port')));
create function any_db() returns text language plproxy as $$ cluster 'down'; run on any; target db; $$;
create function all_dbs() returns setof text language plproxy as $$ cluster 'down'; run on all; target db; $$;
create function one_db(i_n int4) returns text language plproxy as $$ cluster 'down'; run on i_n; select db(); $$;

-- the third partition answers whichever is chosen, at its second host
select any_db() from generate_series(1, 20) group by 1;
-- what names its partition goes nowhere else, and tells what all hosts said
select attempt('select one_db(0)');
select attempt('select one_db(1)');
select one_db(2);
select attempt('select all_dbs()');

-- partial results
insert into plproxy.config values ('down', 'on_partition_error', 'skip');
update plproxy.cluster set version = version + 1 where name = 'down';
\set VERBOSITY terse
select all_dbs();
select attempt('select one_db(0)');
\set VERBOSITY default

-- without failover, and when all are down
delete from plproxy.config where key = 'failover';
delete from plproxy.partition where name = 'down' and number = 2;
update plproxy.cluster set version = version + 1 where name = 'down';
select attempt('select any_db()') ~ 'partition [01] of cluster' as of_one limit 1;
insert into plproxy.config values ('down', 'failover', 'on');
update plproxy.cluster set version = version + 1 where name = 'down';
create function any_db_error() returns table (state text, message text, partitions int8) language plpgsql as $$
declare
    v_detail text;
begin
    perform any_db();
exception when others then
    get stacked diagnostics state = returned_sqlstate, message = message_text, v_detail = pg_exception_detail;
    select count(*) into partitions from regexp_matches(v_detail, '^partition [01]: ', 'ng');
    return next;
end;
$$;
select * from any_db_error();
-- all of them fail: one of the errors, and a warning for each of the others
set client_min_messages = error;
select regexp_replace(attempt('select all_dbs()'), 'partition [01]', 'partition N') limit 1;
reset client_min_messages;

-- errors of partitions: their rows are left out, those that came before too
delete from plproxy.config where name = 'down';
insert into plproxy.config values ('down', 'on_partition_error', 'skip');
delete from plproxy.partition where name = 'down';
insert into plproxy.partition select 'down', number, connstr from plproxy.partition where name = 'four';
update plproxy.cluster set version = version + 1 where name = 'down';
create function only_two() returns setof text language plproxy as $$ cluster 'down'; run on all; $$;
set client_min_messages = error;
select only_two();
reset client_min_messages;

delete from plproxy.config where name = 'down';
delete from plproxy.partition where name = 'down';
delete from plproxy.cluster where name = 'down';
drop function db, any_db, all_dbs, one_db, any_db_error, only_two;
