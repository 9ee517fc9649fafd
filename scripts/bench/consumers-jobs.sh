# shellcheck shell=bash
# consumers-jobs.sh: the stock jobs; sourced by drivers/consumers, which sets dir and
# sql, for a server with our schema that both sides read.
#
# Theirs are the Python programs of the manuals on Debian's python3-pgq. Each run starts
# a process anew, which reads a backlog and ends. The loaders have no peer there: they
# are held against their goals, and against psql's COPY of the same rows.

job_events=$([ -n "${BENCH_QUICK:-}" ] && echo 20000 || echo 300000)
load_events=$([ -n "${BENCH_QUICK:-}" ] && echo 200000 || echo 1000000)
big_events=$([ -n "${BENCH_QUICK:-}" ] && echo 400000 || echo 5000000)

jobs_setup() {
    local job
    for job in queue_mover simple_serial_consumer table_dispatcher cube_dispatcher; do ln -s skytools "$dir/$job"; done
    "$TOP/scripts/bench/peer-tree" "$dir/tree-python" python3-pgq python3-skytools python3-psycopg2
    sql ours "create database jobs" >/dev/null
    jobs_sql "set client_min_messages = error; create extension pgq; create extension pgq_ext;
        select pgq.create_queue('small'), pgq.create_queue('large'), pgq.create_queue('moved');
        create table orders (id int primary key, username text, email text, amount numeric, note text, ordered_at timestamp, state text);
        create function trivial(username text, email text) returns int language sql as 'select 1';
        select pgq.ticker()" >/dev/null
    jobs_fill small "$job_events"
    cat >"$dir/jobs.py" <<'PY'
import sys
import pgq
import skytools

class QueueMover(pgq.RemoteConsumer):
    def process_remote_batch(self, db, batch_id, ev_list, dst_db):
        rows = []
        for ev in ev_list:
            rows.append([ev.type, ev.data, ev.time])
        pgq.bulk_insert_events(dst_db.cursor(), rows, ['ev_type', 'ev_data', 'ev_time'], self.cf.get('dst_queue_name'))

class SimpleSerialConsumer(pgq.SerialConsumer):
    def process_remote_batch(self, db, batch_id, ev_list, dst_db):
        curs = dst_db.cursor()
        query = self.cf.get("dst_query")
        for ev in ev_list:
            curs.execute(query, skytools.db_urldecode(ev.data))
            curs.fetchone()

kind = {'queue_mover': QueueMover, 'simple_serial_consumer': SimpleSerialConsumer}[sys.argv[1]]
kind(sys.argv[1], 'src_db', 'dst_db', sys.argv[2:]).start()
PY
    python_pgq=python3-pgq-$(dpkg-deb -f "$(compgen -G "$BUILD/peers/python3-pgq_*.deb")" Version | sed 's/[-+].*//')
}
jobs_dsn() { echo "$(dsn ours) dbname=jobs"; }
jobs_sql() { "$dir/tree-ours/bin/psql" -XAtq -v ON_ERROR_STOP=1 "$(jobs_dsn)" -c "$1"; }

# jobs_fill QUEUE N: makes a batch of N events of 200 bytes each, as logutriga writes them.
jobs_fill() {
    jobs_sql "insert into $(jobs_sql "select pgq.current_event_table('$1')") (ev_time, ev_type, ev_data, ev_extra1)
        select now(), 'I:id', 'id=' || i || '&username=user' || i % 100000 || '&email=user' || i || '%40example.com&amount=' || i % 1000 ||
            '.50&note=' || repeat('x', 60) || '+more+text+here&ordered_at=2026-11-' || lpad((1 + i % 30)::text, 2, '0') ||
            '+10%3a00%3a00&state=new', 'public.orders' from generate_series(1, $2) i"
    jobs_sql "select pgq.force_tick('$1')" >/dev/null
    jobs_sql "select pgq.ticker('$1')" >/dev/null
}

# jobs_run SIDE JOB QUEUE LINE...: runs a job from before the batch to its end, and prints
# the seconds it took; keeps its processor time (s) and its largest memory (MB).
jobs_run() {
    local side=$1 job=$2 queue=$3 command=("$dir/$2")
    printf '%s\n' "[$job]" "job_name = bench_$job" "loop_delay = 0" "src_db = $(jobs_dsn)" "dst_db = $(jobs_dsn)" \
        "queue_name = $queue" "${@:4}" >"$dir/job.ini"
    jobs_sql "select pgq.register_consumer_at('$queue', 'bench_$job', (select min(tick_id) from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue where q.queue_name = '$queue'));
        delete from pgq_ext.completed_tick; delete from pgq_ext.completed_batch" >/dev/null
    [ "$side" = ours ] || command=(env "PYTHONPATH=$dir/tree-python/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1
        /usr/bin/python3 "$dir/jobs.py" "$job")
    "$dir/consumerbench" run "${command[@]}" -q "$dir/job.ini" >"$dir/job.run" || return 1
    awk -v cpu="$dir/job-cpu" -v rss="$dir/job-rss" '{ print $1; print $2 >cpu; print $3 >rss }' "$dir/job.run"
}

