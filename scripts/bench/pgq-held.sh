# shellcheck shell=bash disable=SC2154
# pgq-held.sh: what a transaction that is held open costs; a topic of drivers/pgq.
#
# On both sides at once: 2000 events a second come in, a ticker ticks twice a second, a
# consumer takes each batch, and one session holds its snapshot all the time, so that
# nothing can be vacuumed. Counted at the end are the dead tuples of schema pgq, and how
# long a batch takes at the beginning and at the end. These are counts of one
# run, not a median of pairs. BENCH_HELD is its length in seconds (default 60); 3600 is an
# hour. With --quick it is left out unless BENCH_HELD is set.
[ -z "${BENCH_QUICK:-}" ] || [ -n "${BENCH_HELD:-}" ] || return 0
held_seconds=${BENCH_HELD:-60}
held_rate=2000

held_schema="
create table batch_cost (at timestamptz default clock_timestamp(), seconds float8, events int);
create procedure tick_on(seconds int) language plpgsql as \$\$
declare until timestamptz := clock_timestamp() + make_interval(secs => seconds);
begin
    while clock_timestamp() < until loop
        perform pgq.ticker();
        commit;
        perform pg_sleep(0.5);
    end loop;
end \$\$;
create procedure consume_on(seconds int) language plpgsql as \$\$
declare
    until timestamptz := clock_timestamp() + make_interval(secs => seconds);
    began timestamptz;
    batch bigint;
    n int;
begin
    while clock_timestamp() < until loop
        began := clock_timestamp();
        batch := pgq.next_batch('bench', 'held');
        commit;
        if batch is not null then
            select count(*) into n from pgq.get_batch_events(batch);
            perform pgq.finish_batch(batch);
            commit;
            insert into batch_cost (seconds, events)
            values (extract(epoch from clock_timestamp() - began), n);
            commit;
        else
            perform pg_sleep(0.1);
        end if;
    end loop;
end \$\$;"

# held_load SIDE: all of it, in the background of the caller.
held_load() {
    local side=$1
    {
        echo "begin isolation level repeatable read; select count(*) from pgq.queue;"
        echo "select pg_sleep($((held_seconds + 2)));"
        echo "select 'dead', sum(n_dead_tup) from pg_stat_user_tables where schemaname = 'pgq';"
        echo "commit;"
    } | client "$side" psql -XAtq -F ' ' -v ON_ERROR_STOP=1 >"$dir/held-$side.out" &
    client "$side" psql -Xq -c "call tick_on($held_seconds)" &
    client "$side" psql -Xq -c "call consume_on($held_seconds)" &
    client "$side" pgbench -n -M prepared -f "$dir/held.sql" -c 2 -j 1 -R $held_rate -T "$held_seconds" \
        >"$dir/held-$side.log" 2>&1 &
    wait
}

echo "select pgq.insert_event('bench', 'type', '$data');" >"$dir/held.sql"
for side in ours theirs; do
    sql $side "$held_schema"
    sql $side "truncate pgq.event_template" >/dev/null
    sql $side "select pgq.register_consumer('bench', 'held');
        select pgq.set_queue_config('bench', 'ticker_max_lag', '0.4 s')" >/dev/null
    sql $side "vacuum"
done
say "held open for $held_seconds seconds"
held_load ours &
held_load theirs &
wait

# held_line CASE UNIT OURS THEIRS: less is better.
held_line() {
    awk -v case="$1" -v unit="$2" -v ours="$3" -v theirs="$4" -v peer="$peer" 'BEGIN {
        r = theirs / (ours > 0 ? ours : 1)
        printf "%s\t%.2f\t%.2f\t%.2f\t%.4g\t%.4g\t%s\t%s\n", case, r, r, r, ours, theirs, unit, peer
    }'
}
held_dead() { sed -n 's/^dead //p' "$dir/held-$1.out"; }
# held_cost SIDE asc|desc: median time of a batch in the first or last tenth, in ms
held_cost() {
    sql "$1" "select round((1000 * percentile_cont(0.5) within group (order by seconds))::numeric, 3)
        from (select seconds from batch_cost where events > 0 order by at $2
              limit (select greatest(5, count(*) / 10) from batch_cost)) x"
}
for side in ours theirs; do
    [ -n "$(held_dead $side)" ] || die "$side: the session that holds its snapshot failed: $(cat "$dir/held-$side.out" "$dir/held-$side.log")"
    say "$side: $(grep -E '^(tps|latency average)' "$dir/held-$side.log" | tr '\n' ' ') batches: $(sql $side "select count(*) from batch_cost")"
done
held_line "held-snapshot/${held_seconds}s/dead-tuples" tuples "$(held_dead ours)" "$(held_dead theirs)"
held_line "held-snapshot/${held_seconds}s/batch-at-first" ms "$(held_cost ours asc)" "$(held_cost theirs asc)"
held_line "held-snapshot/${held_seconds}s/batch-at-last" ms "$(held_cost ours desc)" "$(held_cost theirs desc)"
for side in ours theirs; do
    sql $side "select pgq.unregister_consumer('bench', 'held'); drop table batch_cost;
        drop procedure tick_on(int), consume_on(int);" >/dev/null
done
