# shellcheck shell=bash disable=SC2154
# pgq-trigger.sh: what queue triggers add to a plain INSERT; a topic of drivers/pgq.
#
# One client inserts 100 rows by one statement, into a table without a trigger and
# into one whose trigger makes an event of each row: microseconds a row with less
# those without. The plain INSERT itself is the floor.

for side in ours theirs; do
    for table in plain jsontriga logutriga sqltriga; do
        sql $side "create table $table (id serial primary key, name text, note text, born date, seen timestamptz,
            amount numeric, active boolean)"
        [ $table = plain ] || sql $side "create trigger to_queue after insert on $table
            for each row execute function pgq.$table('bench')"
    done
done
for table in plain jsontriga logutriga sqltriga; do
    echo "insert into $table (name, note, born, seen, amount, active)
        select 'O''Hara & Anna', '$data', '2000-02-29', '2000-02-29 12:00:00+00', 12.50, true
          from generate_series(1, 100);" >"$dir/$table.sql"
done

# row_time ours|theirs TABLE: prints microseconds a row; all rows of a table with a
# trigger must have become events.
row_time() {
    local side=$1 table=$2 out tps done_ stored
    sql "$side" "truncate pgq.event_template, $table" >/dev/null
    sql "$side" "checkpoint" >/dev/null
    out=$(client "$side" pgbench -n -M prepared -f "$dir/$table.sql" -T "$BENCH_SECONDS" 2>&1) ||
        die "pgbench failed on $side: $out"
    tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
    done_=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
    if [ "$table" != plain ]; then
        stored=$(sql "$side" "select count(*) from pgq.event_template")
        [ "$stored" = $((done_ * 100)) ] ||
            die "$side: $stored events stored by $done_ statements of 100 rows"
    fi
    awk -v tps="$tps" 'BEGIN { printf "%.4f\n", 1e6 / tps / 100 }'
}

# trigger_added ours|theirs TABLE: prints microseconds that the trigger adds to a row.
trigger_added() {
    local plain with
    plain=$(row_time "$1" plain)
    with=$(row_time "$1" "$2")
    awk -v plain="$plain" -v with="$with" 'BEGIN { printf "%.4f\n", with - plain }'
}

for table in jsontriga logutriga sqltriga; do
    compare "time-added/$table/100-rows-per-statement" lower us/row "$peer" trigger_added "$table"
done
