#!/usr/bin/env bash
# 009_pgq_old_schema.t: our ticker works on the schema of PgQ 3.5: it ticks, retries, tells its
# metrics, and a queue that cannot be ticked does not stop the others, as it does under pgqd 3.5.
#
# The schema is Debian's package, unpacked into a server of its own (scripts/deps has
# downloaded it), never installed.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
pid=
finish() {
    [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null
    "$TOP/scripts/pgcluster" stop "$dir/server" immediate 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT

"$TOP/scripts/bench/peer-tree" "$dir/tree" postgresql-15-pgq3 || exit 1
port=$("$TOP/scripts/pgcluster" start "$dir/server" "$dir/tree") || exit 1
server="host=127.0.0.1 port=$port user=postgres"
sql() { "$dir/tree/bin/psql" -XAtq -v ON_ERROR_STOP=1 "$server dbname=postgres" -c "$1" 2>&1; }
gives() { [ "$(sql "$1")" = "$2" ]; }
logged() { grep -q -- "$1" "$dir/log"; }

sql "set client_min_messages = error; create extension pgq"
sql "select pgq.create_queue('bad'), pgq.create_queue('good'), pgq.register_consumer('good', 'c')" >/dev/null
sql "update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
    update pgq.tick set tick_snapshot = '4000000000:4000000000:' where tick_queue = 1"
sql "select pgq.event_retry_raw('good', 'c', now() + interval '1 s', null, now(), 1, 'again', '', null, null, null, null)" >/dev/null
cat >"$dir/pgqd.ini" <<INI
[pgqd]
pidfile = $dir/pgqd.pid
base_connstr = $server
database_list = postgres
ticker_period = 0.05
metrics_listen = 127.0.0.1:0
syslog = 0
INI
"$TOP/scripts/go" build -o "$dir/pgqd" ./cmd/skytools || exit 1
"$dir/pgqd" "$dir/pgqd.ini" 2>"$dir/log" &
pid=$!

is "it knows the version" until_true 60 logged 'pgq version ok database=postgres version=3.5'
is "the good queue is ticked" until_true 60 gives "select count(*) > 5 from pgq.tick where tick_queue = 2" t
is "the bad one is told" until_true 60 logged 'ticker: queue bad: Invalid PgQ state'
is "an event comes back" until_true 60 gives "select ev_type from pgq.event_template" again
listen=$(sed -n 's/.*metrics are served listen=//p' "$dir/log")
told() {
    exec 3<>"/dev/tcp/${listen%:*}/${listen#*:}"
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    grep -E -- "$1" <&3
}
is "the good queue is in the metrics" told '^skytools_queue_ticks_total.*queue="good"'
is "its consumer, too" told '^skytools_queue_consumer_lag_seconds.*consumer="c"'
is "the bad one as failing" told '^skytools_queue_failing.*queue="bad"} 1'
is "the bad queue is told once" [ "$(grep -c 'ticker: queue bad' "$dir/log")" = 1 ]
is "it stops" "$dir/pgqd" -s "$dir/pgqd.ini"
is "and is gone" until_true 60 test ! -e "$dir/pgqd.pid"
is "without an error" [ "$(grep -c ' ERROR ' "$dir/log")" = 0 ]
done_testing
