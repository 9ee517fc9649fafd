# shellcheck shell=bash disable=SC2154
# pgq-trigger.sh: rows a second into a table whose trigger makes an event of each; a
# topic of drivers/pgq. The case inserts 100 rows by one statement.

for side in ours theirs; do
    sql $side "create table account (id serial primary key, name text, note text, born date, active boolean);
        create trigger to_queue after insert on account
            for each row execute function pgq.logutriga('bench')"
done
echo "insert into account (name, note, born, active)
    select 'O''Hara & Anna', '$data', '2000-02-29', true from generate_series(1, 100);" >"$dir/trigger.sql"

# trigger_events ours|theirs SCRIPT PER_TRANSACTION CLIENTS: prints events a second.
trigger_events() {
    local side=$1 script=$2 per=$3 clients=$4 out tps done_ stored
    sql "$side" "truncate pgq.event_template, account" >/dev/null
    sql "$side" "checkpoint" >/dev/null
    out=$(client "$side" pgbench -n -M prepared -f "$dir/$script.sql" -c "$clients" -j "$clients" \
        -T "$BENCH_SECONDS" 2>&1) || die "pgbench failed on $side: $out"
    tps=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out")
    done_=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$out")
    stored=$(sql "$side" "select count(*) from pgq.event_template")
    [ "$stored" = $((done_ * per)) ] ||
        die "$side: $stored events stored by $done_ transactions of $per rows"
    awk -v tps="$tps" -v per="$per" 'BEGIN { printf "%.0f\n", tps * per }'
}

compare "logutriga/100-rows-per-statement/clients=1" higher events/s "$peer" trigger_events trigger 100 1
