#!/usr/bin/env bash
# Slide "PgQ: Cube Dispatcher": of each record the latest version of the day stays, in
# tables by date; deletes are not supported where all versions are kept.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs cube_dispatcher.py
server server
sql postgres 'create database oltpdb' 'create database cubedb'
sql oltpdb 'create extension pgq' "select pgq.create_queue('facts')" >/dev/null
for db in oltpdb cubedb; do
    sql $db 'create table invoice (id int primary key, customer text, total numeric)' 'create table payment (invoice int, nr int, paid numeric, primary key (invoice, nr))'
done
sql oltpdb "create trigger to_queue after insert or update or delete on invoice for each row execute function pgq.logutriga('facts')" \
    "create trigger to_queue after insert or update or delete on payment for each row execute function pgq.logutriga('facts')"
sql cubedb 'create extension pgq_ext'
# The slide prints no file; these are the keys of the job's manual.
cat >cube.ini <<'INI'
[cube_dispatcher]
job_name = facts_to_cube
src_db = dbname=oltpdb
dst_db = dbname=cubedb
pgq_queue_name = facts
mode = keep_latest
dateformat = YYYY_MM_DD
part_template =
    create table _DEST_TABLE (like _PARENT);
    alter table only _DEST_TABLE add primary key (_PKEY);
logfile = ~/log/%(job_name)s.log
pidfile = ~/pid/%(job_name)s.pid
INI
pidfile=pid/facts_to_cube.pid log=log/facts_to_cube.log
# day TIME: a batch gets a time of our own, before anybody can see its tick.
day() {
    sql oltpdb "select pgq.force_tick('facts')" "begin; select pgq.ticker('facts');
        update pgq.tick set tick_time = '$1' where tick_id = (select max(tick_id) from pgq.tick); commit" >/dev/null
}
rows() { sql cubedb "select * from $1 order by 1, 2"; }
is "cube_dispatcher.py --register" cube_dispatcher.py cube.ini --register
sql oltpdb "insert into invoice values (1, 'ann', 10), (2, 'bob', 20), (3, 'eve', 30)" \
    'update invoice set total = 11 where id = 1' 'update invoice set total = 12 where id = 1' \
    'delete from invoice where id = 3' 'insert into payment values (1, 1, 5), (1, 2, 7)' 'update payment set paid = 6 where nr = 1'
day '2026-11-29 12:00'
is "cube_dispatcher.py -d" cube_dispatcher.py -d cube.ini
is "a record that was created and updated twice is there once" becomes '1|ann|12
2|bob|20' rows invoice_2026_11_29
is "each table has its own" becomes '1|1|6
1|2|7' rows payment_2026_11_29
sql oltpdb 'update invoice set total = 13 where id = 1' "insert into invoice values (4, 'joe', 40)"
day '2026-11-29 23:59'
is "a later batch of the day replaces it" becomes '1|ann|13
2|bob|20
4|joe|40' rows invoice_2026_11_29
sql oltpdb 'update invoice set total = 14 where id = 1' "insert into invoice values (5, 'sue', 50)"
day '2026-11-30 00:01'
is "the next day has what changed then" becomes '1|ann|14
5|sue|50' rows invoice_2026_11_30
is "the day before stays as it was" gives '1|ann|13
2|bob|20
4|joe|40' rows invoice_2026_11_29
is "the tables of the day have the key" gives 'id' sql cubedb "select a.attname from pg_index i join pg_attribute a
    on a.attrelid = i.indrelid and a.attnum = i.indkey[0] where i.indisprimary and i.indrelid = 'invoice_2026_11_30'::regclass"
is "the table itself has none" gives 0 sql cubedb 'select count(*) from invoice'
is "-s ends it" cube_dispatcher.py -s cube.ini
is "its pid file goes along" ended $pidfile
is "the log has no errors" fails 1 grep -E ' (ERROR|WARNING) ' $log

# ---- mode = keep_all

sed -i -e 's/^mode = .*/mode = keep_all/' -e '/add primary key/d' cube.ini
sql oltpdb 'update invoice set total = 15 where id = 1' 'update invoice set total = 16 where id = 1'
day '2026-12-01 10:00'
is "keep_all" cube_dispatcher.py -d cube.ini
is "keeps each version" becomes '1|ann|15
1|ann|16' eval "rows invoice_2026_12_01 | sort"
sql oltpdb 'delete from invoice where id = 1' "insert into invoice values (6, 'tom', 60)"
day '2026-12-01 11:00'
is "it does not support deletes" until_true 30 grep -q 'ERROR .*keep_all takes no deletes' $log
is "nothing of the batch is there" gives '1|ann|15
1|ann|16' eval "rows invoice_2026_12_01 | sort"
is "-k ends it" cube_dispatcher.py -k cube.ini
is "it has ended" ended $pidfile
done_testing
