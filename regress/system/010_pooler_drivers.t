#!/usr/bin/env bash
# 010_pooler_drivers.t: what programs use runs through our pooler in transaction mode as if
# there were no pooler: psycopg2, psycopg 3, psql, pgbench, and the conversation of the JDBC
# driver. More clients than servers, more statements than a server may keep, two loops.
#
# The drivers are Debian's packages, unpacked into a tree of their own (scripts/deps has
# downloaded them), never installed. The one for Java is spoken for by pooler_jdbc.py: Java
# would be 200 MB.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
here=$(cd "$(dirname "$0")" && pwd)
dir=$(scratch system)
pooler=
finish() {
    [ -z "$pooler" ] || { kill -INT "$pooler" && wait "$pooler"; } 2>/dev/null
    "$TOP/scripts/pgcluster" stop "$dir/server" immediate
    rm -rf "$dir"
}
trap finish EXIT
"$TOP/scripts/bench/peer-tree" "$dir/peer" python3-psycopg2 python3-psycopg python3-typing-extensions || exit 1
/usr/bin/python3 -m compileall -q "$dir/peer/usr/lib/python3/dist-packages" # once, not for each of the programs
PGPORT=$("$TOP/scripts/pgcluster" start "$dir/server" "$SKYTOOLS_TEST_TREE" max_prepared_transactions=20) || exit 1
export PGPORT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
psql -d postgres -c "create role rider login superuser password 'saddle'" -c "create database app"
psql -d app -c "create table item (i int check (i >= 0), v text)"

POOLER_PORT=$(free_port)
export POOLER_PORT
cat >"$dir/pooler.ini" <<INI
[databases]
app = host=127.0.0.1 port=$PGPORT pool_size=3
held = host=127.0.0.1 port=$PGPORT dbname=app pool_mode=session
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $POOLER_PORT
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $dir/users.txt
pool_mode = transaction
max_prepared_statements = 4
ignore_startup_parameters = extra_float_digits
threads = 2
admin_users = rider
INI
echo '"rider" "saddle"' >"$dir/users.txt"
mkdir "$dir/bin"
cp "$BUILD/bin/skytools" "$dir/bin/pooler"
"${server_prefix[@]}" "$dir/bin/pooler" "$dir/pooler.ini" >"$dir/pooler.log" 2>&1 &
pooler=$!
export PGUSER=rider PGPASSWORD=saddle
pooled() { "$PGBIN/$1" -p "$POOLER_PORT" "${@:2}"; }
is "the pooler answers" until_true 60 pooled psql -X -d app -c "select 1"

# python PROGRAM CASE...: cases of regress/system/pooler_PROGRAM.py
python() {
    PYTHONPATH=$dir/peer/usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1 \
        timeout 60 /usr/bin/python3 "$here/pooler_$1.py" "${@:2}"
}
is "psycopg2: clients share servers" python psycopg2 queries
is "psycopg2: transactions, of two phases as well" python psycopg2 transactions
is "psycopg2: cursors and large objects" python psycopg2 cursors
is "psycopg2: COPY" python psycopg2 copy
is "psycopg2: cancel" python psycopg2 cancel
is "psycopg2: settings follow" python psycopg2 settings
is "psycopg2: polled connections" python psycopg2 async_clients
is "psycopg2: LISTEN in a session" python psycopg2 notify

is "psycopg 3: a statement goes to each server" python psycopg3 prepared
is "psycopg 3: clients with more statements than servers keep" python psycopg3 prepared_together
is "psycopg 3: types, text and binary" python psycopg3 many_types
is "psycopg 3: errors" python psycopg3 failing
is "psycopg 3: statements after a rollback" python psycopg3 rollback
is "psycopg 3: pipelines" python psycopg3 pipeline
is "psycopg 3: errors in pipelines" python psycopg3 pipeline_errors
is "psycopg 3: a rollback in a pipeline" python psycopg3 pipeline_rollback
is "psycopg 3: COPY" python psycopg3 copy
is "psycopg 3: cursors, rows one by one, two phases" python psycopg3 cursors
is "psycopg 3: cancel" python psycopg3 cancel
is "psycopg 3: late cancels" python psycopg3 cancel_storm
is "psycopg 3: settings follow" python psycopg3 settings
is "psycopg 3: asynchronous connections" python psycopg3 async_clients
is "psycopg 3: LISTEN and PREPARE in a session" python psycopg3 notify

for what in prepared:'named statements after the fifth execution' fetch_size:'portals that are read on after Sync' \
    batch:'batches' errors:'errors' metadata:'descriptions of statements'; do
    is "JDBC: ${what#*:}" python jdbc "${what%%:*}"
done

