# shellcheck shell=bash disable=SC2154
# pgq-insert.sh: events a second into one queue; a topic of drivers/pgq.
#
# pgbench calls pgq.insert_event over prepared statements: one event a transaction;
# 100 statements in one transaction; 1000 events by one statement. insert_events gets
# arrays of 500 as text parameters, COPY 10000 rows a transaction into the current table. The
# floor is what a user could write without us: INSERT, INSERT ... SELECT and COPY into
# a table of the same columns with an index on ev_txid, ev_id from a sequence, ev_time and
# ev_txid by default. Notify is beside the same queue without queue_notify, somebody
# listening. Each measurement begins with empty tables and ends with counting that all
# rows are there.

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
# More would not fit into an argument of pgbench.
echo "select pgq.insert_events('bench', '{type}', :arrays);" >"$dir/arrays.sql"
arrays="{$(for _ in {1..500}; do printf '%s,' "$data"; done | sed 's/,$//')}"

copies=$([ -n "${BENCH_QUICK:-}" ] && echo 5 || echo 30)
copied=$((copies * 10000))
rows=$(for _ in {1..10000}; do printf '2026-01-01\ttype\t%s\n' "$data"; done)
# copy_script TABLE: the transactions of a COPY case.
copy_script() {
    local i
    for ((i = 0; i < copies; i++)); do
        printf '%s\n' "begin;" "select $1 as into \\gset" "copy :into (ev_time, ev_type, ev_data) from stdin;" "$rows" \
            "\\." "commit;"
    done
}
copy_script "pgq.current_event_table('bench')" >"$dir/copy.sql"
copy_script "'plain'" >"$dir/plain-copy.sql"

# empty SIDE: as each measurement begins.
empty() {
    client "$1" psql -XAtq -v ON_ERROR_STOP=1 -c "truncate pgq.event_template, plain" -c checkpoint >/dev/null
}

# count_rows SIDE TABLE EXPECTED: dies unless they are all there.
count_rows() {
    local stored
    stored=$(sql "$1" "select count(*) from $2")
    [ "$stored" = "$3" ] || die "$1: $stored rows in $2, $3 were written"
}

# run_script SIDE TABLE SCRIPT PER_TRANSACTION CLIENTS: runs the script, sees to it that its rows
# are in the table, prints pgbench's transactions a second.
run_script() {
    local side=$1 table=$2 script=$3 per=$4 clients=$5 out done_
    local until=(-T "$BENCH_SECONDS")
    [ -z "${BENCH_QUICK:-}" ] || until=(-t $(((per == 1 ? 8000 : 80000 / per) / clients)))
    # Arrays come from outside, as text.
    [ "$script" != arrays ] || until+=(-D "arrays=$arrays")
    empty "$side"
    out=$(client "$side" pgbench -n -M prepared -f "$dir/$script.sql" -c "$clients" -j "$clients" "${until[@]}" 2>&1) ||
        die "pgbench failed on $side: $out"
    done_=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
    count_rows "$side" "$table" $((done_ * per))
    sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out"
}

# events ours|theirs SCRIPT PER_TRANSACTION CLIENTS: prints events a second.
events() {
    run_script "$1" pgq.event_template "${@:2}" | awk -v per="$3" '{ printf "%.0f\n", $1 * per }'
}

# plain SCRIPT PER_TRANSACTION CLIENTS: prints rows a second into the plain table.
plain() {
    run_script ours plain "plain-$1" "${@:2}" | awk -v per="$2" '{ printf "%.0f\n", $1 * per }'
}

# beside_plain ours|theirs SCRIPT PER_TRANSACTION CLIENTS: ours, and the plain table, on
# one server.
beside_plain() {
    if [ "$1" = ours ]; then events "$@"; else plain "${@:2}"; fi
}

