#!/usr/bin/env bash
# Slides "PgQ - Setup" and "PgQ – Configuration": the steps and ticker.ini as printed, and
# when the ticker ticks.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs pgqadm pgqadm.py
server server

# ---- the steps

sql postgres 'create database somedb'
# As printed. ~ is the folder of this test, the server that of PGHOST and PGPORT.
cat >ticker.ini <<'INI'
[pgqadm]
job_name = pgqadm_somedb

db = dbname=somedb

# how often to run maintenance
maint_delay = 600

# how often to check for activity
loop_delay = 0.1

logfile = ~/log/%(job_name)s.log
pidfile = ~/pid/%(job_name)s.pid
INI
pidfile=pid/pgqadm_somedb.pid log=log/pgqadm_somedb.log
is "no queue is made where pgq is not" fails 1 pgqadm.py ticker.ini create my_queue
# mended: the slide writes pggadm.py here.
is "install PgQ internal tables" pgqadm.py ticker.ini install
is "they are there" gives t sql somedb "select pgq.version() >= '4'"
is "launch the ticker as a daemon" pgqadm.py -d ticker.ini ticker
is "which runs" kill -0 "$(cat "$pidfile")"
is "one is enough" fails 1 pgqadm.py -d ticker.ini ticker
is "create a queue" pgqadm.py ticker.ini create my_queue
is "register a consumer" pgqadm.py ticker.ini register my_queue my_consumer
is "it is on the queue" gives 'my_queue|my_consumer' sql somedb \
    'select queue_name, consumer_name from pgq.get_consumer_info()'
is "no consumer goes on a queue that is not there" fails 1 pgqadm.py ticker.ini register your_queue my_consumer
sql somedb "select pgq.insert_event('my_queue', 'greeting', 'hello')" >/dev/null
is "produced events come to the consumer by the ticker alone" becomes 'greeting|hello' \
    events somedb my_queue my_consumer 'ev_type, ev_data'
is "the old name does without .py" gives "$(pgqadm.py ticker.ini config my_queue)" pgqadm ticker.ini config my_queue

# ---- when it ticks

# parameter NAME: its value as `config` shows it.
parameter() { pgqadm.py ticker.ini config my_queue | sed -nE "s/^ *$1 *= *//p"; }
is "ticker_max_count (500)" gives 500 parameter ticker_max_count
is "ticker_max_lag (3 sec)" gives 3s parameter ticker_max_lag
is "ticker_idle_period (60 sec)" gives 60s parameter ticker_idle_period

# produce COUNT: so many events in one transaction.
produce() { sql somedb "select count(pgq.insert_event('my_queue', 'count', n::text)) from generate_series(1, $1) n" >/dev/null; }
ticks() { sql somedb "select count(*) from pgq.tick t join pgq.queue q on t.tick_queue = q.queue_id where q.queue_name = '${1:-my_queue}'"; }
# ticked QUEUE COUNT: so many ticks, or more.
ticked() { [ "$(ticks "$1")" -ge "$2" ]; }
# gap: seconds between the last two ticks of my_queue.
gap="select extract(epoch from t.tick_time - lag(t.tick_time) over (order by t.tick_id)) gap, t.tick_id
    from pgq.tick t join pgq.queue q on t.tick_queue = q.queue_id where q.queue_name = 'my_queue'"
# round: the ticker looks at every queue once more, as the ticks of another one tell.
round() {
    local before
    for _ in 1 2; do
        before=$(ticks witness)
        sql somedb "select pgq.insert_event('witness', 'look', '')" >/dev/null
        until_true 30 ticked witness $((before + 1)) || return 1
    done
}
pgqadm ticker.ini create witness >/dev/null
pgqadm ticker.ini config witness ticker_max_count=1 >/dev/null
pgqadm ticker.ini config my_queue ticker_max_lag=3600 ticker_idle_period=3600 >/dev/null
is "config my_queue ticker_max_count=100" pgqadm.py ticker.ini config my_queue ticker_max_count=100
is "which it says" gives 100 parameter ticker_max_count
is "it takes no nonsense" fails 1 pgqadm.py ticker.ini config my_queue ticker_max_count=many
is "nor an unknown parameter" fails 2 pgqadm.py ticker.ini config my_queue ticker_max_amount=100
tick somedb my_queue
before=$(ticks)
produce 99
is "99 events: the ticker looks" round
is "and makes no tick" gives "$before" ticks
produce 1
is "100 events are a tick" becomes $((before + 1)) ticks
is "round about" round
is "no second one" gives $((before + 1)) ticks

pgqadm ticker.ini config my_queue ticker_max_lag=1 >/dev/null
tick somedb my_queue
before=$(ticks)
produce 1
is "one event is a tick when ticker_max_lag has passed" until_true 30 ticked my_queue $((before + 1))
is "not before" gives t sql somedb "select gap > 0.95 from ($gap) g order by tick_id desc limit 1"

pgqadm ticker.ini config my_queue ticker_max_lag=0.1 ticker_idle_period=0.3 >/dev/null
before=$(sql somedb "select max(tick_id) from ($gap) g")
quiet() { sql somedb "select count(*) > 7 from ($gap) g where tick_id > $before and gap > 0.25"; }
is "without events there is a tick each ticker_idle_period, and no rarer ones" becomes t quiet
is "none of them brings an event" gives '' sql somedb \
    "select tick_id from (select tick_id, tick_event_seq - lag(tick_event_seq) over (order by tick_id) n from pgq.tick where tick_queue = 1) t
    where tick_id > $before and n > 0"

# ---- the daemon

is "-s ends the ticker after its current work" pgqadm.py -s ticker.ini
is "its pid file goes along" ended "$pidfile"
is "the log is where the file says, without errors" fails 1 grep -E ' (ERROR|WARNING) ' "$log"
is "there is a log" grep -q ' INFO ' "$log"
is "there is nothing to end any more" fails 1 pgqadm.py -s ticker.ini
done_testing
