#!/usr/bin/env bash
# Slides "PgQ: Queue Mover" and "PgQ: Queue Mover Code": the ini file as printed; the
# Python program is the stock job of its name. Online databases and the batch database are
# two servers, both behind a pooler, as in the overall picture, which is what
# "dbname=oltpdb" and "dbname=batchdb" lead to.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs queue_mover.py
server batch
batch=$PGPORT
server oltp
oltp=$PGPORT
sql postgres 'create database oltpdb' 'create database oltpdb2'
PGPORT=$batch sql postgres 'create database batchdb'
pooler "oltpdb = host=127.0.0.1 port=$oltp" "oltpdb2 = host=127.0.0.1 port=$oltp" "batchdb = host=127.0.0.1 port=$batch"
for db in oltpdb oltpdb2 batchdb; do
    sql $db 'create extension pgq' "select pgq.create_queue('batch_events')" \
        "select pgq.set_queue_config('batch_events', 'ticker_max_lag', '0.1')" >/dev/null
done
sql batchdb 'create extension pgq_ext' "select pgq.register_consumer('batch_events', 'reader')" >/dev/null

# As printed: the log goes to pid, the pid file to log, relative to where the job starts.
cat >queue_mover.ini <<'INI'
[queue_mover]  
job_name = eventlog_to_target_mover

src_db = dbname=oltpdb  
dst_db = dbname=batchdb

pgq_queue_name = batch_events  
dst_queue_name = batch_events

pidfile = log/%(job_name)s.pid  
logfile = pid/%(job_name)s.log
INI
pidfile=log/eventlog_to_target_mover.pid
# moved COLUMNS: what has come into batchdb since it was called last.
moved() { tick batchdb batch_events && events batchdb batch_events reader "$1"; }
all_moved() { [ "$(sql batchdb 'select count(*) from pgq.event_template')" -ge "$1" ]; }
done_to() { [ "$(sql "$1" "select last_tick = (select max(tick_id) from pgq.tick) from pgq.get_consumer_info() where consumer_name = '$2'")" = t ]; }

is "queue_mover.py --register" queue_mover.py queue_mover.ini --register
is "it is on the queue under the name of the job" gives eventlog_to_target_mover sql oltpdb 'select consumer_name from pgq.get_consumer_info()'
sql oltpdb "begin; select pgq.insert_event('batch_events', 'login', 'ann', 'e1', 'e2', 'e3', null);
    select pgq.insert_event('batch_events', 'login', 'bob'); commit" >/dev/null
sql oltpdb "begin; select pgq.insert_event('batch_events', 'login', 'never'); rollback" >/dev/null
tick oltpdb batch_events
before=$(sql oltpdb "select string_agg(ev_time::text || ev_type || ev_data, ' ' order by ev_id) from pgq.event_template where ev_data <> 'never'")
is "queue_mover.py -d" queue_mover.py -d queue_mover.ini
is "it runs" kill -0 "$(cat $pidfile)"
is "it comes to the end of the queue" until_true 30 done_to oltpdb eventlog_to_target_mover
is "type, data and time of the events are in the other database" gives "$before" sql batchdb \
    "select string_agg(ev_time::text || ev_type || ev_data, ' ' order by ev_id) from pgq.event_template"
is "and the rest" gives 'login|ann|e1|e2|e3|
login|bob||||' moved 'ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'

# ---- killed in the middle of it

produce() { sql "$1" "select count(pgq.insert_event('batch_events', 'n', n::text)) from generate_series($2, $3) n" >/dev/null && tick "$1" batch_events; }
for i in {0..3}; do
    produce oltpdb $((i * 2000 + 1)) $((i * 2000 + 2000))
    until_true 30 all_moved $((i * 2000 + 2 + 1))
    kill -KILL "$(cat $pidfile)"
    queue_mover.py -d queue_mover.ini || break
done
is "killed four times, it comes to the end" until_true 30 done_to oltpdb eventlog_to_target_mover
is "each event came once, in order" gives "8000|8000|t" sql batchdb \
    "select count(*), count(distinct ev_data), bool_and(n = ev_data::int) from
        (select ev_data, row_number() over (order by ev_id) n from pgq.event_template where ev_type = 'n') e"
moved ev_id >/dev/null

# ---- several producers, one queue

is "a mover for a second partition" queue_mover.py -d queue_mover.ini --set job_name=second_mover --set src_db=dbname=oltpdb2
until_true 30 eval "[ -n \"\$(sql oltpdb2 'select consumer_name from pgq.get_consumer_info()')\" ]"
produce oltpdb 8001 8010
produce oltpdb2 9001 9010
both() { [ "$(sql batchdb "select count(*) from pgq.event_template where ev_data::int > 8000 and ev_type = 'n'")" -ge 20 ]; }
is "both fill it" until_true 30 both
is "with the events of both" gives "$(seq 8001 8010)
$(seq 9001 9010)" eval 'moved ev_data | sort -n'

# ---- what does not fit

is "a queue that is not there is said at the start" fails 1 \
    timeout 30 queue_mover.py queue_mover.ini --set job_name=third --set pgq_queue_name=none
is "so is a job without a target" fails 2 timeout 30 queue_mover.py queue_mover.ini --set dst_db=
for job in eventlog_to_target_mover second_mover; do
    is "$job: -s ends it" queue_mover.py -s queue_mover.ini --set job_name=$job
    is "$job: its pid file goes along" ended log/$job.pid
    is "$job: the log has no errors" fails 1 grep -E ' (ERROR|WARNING) ' pid/$job.log
done
done_testing
