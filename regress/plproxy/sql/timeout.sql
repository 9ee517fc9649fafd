-- Times of the cluster: connecting, the answer, the remote statement, the life of
-- a connection; in seconds, or finer.
\set SHOW_CONTEXT never
insert into plproxy.cluster values ('time'), ('time2');
insert into plproxy.partition select 'time', i, connstr('plproxy_part' || i) from generate_series(0, 1) i;
create procedure time_set(i_key text, i_val text) language plpgsql as $$
begin
    delete from plproxy.config where name = 'time';
    insert into plproxy.config values ('time', i_key, i_val);
    update plproxy.cluster set version = version + 1 where name = 'time';
end;
$$;
create function nap(i_seconds float8) returns setof text language plproxy as $$
    cluster 'time'; run on all; select 'slept' from pg_sleep(i_seconds);
$$;
create function time_pid() returns int4 language plproxy as $$ cluster 'time'; run on 0; target pid; $$;
create function their_timeout() returns text language plproxy as $$
    cluster 'time'; run on 0; select current_setting('statement_timeout');
$$;

-- statement_timeout: the partition gives up by itself
call time_set('statement_timeout', '1s');
select nap(10);
select nap(0);
select their_timeout();
-- and the connection lives on
select time_pid() = time_pid();
-- in the transaction alone: others who use the session are not concerned
select time_pid() as pid \gset
create function time2_timeout() returns text language plproxy as $$
    cluster 'time2'; select pg_backend_pid() || ' ' || current_setting('statement_timeout');
$$;
insert into plproxy.partition values ('time2', 0, connstr('plproxy_part0'));
select time2_timeout() = :pid || ' 0';
-- nor is what the role has by itself, once the setting is gone
call time_set('statement_timeout', '0');
select their_timeout();
create role plproxy_hasty login;
alter role plproxy_hasty set statement_timeout = '77s';
grant usage on schema plproxy to plproxy_hasty;
grant select on all tables in schema plproxy to plproxy_hasty;
set role plproxy_hasty;
select their_timeout();
reset role;
call time_set('statement_timeout', '2min');
set role plproxy_hasty;
select their_timeout(), their_timeout();
reset role;
-- an error on the partition is that error
create function time_fail() returns int4 language plproxy as $$ cluster 'time'; run on 0; select 1 / 0; $$;
select attempt('select time_fail()');
select their_timeout();
-- parameters, sets, and what the query does, stay as they are
create function time_write(i_n int4) returns setof int4 language plproxy as $$
    cluster 'time'; run on all; select g from generate_series(1, i_n) g;
$$;
select count(*), sum(w) from time_write(1000) w;

-- query_timeout: a partition that is silent
call time_set('query_timeout', '150 ms');
select nap(10);
call time_set('query_timeout', '2');
select nap(10);
select nap(0);

-- connect_timeout: one that does not let us in
create function in_late() returns int4 language plproxy as $$ cluster 'late_in'; target pid; $$;
insert into plproxy.cluster values ('late_in');
insert into plproxy.config values ('late_in', 'connect_timeout', '200ms');
insert into plproxy.partition values ('late_in', 0, connstr('plproxy_part0') || ' options=''-c post_auth_delay=5''');
select clock_timestamp() as began \gset
\set VERBOSITY terse
select in_late();
select clock_timestamp() - :'began' between '200ms' and '4s';
update plproxy.config set key = 'query_timeout' where name = 'late_in';
update plproxy.cluster set version = version + 1 where name = 'late_in';
select in_late();
\set VERBOSITY default

-- connection_lifetime, finer than a second
call time_set('connection_lifetime', '300ms');
select time_pid() as young, clock_timestamp() as opened \gset
select pg_sleep(0.4);
select time_pid() <> :young;

-- connections that were opened together do not end together
insert into plproxy.cluster values ('aging');
insert into plproxy.config values ('aging', 'connection_lifetime', '1s');
insert into plproxy.partition select 'aging', i, connstr('plproxy_part0') || ' application_name=aging' || i from generate_series(0, 31) i;
create function aging() returns setof int4 language plproxy as $$ cluster 'aging'; run on all; target pid; $$;
create function aging_span() returns interval language plpgsql as $$
declare
    v_pids int4[];
    v_left int4;
    v_from timestamptz;
    v_to timestamptz;
begin
    update plproxy.cluster set version = version + 1 where name = 'aging';
    v_pids := array(select aging());
    loop
        select count(*) into v_left from aging() a where a = any(v_pids);
        exit when v_left = 0;
        if v_left < cardinality(v_pids) then
            v_from := coalesce(v_from, clock_timestamp());
            v_to := clock_timestamp();
        end if;
        perform pg_sleep(0.005);
    end loop;
    return coalesce(v_to - v_from, '0');
end;
$$;
-- they were opened within a few ms and end within 100; a machine that halts then shows nothing
do $$
begin
    for i in 1 .. 20 loop
        if aging_span() > '40ms' then
            raise notice 'they end one by one';
            exit;
        end if;
    end loop;
end;
$$;

-- keepalives: the kernel's timers of the sockets towards this server, in 1/100 s
create function keepalive_timers(i_below int4) returns bigint language sql as $$
    select count(*)
    from regexp_split_to_table(pg_read_file('/proc/net/tcp'), '\n') line,
        regexp_match(line, '^ *\d+: [0-9A-F]{8}:[0-9A-F]{4} 0100007F:([0-9A-F]{4}) 01 \S+ 02:([0-9A-F]{8}) ') m
    where m[1] = lpad(upper(to_hex(current_setting('port')::int4)), 4, '0')
      and ('x' || m[2])::bit(32)::int4 < i_below;
$$;
create procedure wait_for_timer(i_below int4) language plpgsql as $$
begin
    for i in 1 .. 600 loop
        exit when keepalive_timers(i_below) > 0;
        perform pg_sleep(0.1);
    end loop;
end;
$$;
select keepalive_timers(1000000000) > 0, keepalive_timers(4400);
call time_set('keepalive_idle', '44s');
select time_pid() is not null;
call wait_for_timer(4401);
select keepalive_timers(4401);
-- what the connect string says comes first
update plproxy.partition set connstr = connstr || ' keepalives_idle=2000' where name = 'time';
call time_set('keepalive_idle', '33s');
select time_pid() is not null;
call wait_for_timer(200001);
select keepalive_timers(200001), keepalive_timers(4401);

delete from plproxy.cluster where name in ('time', 'time2', 'late_in', 'aging');
delete from plproxy.config where name in ('time', 'late_in', 'aging');
delete from plproxy.partition where name in ('time', 'time2', 'late_in', 'aging');
drop function nap, time_pid, their_timeout, time2_timeout, time_fail, time_write, in_late, aging, aging_span, keepalive_timers;
drop procedure time_set, wait_for_timer;
drop owned by plproxy_hasty;
drop role plproxy_hasty;
