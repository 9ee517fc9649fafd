#!/usr/bin/env bash
# 009_pgq_interop.t: what people have for PgQ 3.5 runs against our schema unchanged: the C
# ticker pgqd, the Python framework (all kinds of consumers, producer, status), and SQL that
# goes to the tables.
#
# The programs are Debian's packages, unpacked into a tree of their own (scripts/deps has
# downloaded them), never installed.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
here=$(cd "$(dirname "$0")" && pwd)
dir=$(scratch system)
pids=()
finish() {
    [ ${#pids[@]} = 0 ] || { kill "${pids[@]}" && wait "${pids[@]}"; } 2>/dev/null
    for db in source target; do "$PGBIN/psql" -X -q -d postgres -c "drop database if exists interop_$db (force)"; done
    rm -rf "$dir"
}
trap finish EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
source_db() { psql -d interop_source "$@"; }
target_db() { psql -d interop_target "$@"; }
same() { diff <(printf '%s\n' "${@:2}") <(eval "$1"); }
# says WANT DB SQL: waits until the query gives that.
said() { [ "$(psql -d "interop_$2" -c "$3" 2>&1)" = "$1" ]; }
says() { until_true 60 said "$@" || { psql -d "interop_$2" -c "$3"; false; }; }
shows() { cat "$1"; grep -qE -- "$2" "$1"; }

"$TOP/scripts/bench/peer-tree" "$dir/peer" pgqd python3-pgq python3-skytools python3-psycopg2 || exit 1
python() {
    PYTHONPATH=$dir/peer/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$here/pgq_interop.py" "$@"
}

psql -d postgres -c 'create database interop_source' -c 'create database interop_target'
target_db -c 'create extension pgq_ext'
source_db <<'SQL'
set client_min_messages = warning;
create extension pgq;
create extension pgq_coop;
do 'begin perform pgq.create_queue(''work''), pgq.create_queue(''bystander''); end';
-- as scripts do
update pgq.queue set queue_ticker_max_lag = '100 milliseconds', queue_ticker_idle_period = '1 second',
    queue_rotation_period = '2 seconds' where queue_name = 'work';
SQL
for db in source target; do
    psql -d interop_$db -c 'create table seen (job text, worker text, ev_id int8, ev_type text, ev_data text, retry int4)'
done
# shellcheck disable=SC2016
put() { source_db -v n="$1" -v data="$2" <<<"select count(pgq.insert_event('work', 'sql', :'data' || i)) from generate_series(1, :n) i" >/dev/null; }

# pgqd
cat >"$dir/pgqd.ini" <<INI
[pgqd]
base_connstr = host=127.0.0.1 port=$PGPORT user=postgres
database_list = interop_source
logfile = $dir/pgqd.log
pidfile = $dir/pgqd.pid
syslog = 0
check_period = 1
ticker_period = 0.05
maint_period = 0.2
retry_period = 0.2
stats_period = 1
INI
chmod 777 "$dir"
"${server_prefix[@]}" "$dir/peer/usr/bin/pgqd" "$dir/pgqd.ini" >"$dir/pgqd.out" 2>&1 &
pids+=($!)
is "pgqd is content with our version" until_true 60 grep -q 'interop_source\]: pgq version ok: 4' "$dir/pgqd.log"
is "it ticks all queues" says t source 'select count(*) = 2 from (select tick_queue from pgq.tick group by 1 having count(*) > 1) t'
put 2 'before '
is "and events soon" says t source "select t.tick_event_seq >= 2 from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue
    where q.queue_name = 'work' order by t.tick_id desc limit 1"

# each kind of consumer
# job KIND NAME [LINE...]: writes the INI of a job.
job() {
    {
        printf '%s\n' "[$1]" "job_name = $2" "queue_name = work" "pidfile = $dir/%(job_name)s.pid" \
            "db = host=127.0.0.1 port=$PGPORT user=postgres dbname=interop_source" \
            "target = host=127.0.0.1 port=$PGPORT user=postgres dbname=interop_target" "${@:3}"
    } >"$dir/$2.ini"
}
start() {
    python "$1" --set loop_delay=0.1 "$dir/$2.ini" >"$dir/$2.log" 2>&1 &
    pids+=($!)
}
job plain eager 'pgq_lazy_fetch = 0'
job plain lazy 'pgq_lazy_fetch = 7'
job plain filtered 'table_filter = public.t'
job plain collecting 'pgq_batch_collect_events = 50' 'pgq_batch_collect_interval = 1 second' 'pgq_keep_lag = 10 milliseconds'
job remote remote
job serial serial
job local local "local_tracking_file = $dir/local.tick"
job coop coop1 'consumer_name = coop' 'subconsumer_name = w1' 'subconsumer_timeout = 1 minute'
job coop coop2 'consumer_name = coop' 'subconsumer_name = w2'
job produce produce
# LocalConsumer registers itself.
for name in eager lazy filtered collecting remote serial coop1 coop2; do
    kind=$(sed -n '1s/^\[\(.*\)\]$/\1/p' "$dir/$name.ini")
    is "$name registers" python "$kind" -q --register "$dir/$name.ini"
done
start local local
is "local registers by itself" says 1 source "select count(*) from pgq.get_consumer_info('work', 'local')"
is "all are consumers" says 'collecting coop coop.w1 coop.w2 eager filtered lazy local remote serial' source \
    "select string_agg(consumer_name, ' ' order by consumer_name) from pgq.get_consumer_info('work')"
is "events are produced" python produce -q --set loop_delay=-1 "$dir/produce.ini"
put 50 'sql '
source_db -c "select pgq.insert_event('work', 'again', 'a')" -c "select pgq.insert_event('work', 'again', 'b')" >/dev/null
for kind_name in plain/eager plain/lazy plain/filtered plain/collecting remote/remote serial/serial coop/coop1 coop/coop2; do
    start "${kind_name%/*}" "${kind_name#*/}"
done
# 101 of the producer's, 50, 2 that come again where the job is one that retries.
for name in eager lazy collecting; do
    is "$name gets every event, the retried ones again, each once" says '155|155|2' source \
        "select count(*), count(distinct (ev_id, retry)), count(*) filter (where retry = 1) from seen where job = '$name'"
done
is "filtered gets only its table's" says '101|101' source "select count(*), count(distinct ev_id) from seen where job = 'filtered'"
is "two workers share the events" says '155|155|2' source \
    "select count(*), count(distinct (ev_id, retry)), count(*) filter (where retry = 1) from seen where job in ('coop1', 'coop2')"
for name in remote serial; do
    is "$name applies every event once" says '153|153' target "select count(*), count(distinct ev_id) from seen where job = '$name'"
done
is "local gets every event" says '153|153' source "select count(*), count(distinct ev_id) from seen where job = 'local'"
is "positions are kept on the target" says 'remote serial' target "select (select consumer_id from pgq_ext.completed_batch)
    || ' ' || (select consumer_id from pgq_ext.completed_tick)"

# rotation, while all of that goes on
tables() { source_db -c "select queue_cur_table from pgq.queue where queue_name = 'work'"; }
first=$(tables)
other() { [ "$(tables)" != "$1" ]; }
is "pgqd rotates" until_true 60 other "$first"
second=$(tables)
is "and again" until_true 60 other "$second"
put 20 'late '
is "events go on through it" says '20|20|20|20|20' source "select count(*) filter (where job = 'eager'), count(*) filter (where job = 'lazy'),
    count(*) filter (where job = 'collecting'), count(*) filter (where job like 'coop%'), count(*) filter (where job = 'local')
    from seen where ev_data like 'late %'"
is "to the targets, too" says '40' target "select count(*) from seen where ev_data like 'late %'"

# restarts, repositioning
"$PGBIN/psql" -X -q -d interop_source -c "select pgq.unregister_consumer('work', 'nosuch')" >/dev/null
stop() { python "$1" -q -s "$dir/$2.ini" && until_true 60 fails 0 test ! -e "$dir/$2.pid"; }
is "serial stops" stop serial serial
put 3 'meanwhile '
is "and finds its place again" python serial -q --rewind "$dir/serial.ini"
start serial serial
is "nothing is missing" says '3|3' target "select count(*), count(distinct ev_id) from seen where job = 'serial' and ev_data like 'meanwhile %'"
is "a worker stops" stop coop coop2
is "it can be unregistered" python coop -q --unregister "$dir/coop2.ini"
put 3 'alone '
is "the other one goes on" says 'coop1|3' source "select job, count(*) from seen where job like 'coop%' and ev_data like 'alone %' group by 1"
is "it stops, too" stop coop coop1
is "the group goes" says 1 source "select pgq_coop.unregister_subconsumer('work', 'coop', 'w1', 0)"

# status
printf '%s\n' '[pgqadm]' 'job_name = status' "db = host=127.0.0.1 port=$PGPORT user=postgres dbname=interop_source" >"$dir/status.ini"
status() { python status "$dir/status.ini" >"$dir/status"; }
is "status runs" status
is "it knows the version" shows "$dir/status" 'PgQ version: 4'
is "the queue" shows "$dir/status" '^work  *3/2s  *500/0s/1s'
is "and a consumer" shows "$dir/status" '^ *eager .*s .*s '

# what scripts ask the tables
source_db -c "update pgq.queue set queue_rotation_period = '2 hours' where queue_name = 'work'" \
    -c "select pgq.insert_event('work', 'sql', 'inherited')" >/dev/null
is "all events by inheritance" says t source "select count(*) > 0 from pgq.event_template where ev_data = 'inherited'"
is "joins of queue, tick and subscription" says 'work|t|t' source "select q.queue_name, count(*) > 1, bool_and(t.tick_id > 0) from pgq.queue q
    join pgq.tick t on t.tick_queue = q.queue_id join pgq.subscription s on s.sub_queue = q.queue_id group by 1"
source_db -c "update pgq.queue set queue_ticker_paused = true where queue_name = 'bystander'"
last="select max(tick_id) from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue where q.queue_name"
paused=$(source_db -c "$last = 'bystander'")
work=$(source_db -c "$last = 'work'")
is "others tick" says t source "select ($last = 'work') > $work + 1"
is "one that is paused by an update does not" says "$paused" source "$last = 'bystander'"

# nobody complained
for name in eager lazy filtered collecting remote serial local coop1 coop2; do
    is "$name logs no trouble" fails 1 grep -E 'ERROR|CRITICAL|WARNING|Traceback' "$dir/$name.log"
done
is "nor does pgqd" fails 1 grep -E ' (ERROR|WARNING|FATAL) ' "$dir/pgqd.log"
is "pgqd counts what it does" shows "$dir/pgqd.log" '\{ticks: [1-9][0-9]*, maint: [1-9][0-9]*, retry: [1-9]'
is "pgqd stops" "${server_prefix[@]}" "$dir/peer/usr/bin/pgqd" -s "$dir/pgqd.ini"
is "and is gone" until_true 60 test ! -e "$dir/pgqd.pid"
done_testing
