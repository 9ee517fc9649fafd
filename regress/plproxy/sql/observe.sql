-- What can be seen: connections, counts of calls, waits, contexts.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create function words(i_n int4) returns setof text language sql as 'select ''abc'' from generate_series(1, i_n)';
    create function fail_on(i_db text) returns setof int4 language plpgsql as $f$
    begin
        if i_db = current_database() then
            raise exception 'no';
        end if;
        perform pg_sleep(600);
    end;
    $f$;
$$);
create function words(i_n int4) returns setof text language plproxy as $$ cluster 'four'; run on all; $$;
create function word(i_n int4) returns text language plproxy as $$ cluster 'four'; run on i_n; select 'four'; $$;
create function fail_on(i_db text) returns setof int4 language plproxy as $$ cluster 'four'; run on all; $$;
create function direct(i_connstr text) returns text language plproxy as $$ connect i_connstr; select 'abc'; $$;
create function lost() returns int4 language plproxy as $$ connect 'host=127.0.0.1 port=1 dbname=nowhere'; $$;
create function unfit() returns setof int4 language plproxy as $$ cluster 'four'; run on 3; select 'x'; $$;
create function unfit_value() returns int4 language plproxy as $$ cluster 'four'; run on 3; select 'x'; $$;
create function unfit_row(out a int4, out b int4) language plproxy as $$ cluster 'four'; run on 2; select 1 as a, 'x' as b; $$;
create function no_row() returns int4 language plproxy as $$ cluster 'four'; run on 1; select 1 where false; $$;
create function three_rows() returns int4 language plproxy as $$ cluster 'four'; run on 1; select 1 from generate_series(1, 3); $$;
create function spread(i_a int4[]) returns int4 language plproxy as $$ cluster 'four'; split i_a; run on i_a; select 1; $$;
-- fresh connections, and counts of this session alone
\c -
\set SHOW_CONTEXT never

-- no connection before the first call
select count(*) from plproxy_connections;
select word(2);
select count(*) from words(1);
select direct(connstr('plproxy_part0'));
select cluster, partition, host, port = current_setting('port')::int4 as port, dbname, usename = current_user as usename, state,
    pid in (select a.pid from pg_stat_activity a) as pid,
    since between now() - interval '1 min' and clock_timestamp() as since, connected_at <= since as connected, prepared >= 0 as prepared
from plproxy_connections
order by cluster, partition;

-- those that are gone do not stay
select pg_terminate_backend(pid, 10000) from plproxy_connections where partition = 2;
select word(2);
select count(*), count(pid) from plproxy_connections;

-- calls, errors, rows and bytes per function, cluster and partition
select plproxy_stat_reset();
select count(*) from words(5);
select count(*) from words(7);
select word(1), word(1);
select direct(connstr('plproxy_part0'));
select fail_on('plproxy_part2');
\set VERBOSITY terse
select lost();
\set VERBOSITY default
select word(null);
select unfit();
select datname = current_database() as here, usename = current_user as me, function, cluster, partition, calls, errors, canceled, rows, bytes
from plproxy_stat_calls
order by function, cluster, partition;
-- times are those of the call, and add up
select function, bool_and(total_time > 0 and max_time > 0 and max_time <= total_time and (calls > 1 or max_time = total_time)),
    bool_and(stats_since between now() - interval '1 min' and clock_timestamp())
from plproxy_stat_calls
group by 1 order by 1;

-- a cancel is nobody's fault
set statement_timeout = '500ms';
select fail_on('nowhere');
reset statement_timeout;
select partition, calls, errors, canceled from plproxy_stat_calls where funcid = 'fail_on'::regproc order by 1;

-- a dropped function keeps its number
select oid as gone from pg_proc where proname = 'direct' \gset
drop function direct;
select function is null, calls from plproxy_stat_calls where funcid = :gone;

-- an answer that does not fit is an error also when it has come whole
select plproxy_stat_reset();
select unfit_value();
select unfit_row();
select no_row();
select three_rows();
select spread('{2,0}');
select spread('{2}');
select spread('{}');
select function, partition, calls, errors, canceled, rows from plproxy_stat_calls order by 1, 2;

