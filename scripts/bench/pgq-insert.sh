# shellcheck shell=bash disable=SC2154
# pgq-insert.sh: events a second into one queue; a topic of drivers/pgq.
#
# pgbench calls pgq.insert_event over prepared statements: one event a transaction;
# 100 statements in one transaction; 1000 events by one statement. The floor is what
# a user could write without us: INSERT, INSERT ... SELECT and COPY into a table of the same
# columns with an index on ev_txid, ev_id from a sequence, ev_time and ev_txid by default.
# Each measurement begins with empty tables and ends with counting that all rows are there.

for side in ours theirs; do
    sql $side "create table plain (like pgq.event_template including defaults);
        create index on plain (ev_txid);
        alter table plain set (autovacuum_enabled = off);
        create sequence plain_id;
        alter table plain alter ev_id set default nextval('plain_id'), alter ev_time set default now()"
done

event="select pgq.insert_event('bench', 'type', '$data');"
echo "$event" >"$dir/single.sql"
{
    echo "begin;"
    for _ in {1..100}; do echo "$event"; done
    echo "commit;"
} >"$dir/transaction.sql"
echo "select count(pgq.insert_event('bench', 'type', '$data')) from generate_series(1, 1000);" >"$dir/statement.sql"
echo "insert into plain (ev_type, ev_data) values ('type', '$data');" >"$dir/plain-single.sql"
echo "insert into plain (ev_type, ev_data) select 'type', '$data' from generate_series(1, 1000);" \
    >"$dir/plain-statement.sql"

# per_second SIDE TABLE SCRIPT PER_TRANSACTION CLIENTS: runs the script, prints the
# rows that it brings into the table a second.
per_second() {
    local side=$1 table=$2 script=$3 per=$4 clients=$5 out tps done_ stored
    sql "$side" "truncate pgq.event_template, plain" >/dev/null
    sql "$side" "checkpoint" >/dev/null
    out=$(client "$side" pgbench -n -M prepared -f "$dir/$script.sql" -c "$clients" -j "$clients" \
        -T "$BENCH_SECONDS" 2>&1) || die "pgbench failed on $side: $out"
    tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
    done_=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
    stored=$(sql "$side" "select count(*) from $table")
    [ "$stored" = $((done_ * per)) ] || die "$side: $stored rows in $table by $done_ transactions of $per"
    awk -v tps="$tps" -v per="$per" 'BEGIN { printf "%.0f\n", tps * per }'
}

# events ours|theirs SCRIPT PER_TRANSACTION CLIENTS: prints events a second.
events() {
    per_second "$1" pgq.event_template "${@:2}"
}

# beside_plain ours|theirs SCRIPT PER_TRANSACTION CLIENTS: ours, and the plain table, on
# one server.
beside_plain() {
    if [ "$1" = ours ]; then
        events ours "${@:2}"
    else
        per_second ours plain "plain-$2" "${@:3}"
    fi
}

for clients in 1 2 8; do
    compare "insert_event/single/clients=$clients" higher events/s "$peer" events single 1 $clients
    compare "floor:insert_event/single/clients=$clients" higher events/s plain-insert beside_plain single 1 $clients
done
compare "insert_event/100-per-transaction/clients=1" higher events/s "$peer" events transaction 100 1
compare "insert_event/1000-per-statement/clients=1" higher events/s "$peer" events statement 1000 1
compare "floor:insert_event/1000-per-statement/clients=1" higher events/s plain-insert-select \
    beside_plain statement 1000 1