# copying SIDE TABLE SCRIPT: prints rows a second.
copying() {
    local start end
    empty "$1"
    start=$(date +%s%N)
    client "$1" psql -XAtq -v ON_ERROR_STOP=1 -f "$dir/$3.sql" >/dev/null || die "psql failed on $1"
    end=$(date +%s%N)
    count_rows "$1" "$2" $copied
    echo $((copied * 1000000 / ((end - start) / 1000)))
}

# copy_events ours|theirs, copy_beside_plain ours|theirs, arrays_beside_copy ours|theirs,
# arrays_beside_plain ours|theirs: print rows a second.
copy_events() { copying "$1" pgq.event_template copy; }
copy_beside_plain() {
    if [ "$1" = ours ]; then copy_events ours; else copying ours plain plain-copy; fi
}
arrays_beside_copy() {
    if [ "$1" = ours ]; then events ours arrays 500 1; else copy_events theirs; fi
}
arrays_beside_plain() {
    if [ "$1" = ours ]; then events ours arrays 500 1; else copying ours plain plain-copy; fi
}

# notified ours|theirs CLIENTS: with and without queue_notify.
notified() {
    sql ours "update pgq.queue set queue_notify = $([ "$1" = ours ] && echo true || echo false)"
    events ours single 1 "$2"
}

# bytes ours|theirs wal|table SCRIPT PER_TRANSACTION: prints bytes an event.
bytes() {
    local side=$1 what=$2 before n
    empty "$side"
    before=$(sql "$side" "select pg_current_wal_insert_lsn()")
    client "$side" pgbench -n -M prepared -f "$dir/$3.sql" -t $((20000 / $4)) >/dev/null 2>&1 ||
        die "pgbench failed on $side"
    n=$(sql "$side" "select count(*) from pgq.event_template")
    if [ "$what" = wal ]; then
        sql "$side" "select round((pg_current_wal_insert_lsn() - '$before') / $n.0, 1)"
    else
        sql "$side" "select round(sum(pg_total_relation_size(i.inhrelid)) / $n.0, 1)
            from pg_inherits i join pg_inherits q on q.inhrelid = i.inhparent
            where q.inhparent = 'pgq.event_template'::regclass"
    fi
}

for clients in 1 $([ -n "${BENCH_QUICK:-}" ] || echo 2) 8; do
    compare "insert_event/single/clients=$clients" higher events/s "$peer" events single 1 "$clients"
    compare "floor:insert_event/single/clients=$clients" higher events/s plain-insert beside_plain single 1 "$clients"
done
[ -n "${BENCH_QUICK:-}" ] ||
    compare "insert_event/100-per-transaction/clients=1" higher events/s "$peer" events transaction 100 1
compare "insert_event/1000-per-statement/clients=1" higher events/s "$peer" events statement 1000 1
compare "floor:insert_event/1000-per-statement/clients=1" higher events/s plain-insert-select \
    beside_plain statement 1000 1
compare "copy/current_event_table" higher events/s "$peer" copy_events
compare "floor:copy/current_event_table" higher events/s plain-copy copy_beside_plain
compare "insert_events/arrays-of-500" higher events/s "$peer-copy" arrays_beside_copy
compare "floor:insert_events/arrays-of-500" higher events/s plain-copy arrays_beside_plain

mkfifo "$dir/listener"
client ours psql -Xq <"$dir/listener" >/dev/null 2>&1 &
exec 8>"$dir/listener"
echo "listen pgq_insert;" >&8
compare "floor:insert_event/notify/clients=8" higher events/s without-notify notified 8
exec 8>&-

for script in "single 1" "statement 1000"; do
    [ -z "${BENCH_QUICK:-}" ] || [ "$script" = "single 1" ] || continue
    # shellcheck disable=SC2086
    compare "insert_event/wal-per-event/${script#* }-per-transaction" lower bytes "$peer" bytes wal $script
done
compare "insert_event/table-per-event" lower bytes "$peer" bytes table single 1
