# shellcheck shell=bash disable=SC2154
# pgq-read.sh: reading batches; a topic of drivers/pgq.
#
# One big batch: the server's time for all its events (EXPLAIN ANALYZE, so without what
# a client costs), and the time until a client has them by COPY. The floor is an ordered
# SELECT of the same rows from the event table, by one process as the function is. Small batches: a client takes 200 batches of 20
# events one after the other (next_batch, get_batch_events, finish_batch), which came after
# a backlog of other events in the same table; once more while another session holds its
# transaction open. The flat: case is ours behind the big backlog beside ours behind a tenth
# of it. Retry: 1000 events of one batch of 100000 in one call, theirs one by one (as many as
# take a while, not all). BENCH_BATCH and BENCH_BACKLOG are events (2 and 10 million, with --quick 0.1 and
# 0.25 million).
batch_events=${BENCH_BATCH:-$([ -n "${BENCH_QUICK:-}" ] && echo 100000 || echo 2000000)}
backlog=${BENCH_BACKLOG:-$([ -n "${BENCH_QUICK:-}" ] && echo 250000 || echo 10000000)}
event_columns="ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4"

# read_queue SIDE QUEUE EVENTS: makes a queue with a consumer and so many events, 10000 in a
# transaction.
read_queue() {
    sql "$1" "select pgq.create_queue('$2'), pgq.register_consumer('$2', 'bench')" >/dev/null
    sql "$1" "update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0' where queue_name = '$2'"
    sql "$1" "do \$\$
        declare
            seq text := queue_event_seq from pgq.queue where queue_name = '$2';
        begin
            for i in 1 .. $3 / 10000 loop
                execute format('insert into %s (ev_id, ev_time, ev_type, ev_data)'
                    ' select nextval(%L), now(), ''type'', ''$data'' from generate_series(1, 10000)',
                    pgq.current_event_table('$2'), seq);
                commit;
            end loop;
        end \$\$"
    sql "$1" "select pgq.ticker('$2')" >/dev/null
}

# small_batches SIDE QUEUE: writes 200 batches of 20 events, prints the tick that
# they begin with.
small_batches() {
    sql "$1" "do \$\$
        begin
            for i in 1 .. 200 loop
                perform pgq.insert_event('$2', 'type', '$data') from generate_series(1, 20);
                commit;
                perform pgq.ticker('$2');
                commit;
            end loop;
        end \$\$"
    sql "$1" "select max(tick_id) - 200 from pgq.tick join pgq.queue on tick_queue = queue_id where queue_name = '$2'"
}

# big_batch ours|theirs: the server's events a second.
big_batch() {
    explained "$1" "select * from pgq.get_batch_events($(sql "$1" "select pgq.next_batch('read', 'bench')"))"
}

# beside_select ours|theirs: ours, and the ordered SELECT, on one server.
beside_select() {
    if [ "$1" = ours ]; then
        big_batch ours
    else
        explained ours "select $event_columns from $read_table order by ev_id" "set max_parallel_workers_per_gather = 0;"
    fi
}

# explained SIDE QUERY [SETTING]: events a second of a query that gives the big batch.
explained() {
    sql "$1" "${3:-} explain (analyze, timing off) $2" | awk -v want="$batch_events" '
        match($0, /actual rows=[0-9]+/) && !rows { rows = substr($0, RSTART + 12, RLENGTH - 12) }
        /^Execution Time/ { ms = $3 }
        END {
            if (rows != want) { print "got " rows " events of " want >"/dev/stderr"; exit 1 }
            printf "%.0f\n", rows / ms * 1000
        }'
}

# to_client ours|theirs: events a second until a client has them.
to_client() {
    local began batch got
    batch=$(sql "$1" "select pgq.next_batch('read', 'bench')")
    began=$EPOCHREALTIME
    got=$(sql "$1" "copy (select * from pgq.get_batch_events($batch)) to stdout" | wc -l)
    [ "$got" = "$batch_events" ] || die "$1: got $got events of $batch_events"
    awk -v began="$began" -v ended="$EPOCHREALTIME" -v n="$got" 'BEGIN { printf "%.0f\n", n / (ended - began) }'
}

