# shellcheck shell=bash disable=SC2154
# pgq-trigger.sh: what queue triggers add to a plain INSERT; a topic of drivers/pgq.
#
# One client inserts 100 rows by one statement, into a table without a trigger and
# into one whose trigger makes an event of each row: microseconds a row with less
# those without. The plain INSERT itself is the floor.

for side in ours theirs; do
    for table in bare jsontriga logutriga sqltriga; do
        sql $side "create table $table (id serial primary key, name text, note text, born date, seen timestamptz,
            amount numeric, active boolean)"
        [ $table = bare ] || sql $side "create trigger to_queue after insert on $table
            for each row execute function pgq.$table('bench')"
    done
done
for table in bare jsontriga logutriga sqltriga; do
    echo "insert into $table (name, note, born, seen, amount, active)
        select 'O''Hara & Anna', '$data', '2000-02-29', '2000-02-29 12:00:00+00', 12.50, true
          from generate_series(1, 100);" >"$dir/$table.sql"
done

# row_time ours|theirs TABLE: prints microseconds a row; all rows of a table with a
# trigger must have become events.
row_time() {
    local side=$1 table=$2 out tps done_ stored
    local until=(-T "$BENCH_SECONDS")
    [ -z "${BENCH_QUICK:-}" ] || until=(-t 100)
    sql "$side" "truncate pgq.event_template, $table" >/dev/null
    sql "$side" "checkpoint" >/dev/null
    out=$(client "$side" pgbench -n -M prepared -f "$dir/$table.sql" "${until[@]}" 2>&1) ||
        die "pgbench failed on $side: $out"
    tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
    done_=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
    if [ "$table" != bare ]; then
        stored=$(sql "$side" "select count(*) from pgq.event_template")
        [ "$stored" = $((done_ * 100)) ] ||
            die "$side: $stored events stored by $done_ statements of 100 rows"
    fi
    awk -v tps="$tps" 'BEGIN { printf "%.4f\n", 1e6 / tps / 100 }'
}

# trigger_added ours|theirs TABLE: prints microseconds that the trigger adds to a row.
trigger_added() {
    local bare with
    bare=$(row_time "$1" bare)
    with=$(row_time "$1" "$2")
    awk -v bare="$bare" -v with="$with" 'BEGIN { printf "%.4f\n", with - bare }'
}

for table in jsontriga logutriga sqltriga; do
    compare "time-added/$table/100-rows-per-statement" lower us/row "$peer" trigger_added "$table"
done