# psql
rows() { for ((i = 0; i < 2000; i++)); do printf '%d\tline %d \\\\ ä\n' $i $i; done; }
rows >"$dir/rows"
printf '1\tgood\nbad\n' >"$dir/bad"
cat >"$dir/psql.sql" <<SQL
\set ON_ERROR_STOP off
\copy item from '$dir/rows'
\copy item from '$dir/bad'
\copy (select * from item order by i) to '$dir/copied'
\set FETCH_COUNT 90
select i from item order by i limit 1000;
\unset FETCH_COUNT
begin;
\set ON_ERROR_ROLLBACK on
select 1 / 0;
delete from item where i > 2;
commit;
\encoding latin1
\set ON_ERROR_ROLLBACK off
select 'encoding', current_setting('client_encoding'), v from item where i = 2 \g |cat
select format('select %s * 10', i) from item order by i \gexec
select 1 as a \; select 2 as b, count(*) as left from item \gset
select :b, :left;
select :VERSION_NUM >= 160000 as has_bind \gset
\if :has_bind
select \$1::int + \$2 \bind 40 2 \g
\else
select 42;
\endif
delete from item;
SQL
{
    seq 0 999
    printf 'encoding|LATIN1|line 2 \\ \344\n'
    printf '%s\n' 0 10 20 1 '2|3' 42
} >"$dir/psql.expected"
printf '%s\n' 'ERROR:  invalid input syntax for type integer: "bad"' 'ERROR:  division by zero' >"$dir/psql.errors"
run_psql() {
    pooled psql -X -q -At -d app <"$dir/psql.sql" >"$dir/psql.out" 2>"$dir/psql.err" &&
        diff "$dir/psql.expected" "$dir/psql.out" && diff "$dir/psql.errors" <(grep -o 'ERROR: .*' "$dir/psql.err")
}
is "psql: cursors, savepoints, encoding, several statements at once" run_psql
is "psql: \\copy there and back" cmp "$dir/rows" "$dir/copied"

# pgbench; it waits for the answer when it prepares, so a thread with several clients would
# wait for a server that another one of its clients has.
bench() { PGDATABASE=app timeout 60 "$PGBIN/pgbench" -p "$POOLER_PORT" -n -c 10 -j 10 "$@"; }
is "pgbench -i" eval 'PGDATABASE=app pooled pgbench -i -I dtgvp -q'
is "pgbench -M prepared, more statements than a server keeps" bench -t 40 -M prepared
{
    printf '%s\n' '\set a random(1, 100000)' '\set d random(-5000, 5000)' '\startpipeline' 'begin;' \
        'update pgbench_accounts set abalance = abalance + :d where aid = :a;' \
        'select abalance from pgbench_accounts where aid = :a;' \
        'update pgbench_tellers set tbalance = tbalance + :d where tid = :client_id + 1;' \
        'update pgbench_branches set bbalance = bbalance + :d where bid = 1;' \
        'insert into pgbench_history (tid, bid, aid, delta, mtime) values (:client_id + 1, 1, :a, :d, now());' \
        'commit;' '\endpipeline' 'select :a::int + :d::int as sum \gset' '\if :sum <> :a + :d' 'select 1 / 0;' '\endif'
} >"$dir/pipeline.sql"
for mode in extended prepared; do
    is "pgbench -M $mode, pipelines" bench -t 30 -M $mode -f "$dir/pipeline.sql"
done
is "pgbench -M prepared -C" bench -t 5 -M prepared -C -S
balanced() {
    local got
    got=$(psql -U postgres -d app -c "select count(*), sum(delta) = (select sum(abalance) from pgbench_accounts),
        sum(delta) = (select sum(tbalance) from pgbench_tellers), sum(delta) = (select sum(bbalance) from pgbench_branches)
        from pgbench_history")
    [ "$got" = '1000|t|t|t' ] || { echo "$got"; return 1; }
}
is "no transaction was lost or doubled" balanced

# console COLUMN COMMAND: a column of what the console says.
console() {
    pooled psql -X -q -A -P footer=off -d pgbouncer -c "$2" |
        awk -F '|' -v want="$1" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR > 1 && $at["database"] == "app" { print $at[want] }'
}
kept() { [ "$(console prepared_statements 'show servers' | xargs)" = '4 4 4' ] || { console prepared_statements 'show servers'; false; }; }
is "three servers served all of it, with four statements each" kept
reused() {
    local clients servers
    clients=$(console client_parse_count 'show stats_totals') servers=$(console server_parse_count 'show stats_totals')
    echo "$clients from clients, $servers to servers"
    [ "$clients" -gt 500 ] && [ "$servers" -gt 500 ]
}
is "statements were evicted and prepared again" reused

# Nobody was sent away, no server was lost.
trouble() {
    grep -E ' (ERROR|FATAL) |pooler error|closing because' "$dir/pooler.log" |
        grep -vE 'closing because: (client close request|successfully sent cancel request|cancel request for idle client) '
}
is "the log tells of no trouble" fails 1 trouble
done_testing
