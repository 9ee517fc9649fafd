#!/usr/bin/env bash
# Slide "PgQ: Tracking Batches": a whole batch is one transaction of the target, and takes
# effect once, wherever its consumer dies. Queue and target are two servers.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
queue_and_target stats
sql shop 'create extension pgq' "select pgq.create_queue('orders')" "select pgq.register_consumer('orders', 'adder')" >/dev/null
on_target 'create extension pgq_ext' 'create table total (n bigint)' 'insert into total values (0)'

# The consumer, in the three steps that it can die between.
next() { sql shop "select pgq.next_batch('orders', 'adder')"; }
finish_batch() { sql shop "select pgq.finish_batch($1)"; }
# apply BATCH END: prints whether it was new; END is commit or rollback, which a crash is.
apply() {
    local sum
    sum=$(sql shop "select sum(ev_data::int) from pgq.get_batch_events($1)")
    on_target <<SQL
begin;
select pgq_ext.set_batch_done('adder', $1) as is_new \\gset
\\echo :is_new
\\if :is_new
update total set n = n + $sum;
\\endif
$2;
SQL
}
total() { on_target 'select n from total'; }
produce() { sql shop "select pgq.insert_event('orders', 'price', '$1')" >/dev/null; }

produce 10
produce 5
tick shop orders
batch=$(next)
is "a new batch is not done" gives f on_target "select pgq_ext.is_batch_done('adder', $batch)"
is "the consumer dies before the commit" gives t apply "$batch" rollback
is "nothing has happened" gives '0|f' on_target "select n, pgq_ext.is_batch_done('adder', $batch) from total"
is "it gets the same batch" gives "$batch" next
is "which is applied" gives t apply "$batch" commit
is "and done" gives '15|t' on_target "select n, pgq_ext.is_batch_done('adder', $batch) from total"
is "it dies before finish_batch, and gets the same batch" gives "$batch" next
is "which is no news" gives f apply "$batch" commit
is "and does not count twice" gives 15 total
is "it is finished" gives 1 finish_batch "$batch"
produce 7
tick shop orders
batch=$(next)
is "the next one is new" gives t apply "$batch" commit
is "and counts" gives 22 total
is "it is finished, too" gives 1 finish_batch "$batch"
is "there is no more" gives '' next
is "one row a consumer is all that is kept" gives 1 on_target 'select count(*) from pgq_ext.completed_batch'

# Two workers bring one batch at the same time: the second waits for the first.
produce 100
tick shop orders
batch=$(next)
mkfifo in
PGPORT=$target "$PGBIN/psql" -X -q -At -d stats <in >first 2>&1 &
first=$!
exec 7>in
echo "begin; select pgq_ext.set_batch_done('adder', $batch); update total set n = n + 100;" >&7
is "the first has begun" until_true 30 grep -q t first
apply "$batch" commit >second 2>&1 &
second=$!
is "the second waits for it" becomes 1 on_target "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
echo "commit;" >&7
exec 7>&-
wait $first $second
is "and is told that the batch is done" gives f cat second
is "it counts once" gives 122 total
done_testing