# small_job SIDE JOB LINE...: prints events a second.
small_job() { jobs_run "$1" "$2" small "${@:3}" | awk -v n="$job_events" '{ print n / $1 }'; }

# mover_floor SIDE: the same beside a COPY by psql from one event table into another.
mover_floor() {
    [ "$1" = theirs ] || { small_job ours queue_mover "dst_queue_name = moved"; return; }
    local columns="ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4" from=$EPOCHREALTIME
    jobs_sql "copy (select $columns from $(jobs_sql "select pgq.current_event_table('small')") order by ev_id) to stdout" |
        jobs_sql "copy $(jobs_sql "select pgq.current_event_table('moved')") ($columns) from stdin" || return 1
    awk -v n="$job_events" -v from="$from" -v to="$EPOCHREALTIME" 'BEGIN { print n / (to - from) }'
}

# load SIDE EVENTS JOB LINE...: prints events a second of the job's own processor time,
# or the goal for theirs, and keeps the memory and the seconds.
load() {
    local side=$1 events=$2 job=$3 took
    [ "$side" = ours ] || { echo 200000; echo 100 >>"$dir/rss-theirs"; return; }
    jobs_sql "do 'declare t text; begin for t in select format(''drop table %I'', tablename) from pg_tables where tablename like ''orders\_%'' loop execute t; end loop; end'"
    took=$(jobs_run ours "$job" large "${@:4}") || return 1
    cat "$dir/job-rss" >>"$dir/rss-ours"
    echo "$took" >"$dir/took"
    awk -v n="$events" '{ print n / $1 }' "$dir/job-cpu"
}
rss() { next "$dir/rss-$1"; }

# beside_copy SIDE EVENTS JOB LINE...: prints events a second of wall time, for theirs of
# a COPY of the same rows by psql, out of one table and into another.
beside_copy() {
    if [ "$1" = ours ]; then
        load "$@" >/dev/null && awk -v n="$2" '{ print n / $1 }' "$dir/took"
        return
    fi
    local table from=$EPOCHREALTIME
    table=$(jobs_sql "select tablename from pg_tables where tablename like 'orders\_%' order by 1 limit 1")
    jobs_sql "set client_min_messages = error; drop table if exists orders_copied; create table orders_copied (like orders including all)"
    from=$EPOCHREALTIME
    jobs_sql "copy $table to stdout" | jobs_sql "copy orders_copied from stdin" || return 1
    awk -v n="$2" -v from="$from" -v to="$EPOCHREALTIME" 'BEGIN { print n / (to - from) }'
}

jobs_cases() {
    local job lines
    compare queue_mover/events higher events/s "$python_pgq" small_job queue_mover "dst_queue_name = moved"
    compare floor:queue_mover/copy higher events/s native mover_floor
    compare simple_serial_consumer/events higher events/s "$python_pgq" small_job simple_serial_consumer \
        "dst_query = select trivial(%%(username)s, %%(email)s)"
    jobs_fill large "$load_events"
    for job in table_dispatcher cube_dispatcher; do
        lines=()
        [ $job = cube_dispatcher ] || lines=("dest_table = orders" "part_field = ordered_at" "part_method = monthly")
        rm -f "$dir"/rss-*
        compare $job/own-cpu higher events/s goal load "$load_events" $job "${lines[@]}"
        compare $job/memory lower MB goal rss
        compare floor:$job/copy higher events/s native beside_copy "$load_events" $job "${lines[@]}"
    done
    jobs_sql "select pgq.drop_queue('large', true), pgq.create_queue('large'), pgq.ticker()" >/dev/null
    jobs_fill large "$big_events"
    rm -f "$dir"/rss-*
    compare "table_dispatcher/batch-of-$big_events/own-cpu" higher events/s goal load "$big_events" table_dispatcher \
        "dest_table = orders" "part_field = ordered_at" "part_method = monthly"
    compare "table_dispatcher/batch-of-$big_events/memory" lower MB goal rss
}
