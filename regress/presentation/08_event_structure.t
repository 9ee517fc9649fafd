#!/usr/bin/env bash
# Slides "PgQ event structure" and "PgQ: Producer - API Event Insertion": the table as
# printed beside ours, and events by call, in bulk and by triggers.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
server server
sql postgres 'create database printed' 'create database somedb'
sql somedb 'create extension pgq' "select pgq.create_queue('my_queue')" "select pgq.register_consumer('my_queue', 'reader')" >/dev/null

# ---- the structure

# As printed, in a database without pgq.
sql printed 'create schema pgq'
is "the table as printed" sql printed <<'SQL'
CREATE TABLE pgq.event (  
    ev_id    int8 NOT NULL,  
    ev_txid  int8 NOT NULL DEFAULT txid_current(),  
    ev_time  timestamptz NOT NULL DEFAULT now(),  
    -- rest are user fields --  
    ev_type  text,      -- what to expect from ev_data  
    ev_data  text,      -- main data, urlenc, xml, json  
    ev_extra1 text,    -- metadata  
    ev_extra2 text,    -- metadata  
    ev_extra3 text,    -- metadata  
    ev_extra4 text     -- metadata  
);  
CREATE INDEX txid_idx ON pgq.event (ev_txid);
SQL
event_table=$(sql somedb "select pgq.current_event_table('my_queue')")
# columns TABLE: what a table's columns are. ev_time has its default in pgq.insert_event.
columns() {
    echo "select a.attname, a.atttypid::regtype, a.attnotnull,
        case when a.attname <> 'ev_time' then pg_get_expr(d.adbin, d.adrelid) end
    from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = '$1'::regclass and a.attnum > 0 and a.attname not in ('ev_id', 'ev_owner', 'ev_retry') order by a.attname"
}
is "an event table has these columns" gives "$(sql printed "$(columns pgq.event)")" sql somedb "$(columns "$event_table")"
is "nine of them" gives 9 sql printed "select count(*) from pg_attribute where attrelid = 'pgq.event'::regclass and attnum > 0"
indexed="select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::int2[]) where i.indrelid = '%s'::regclass"
# shellcheck disable=SC2059
is "and the index" gives "$(sql printed "$(printf "$indexed" pgq.event)")" sql somedb "$(printf "$indexed" "$event_table")"

# ---- single events

is "pgq.insert_event(queue, ev_type, ev_data): int8" gives '1|bigint' sql somedb \
    "select i, pg_typeof(i) from pgq.insert_event('my_queue', 'note', 'one') i"
is "an event and a row are one transaction" gives 2 sql somedb 'create table done (n int)' \
    "begin; select pgq.insert_event('my_queue', 'note', 'two'); insert into done values (2); commit"
is "or none" gives 3 sql somedb "begin; select pgq.insert_event('my_queue', 'note', 'never'); insert into done values (3); rollback"
is "a queue that is not there is refused" refuses PGQ01 somedb "select pgq.insert_event('your_queue', 'note', 'x')"
tick somedb my_queue
is "both are read with their metadata" gives '1|note|one|t|t
2|note|two|t|t' events somedb my_queue reader "ev_id, ev_type, ev_data, ev_txid = (select max(e.ev_txid) from pgq.event_template e where e.ev_id = get_batch_events.ev_id),
    ev_time between now() - interval '1 hour' and now()"

# ---- in bulk

is "pgq.current_event_table(queue): text" gives text sql somedb "select pg_typeof(pgq.current_event_table('my_queue'))"
is "COPY into it, in a single transaction" sql somedb <<SQL
begin;
select pgq.current_event_table('my_queue') \\gset
copy :current_event_table (ev_id, ev_time, ev_type, ev_data) from program 'for i in 101 102 103; do printf "%s\\t2026-11-30 10:00\\tcopy\\tn=%s\\n" \$i \$i; done';
commit;
SQL
tick somedb my_queue
is "they are read" gives '101|copy|n=101
102|copy|n=102
103|copy|n=103' events somedb my_queue reader 'ev_id, ev_type, ev_data'

# ---- by triggers

sql somedb <<'SQL'
create table as_sql (id int primary key, name text, n numeric);
create table as_url (like as_sql including all);
create trigger to_queue after insert or update or delete on as_sql for each row execute function pgq.sqltriga('my_queue');
create trigger to_queue after insert or update or delete on as_url for each row execute function pgq.logutriga('my_queue');
begin;
insert into as_sql values (1, 'O''Hara & co', null);
update as_sql set n = 2.5;
delete from as_sql;
insert into as_url values (1, 'O''Hara & co', null);
update as_url set n = 2.5;
delete from as_url;
commit;
SQL
tick somedb my_queue
is "pgq.sqltriga: partial SQL, pgq.logutriga: urlencoded" gives "public.as_sql|I|(id,name,n) values ('1','O''Hara & co',null)
public.as_sql|U|n='2.5' where id='1'
public.as_sql|D|id='1'
public.as_url|I:id|id=1&name=O%27Hara+%26+co&n
public.as_url|U:id|id=1&name=O%27Hara+%26+co&n=2.5
public.as_url|D:id|id=1&name=O%27Hara+%26+co&n=2.5" events somedb my_queue reader 'ev_extra1, ev_type, ev_data'
done_testing
