-- Whatever ends a call early ends the queries on its partitions too.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create function sleeper() returns int4 language sql as 'select 1 from pg_sleep(600)';
$$);
create function sleeper() returns setof int4 language plproxy as $$ cluster 'four'; run on all; $$;
create function sleeper_one() returns int4 language plproxy as $$ cluster 'four'; run on 3; target sleeper; $$;
create function pids() returns setof int4 language plproxy as $$ cluster 'four'; run on all; target pid; $$;

-- how many sleepers there are when nothing changes any more
create function sleepers() returns int8 language plpgsql as $$
declare
    v_count int8;
begin
    for i in 1..500 loop
        perform pg_stat_clear_snapshot();
        select count(*) into v_count from pg_stat_activity
        where query like '%sleeper%' and state = 'active' and datname like 'plproxy_part_';
        exit when v_count = 0;
        perform pg_sleep(0.01);
    end loop;
    return v_count;
end;
$$;

-- statement_timeout here; the connections are kept
create table before as select pids() as pid;
set statement_timeout = '200ms';
select sleeper();
select sleeper_one();
reset statement_timeout;
select sleepers();
select count(*) from before join pids() p on p = pid;

-- the cluster's query_timeout
insert into plproxy.config values ('four', 'query_timeout', '2');
update plproxy.cluster set version = version + 1 where name = 'four';
truncate before;
insert into before select pids();
select sleeper();
select sleeper_one();
select sleepers();
select count(*) from before join pids() p on p = pid;
delete from plproxy.config where name = 'four';
update plproxy.cluster set version = version + 1 where name = 'four';

-- a cancel request from elsewhere, here from the partition itself
select count(*) from everywhere($$
    create function cancel_caller(i_pid int4) returns int4 language plpgsql as $f$
    begin
        perform pg_cancel_backend(i_pid);
        perform pg_sleep(600);
        return 1;
    end;
    $f$;
    create function terminate_caller(i_pid int4) returns int4 language plpgsql as $f$
    begin
        perform pg_terminate_backend(i_pid);
        perform pg_sleep(600);
        return 1;
    end;
    $f$;
$$);
create function cancel_caller(i_pid int4) returns int4 language plproxy as $$ cluster 'four'; run on 0; $$;
select cancel_caller(pg_backend_pid());

-- the end of the calling backend: a proxy in between is terminated by its partition
create function terminate_caller(i_pid int4) returns int4 language plproxy as $$ cluster 'four'; run on 0; select terminate_caller(i_pid) as sleeper; $$;
create function terminate_me() returns int4 language sql as 'select terminate_caller(pg_backend_pid())';
create function this_db() returns text language sql as 'select connstr(current_database())';
create function terminate_proxy() returns int4 language plproxy as $$ connect this_db(); target terminate_me; $$;
select attempt('select terminate_proxy()');
select sleepers();

drop table before;
drop function sleeper, sleeper_one, pids, sleepers, cancel_caller, terminate_caller, terminate_me, this_db, terminate_proxy;