# batches ours|theirs QUEUE: small batches a second.
batches() {
    local out
    sql "$1" "select pgq.register_consumer_at('$2', 'bench', $(cat "$dir/first-$1-$2"))" >/dev/null
    cat >"$dir/batches.sql" <<SQL
select pgq.next_batch('$2', 'bench') as batch \gset
select * from pgq.get_batch_events(:batch);
select pgq.finish_batch(:batch);
SQL
    out=$(client "$1" pgbench -n -M prepared -f "$dir/batches.sql" -c 1 -t 200 2>&1) || die "pgbench failed on $1: $out"
    [ -z "$(sql "$1" "select pgq.next_batch('$2', 'bench')")" ] || die "$1: batches are left"
    sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$out"
}

# retries ours|theirs: events put aside a second.
retries() {
    local began n batch call
    batch=$(sql "$1" "select pgq.next_batch('retry', 'bench')")
    if [ "$1" = ours ]; then
        n=1000
        call="select pgq.event_retry($batch, array(select 100 * i from generate_series(1, 1000) i), 60)"
    else
        n=${BENCH_QUICK:+5}
        n=${n:-50}
        call="select sum(pgq.event_retry($batch, i * (100000 / $n), 60)) from generate_series(1, $n) i"
    fi
    sql "$1" "truncate pgq.retry_queue"
    began=$EPOCHREALTIME
    [ "$(sql "$1" "$call")" = "$n" ] || die "$1: not all of $n events were put aside"
    awk -v began="$began" -v ended="$EPOCHREALTIME" -v n="$n" 'BEGIN { printf "%.1f\n", n / (ended - began) }'
}

# beside_small ours|theirs: ours behind the big backlog, and behind the small one.
beside_small() {
    if [ "$1" = ours ]; then batches ours backlog; else batches ours tenth; fi
}

# write_batches SIDE: what the cases read.
write_batches() {
    read_queue "$1" retry 100000
    read_queue "$1" read "$batch_events"
    read_queue "$1" backlog "$backlog"
    small_batches "$1" backlog >"$dir/first-$1-backlog"
}

say "writing batches to read"
write_batches theirs &
writing=$!
write_batches ours
wait $writing || die "theirs: batches were not written"
read_table=$(sql ours "select queue_data_pfx || '_' || queue_cur_table from pgq.queue where queue_name = 'read'")
compare "get_batch_events/$batch_events" higher events/s "$peer" big_batch
compare "floor:get_batch_events/$batch_events" higher events/s select-order-by beside_select
[ -n "${BENCH_QUICK:-}" ] ||
    compare "get_batch_events/$batch_events/to-client" higher events/s "$peer" to_client

compare "retry/1000-of-100000" higher events/s "$peer" retries

compare "small-batches/behind-$backlog" higher batches/s "$peer" batches backlog
read_queue ours tenth $((backlog / 10))
small_batches ours tenth >"$dir/first-ours-tenth"
compare "flat:small-batches/behind-$backlog" higher batches/s "behind-$((backlog / 10))" beside_small

for side in ours theirs; do
    PGAPPNAME=holder client $side psql -Xq -c "begin isolation level repeatable read;
        select pgq.insert_event('backlog', 'type', 'held'); select pg_sleep(86400)" >/dev/null 2>&1 &
    until [ "$(sql $side "select count(*) from pg_stat_activity where application_name = 'holder' and backend_xid is not null")" = 1 ]; do
        sleep 0.1
    done
    small_batches $side backlog >"$dir/first-$side-backlog"
done
compare "small-batches/behind-$backlog/held-transaction" higher batches/s "$peer" batches backlog
for side in ours theirs; do
    sql $side "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'holder'" >/dev/null
    sql $side "select pgq.drop_queue(queue_name, true) from pgq.queue where queue_name <> 'bench'" >/dev/null
done
wait
