#!/usr/bin/env bash
# 009_pgq_old_schema.t: our ticker works on the schema of PgQ 3.5: it ticks, retries, tells its
# metrics, and a queue that cannot be ticked does not stop the others, as it does under pgqd 3.5.
# Programs read batches of any size there. pgqadm does there what can be done, and says of the rest that it needs pgq 4.0.
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

"$TOP/scripts/go" build -o "$dir/pgqd" ./cmd/skytools || exit 1
ln -s pgqd "$dir/pgqadm"
printf '[pgqadm]\ndb = %s dbname=postgres\n' "$server" >"$dir/pgqadm.ini"
# admin CODE OUTPUT ARG...: pgqadm ends with CODE and says OUTPUT, and no more.
admin() {
    local code=$1 want=$2 got
    shift 2
    got=$("$dir/pgqadm" "$dir/pgqadm.ini" "$@" 2>&1)
    [ $? = "$code" ] && [ "$got" = "$want" ] && return
    printf '# pgqadm %s said\n# %s\n' "$*" "$got"
    return 1
}
prints() {
    local text=$1
    shift
    "$dir/pgqadm" "$dir/pgqadm.ini" "$@" 2>&1 | grep -qF -- "$text"
}
old="and database \"postgres\" has pgq 3.5; update it with: alter extension pgq update"

is "install says what it made" admin 0 "pgq 3.5 installed" install
is "and finds" admin 0 "pgq 3.5 is installed already" install
is "also when it should use the script" admin 0 "pgq 3.5 is installed already" \
    install --plonly --script "$TOP/extensions/pgq/pgq_plonly.sql"
is "version knows it" prints "pgq 3.5" version
is "create works" admin 0 "queue a created" create a
is "register works" admin 0 "consumer c registered on queue a" register a c
is "with a tick, too" admin 0 "consumer c on queue a moved to tick 1" register a c --at 1
is "status works" prints "PgQ version: 3.5" status
is "check works" admin 0 "no problem found, 1 queue(s) looked at" check
is "config sets" prints "ticker_max_lag = 1s" config a ticker_max_lag=1s
is "the shell works" admin 0 "REGISTER
UNREGISTER" shell -Q a -c "register consumer e; unregister consumer e"
is "config names what is missing" admin 1 "pgqadm: parameter notify needs pgq 4.0 or newer, $old" config a notify=true
is "and what cannot be set" admin 1 "pgqadm: to set per_tx_limit needs pgq 4.0 or newer, $old" config a per_tx_limit=3
is "a value that is refused is told as such" prints "invalid input syntax for type interval" config a rotation_period=soon
while read -r line; do
    # shellcheck disable=SC2086
    is "$line wants 4.0" admin 1 "pgqadm: this needs pgq 4.0 or newer, $old" $line
done <<'LIST'
register a d --slots 2
consumer-config
consumer-config a c max_retries=1
pause a c
resume a c
seek a c 1 hour ago
blockers
dlq count
dlq count a c
dlq list a c
dlq retry a c --all
dlq delete a c 1
rebase a
LIST
while read -r line; do
    is "so it does in the shell: $line" admin 1 "pgqadm: this needs pgq 4.0 or newer, $old" shell -Q a -c "$line"
done <<'LIST'
register consumer d slots 2
alter consumer c set max_retries = 1
pause consumer c
resume consumer c
seek consumer c to '2030-01-01'
show blockers
LIST
is "a queue with consumers stays" prints "cannot drop queue, consumers still attached" drop a
is "unregister works" admin 0 "consumer c removed from queue a" unregister a c
is "drop works" admin 0 "queue a dropped" drop a
is "programs read batches by portions" env SKYTOOLS_TEST_DSN="$server dbname=postgres" \
    "$TOP/scripts/go" test -count=1 -run '^Test(Cursor(Gives|Keeps)|FromTables|EventsComeTheSame)' ./pgq
sql "set client_min_messages = error; drop extension pgq; create extension pgq"
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
