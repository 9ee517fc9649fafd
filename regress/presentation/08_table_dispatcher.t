#!/usr/bin/env bash
# Slide "PgQ: Table Dispatcher": url encoded events into daily tables that are made as
# needed, with a choice of the columns, and dropped when they become irrelevant.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs table_dispatcher.py
server server
sql postgres 'create database oltpdb' 'create database logdb'
sql oltpdb 'create extension pgq' "select pgq.create_queue('changes')" >/dev/null
sql oltpdb <<'SQL'
create schema log;
create table log.change (id bigserial primary key, username text not null, what text, secret text, at timestamp not null);
create trigger to_queue before insert on log.change for each row execute function pgq.logutriga('changes', 'SKIP');
SQL
sql logdb 'create extension pgq_ext' 'create schema log' \
    'create table log.change (id bigint primary key, username text not null, action text, at timestamp not null)'
# The slide prints no file; these are the keys of the job's manual.
cat >dispatcher.ini <<'INI'
[table_dispatcher]
job_name = change_log
src_db = dbname=oltpdb
dst_db = dbname=logdb
pgq_queue_name = changes
dest_table = log.change
fields = id, username, what:action, at
part_field = at
part_method = daily
part_template =
    create table _DEST_TABLE (like log.change including all);
    alter table only _DEST_TABLE add constraint _SCHEMA_TABLE_recent check (at > '2026-01-01');
logfile = ~/log/%(job_name)s.log
pidfile = ~/pid/%(job_name)s.pid
INI
pidfile=pid/change_log.pid log=log/change_log.log
tables() { sql logdb "select string_agg(relname, ' ' order by relname) from pg_class where relnamespace = 'log'::regnamespace and relkind = 'r'"; }
rows() { sql logdb "select * from log.change_2026_$1 order by id"; }
is "table_dispatcher.py --register" table_dispatcher.py dispatcher.ini --register
sql oltpdb "insert into log.change (username, what, secret, at) values ('ann', 'log in', 'x', '2026-11-29 23:59:59.5'),
    ('bob', null, 'x', '2026-11-30 00:00'), ('ann', 'a&b=c', 'x', '2026-11-30 12:00'), ('eve', '', 'x', '2026-12-01')"
tick oltpdb changes
is "there is one table at first" gives 'change' tables
is "table_dispatcher.py -d" table_dispatcher.py -d dispatcher.ini
is "there is a table for each day" becomes 'change change_2026_11_29 change_2026_11_30 change_2026_12_01' tables
is "with the columns that were chosen" becomes '4|eve||2026-12-01 00:00:00' rows 12_01
is "each row is in its day" gives '2|bob||2026-11-30 00:00:00
3|ann|a&b=c|2026-11-30 12:00:00' rows 11_30
is "the last moment, too" gives '1|ann|log in|2026-11-29 23:59:59.5' rows 11_29
is "NULL is NULL, and nothing is nothing" gives 't|f' sql logdb \
    'select (select action is null from log.change_2026_11_30 where id = 2), (select action is null from log.change_2026_12_01)'
is "the table itself has none" gives 0 sql logdb 'select count(*) from log.change'
is "the template's constraint is on each" gives 3 sql logdb "select count(*) from pg_constraint where conname like 'log__change_2026%_recent'"

is "an old day is dropped" sql logdb 'drop table log.change_2026_11_29'
sql oltpdb "insert into log.change (username, what, at) values ('joe', 'log in', '2026-12-01 10:00'), ('joe', 'log in', '2026-12-02 10:00')"
tick oltpdb changes
is "the next day is made, the old one is not" becomes 'change change_2026_11_30 change_2026_12_01 change_2026_12_02' tables
is "rows come to a day that is there" becomes '4|eve||2026-12-01 00:00:00
5|joe|log in|2026-12-01 10:00:00' rows 12_01

kill -KILL "$(cat $pidfile)"
sql oltpdb "insert into log.change (username, at) select 'user' || n, '2026-12-03' from generate_series(1, 1000) n"
tick oltpdb changes
table_dispatcher.py -d dispatcher.ini
is "killed and started it loses and doubles nothing" becomes '1000|1000' \
    sql logdb "select count(*), count(distinct username) from log.change_2026_12_03"

is "a row from before is a bad event" sql oltpdb "insert into log.change (username, at) values ('old', '2025-12-31'), ('new', '2026-12-04')"
tick oltpdb changes
is "which the log tells" until_true 30 grep -q 'ERROR .*log__change_2025_12_31_recent' $log
is "nothing of its batch is there" gives 0 sql logdb "select count(*) from pg_class where relname = 'change_2026_12_04' and pg_relation_size(oid) > 0"
is "-s ends it" table_dispatcher.py -s dispatcher.ini
is "its pid file goes along" ended $pidfile
is "on_bad_event = deadletter gives it up" table_dispatcher.py -d dispatcher.ini --set on_bad_event=deadletter
is "and takes the rest" becomes new sql logdb 'select username from log.change_2026_12_04'
is "it is kept with the queue" becomes 1 sql oltpdb "select count(*) from pgq.dead_letter where ev_data like '%username=old%' and reason like '%recent%'"
done_testing