-- not counted when told so; only those who may can tell, or reset
select plproxy_stat_reset();
set plproxy.track_calls = off;
select word(1);
select count(*) from plproxy_stat_calls;
reset plproxy.track_calls;
create role plproxy_watcher login;
grant usage on schema plproxy to plproxy_watcher;
grant select on all tables in schema plproxy to plproxy_watcher;
select word(1);
set role plproxy_watcher;
set plproxy.track_calls = off;
select plproxy_stat_reset();
select word(3);
-- one's own
select function, partition, calls from plproxy_stat_calls;
-- everybody's
reset role;
grant pg_read_all_stats to plproxy_watcher;
set role plproxy_watcher;
select function, partition, calls from plproxy_stat_calls order by 1, 2;
reset role;

-- contexts: which partition an error came from, or was waited for
create function contexts(i_sql text) returns setof text language plpgsql as $$
declare
    v_state text;
    v_context text;
begin
    execute i_sql;
exception when others or query_canceled then
    get stacked diagnostics v_state = returned_sqlstate, v_context = pg_exception_context;
    return next v_state;
    return query
        select regexp_replace(line, 'port \d+', 'port N')
        from regexp_split_to_table(v_context, '\n') line
        where line ~ 'PL/Proxy|partition|cluster|CONNECT';
end;
$$;
select contexts($$select fail_on('plproxy_part2')$$);
select contexts($$select lost()$$);
select contexts($$select word(null)$$);
select contexts($$select unfit_value()$$);
select contexts($$select unfit_row()$$);
select contexts($$select no_row()$$);
select contexts($$select three_rows()$$);
select contexts($$select spread('{2,0}')$$);
-- what the functions that describe a cluster throw says which cluster it was
create function unknown() returns int4 language plproxy as $$ cluster 'nowhere'; $$;
select contexts($$select unknown()$$);
alter function plproxy.get_cluster_partitions(text) rename to get_cluster_partitions_well;
create function plproxy.get_cluster_partitions(i_name text) returns setof text language plpgsql as $$ begin raise 'no'; end $$;
insert into plproxy.cluster values ('nowhere');
select contexts($$select unknown()$$);
drop function plproxy.get_cluster_partitions(text);
alter function plproxy.get_cluster_partitions_well(text) rename to get_cluster_partitions;
delete from plproxy.cluster where name = 'nowhere';
set statement_timeout = '500ms';
select contexts($$select fail_on('nowhere')$$);
reset statement_timeout;

-- by which name a partition shows the session: the calling function and database
create function shown() returns text language plproxy as $$ cluster 'four'; run on 1; select current_setting('application_name'); $$;
create function shown(i_sql text) returns text language plproxy as $$ cluster 'four'; run on 1; select current_setting('application_name') || coalesce(i_sql, ''); $$;
create function "shöwn by a name that is longer than what fits"() returns text language plproxy as $$
    cluster 'four'; run on 1; select current_setting('application_name');
$$;
create function shown_connect(i_connstr text) returns text language plproxy as $$ connect i_connstr; select current_setting('application_name'); $$;
create function rename_me() returns text language plproxy as $$ cluster 'four'; run on 1; select set_config('application_name', 'else', false); $$;
create function shown_fail() returns text language plproxy as $$ cluster 'four'; run on 1; select (1 / 0)::text; $$;
\c -
select shown(), "shöwn by a name that is longer than what fits"(), shown('');
select rename_me(), shown();
-- an error takes the name back with all else
select shown_fail();
select shown();
select shown_connect(connstr('plproxy_part0'));
select shown_connect(connstr('plproxy_part0') || ' application_name=mine'), shown_connect(connstr('plproxy_part0') || ' application_name=mine');
\c -
set plproxy.show_function = off;
select shown(), "shöwn by a name that is longer than what fits"();
\c -
select shown();
set plproxy.show_function = off;
select word(1), "shöwn by a name that is longer than what fits"();
reset plproxy.show_function;

drop function shown(), shown(text), "shöwn by a name that is longer than what fits"(), shown_connect, rename_me, shown_fail;
drop function words, word, fail_on, lost, unfit, unfit_value, unfit_row, no_row, three_rows, spread, unknown, contexts;
drop owned by plproxy_watcher;
drop role plproxy_watcher;
