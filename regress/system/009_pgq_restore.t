#!/usr/bin/env bash
# 009_pgq_restore.t: a database with live queues is dumped and restored, into its own server,
# into one whose transaction ids are higher, and into one whose ids are lower. There the
# queues are refused until they are rebased. Every consumer gets what it had not finished.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
finish() {
    "$TOP/scripts/pgcluster" stop "$dir/second" immediate 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }

# The second server is one epoch of transaction ids ahead of the first.
port1=$PGPORT
port2=$("$TOP/scripts/pgcluster" start "$dir/second" "$SKYTOOLS_TEST_TREE")
"$TOP/scripts/pgcluster" stop "$dir/second"
as_server "$PGBIN/pg_resetwal" -e 1 -D "$dir/second/data" >/dev/null
port2=$("$TOP/scripts/pgcluster" start "$dir/second" "$SKYTOOLS_TEST_TREE")
ahead() { [ "$(PGPORT=$port2 psql -d postgres -c 'select txid_current() > 4294967296')" = t ]; }
is "the second server is ahead" ahead

# live PORT DATABASE: makes a database with queues in use.
live() {
    PGPORT=$1 psql -d postgres -c "create database $2"
    PGPORT=$1 psql -d "$2" <<'SQL'
set client_min_messages = warning;
create extension pgq;
select pgq.create_queue('live'), pgq.create_queue('idle');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0';
select pgq.ticker('live');
select pgq.register_consumer('live', c) from unnest('{behind,open,done}'::text[]) c;
create table account (id int primary key, name text);
create trigger to_queue after insert on account for each row execute function pgq.logutriga('live');
create table consumed (consumer text, ev_id bigint, ev_data text);
create procedure drain(i_consumer text)
language plpgsql as $$
declare
    v_batch bigint;
begin
    loop
        v_batch := pgq.next_batch('live', i_consumer);
        exit when v_batch is null;
        insert into consumed select i_consumer, e.ev_id, e.ev_data from pgq.get_batch_events(v_batch) e;
        perform pgq.finish_batch(v_batch);
    end loop;
end;
$$;
select pgq.insert_event('live', 't', 'one');
select pgq.ticker('live');
call drain('open');
call drain('done');
select pgq.maint_rotate_tables_step1('live');
select pgq.maint_rotate_tables_step2();
select pgq.insert_event('live', 't', 'two');
select pgq.insert_event('live', 't', 'dead');
insert into account values (1, 'three');
select pgq.ticker('live');
select pgq.next_batch('live', 'done') as batch \gset
select pgq.event_retry(:batch, ev_id, 0) from pgq.get_batch_events(:batch) where ev_data = 'two';
select pgq.event_failed(:batch, ev_id, 'no good') from pgq.get_batch_events(:batch) where ev_data = 'dead';
call drain('done');
select pgq.insert_event_at('live', now(), 't', 'delayed');
select pgq.insert_event('live', 't', 'four');
select pgq.ticker('live');
select pgq.insert_event('live', 't', 'not ticked');
select pgq.next_batch('live', 'open') as batch \gset
SQL
}
# move FROM_PORT DATABASE TO_PORT NAME: dumps and restores.
move() {
    PGPORT=$1 "$PGBIN/pg_dump" -Fc -f "$dir/dump" "$2" &&
        PGPORT=$3 psql -d postgres -c "create database $4" &&
        PGPORT=$3 "$PGBIN/pg_restore" --exit-on-error -d "$4" "$dir/dump"
}
# goes_on PORT DATABASE: works on, and prints what each consumer has got over all.
goes_on() {
    PGPORT=$1 psql -d "$2" <<'SQL'
set client_min_messages = error;
select from pgq.insert_event('live', 't', 'afterwards');
select from pgq.maint_retry_events();
select from pgq.ticker();
select from pgq.force_tick('live');
select from pgq.ticker();
call drain('behind');
call drain('open');
call drain('done');
select consumer, string_agg(ev_data, ', ' order by ev_data) from consumed group by 1 order by 1;
select ev_data, reason from pgq.dead_letter;
select from pgq.maint_rotate_tables_step1('live');
select from pgq.maint_rotate_tables_step2();
select queue_cur_table from pgq.queue where queue_name = 'live';
select pgq.create_queue('new'), pgq.register_consumer('new', 'new');
SQL
}
expected='behind|afterwards, dead, delayed, four, id=1&name=three, not ticked, one, two
done|afterwards, dead, delayed, four, id=1&name=three, not ticked, one, two, two
open|afterwards, dead, delayed, four, id=1&name=three, not ticked, one, two
dead|no good
2
1|1'
same() {
    local got
    got=$(goes_on "$@") || return 1
    [ "$got" = "$expected" ] || { diff <(echo "$expected") <(echo "$got"); return 1; }
}
refused() {
    local said
    said=$(PGPORT=$1 psql -v VERBOSITY=verbose -d "$2" -c "select pgq.ticker('live')" 2>&1) && return 1
    grep -q 'ERROR:  PGQ09' <<<"$said" && grep -q 'call pgq.rebase_queue()' <<<"$said"
}
rebased() { [ "$(PGPORT=$1 psql -d "$2" -c "select pgq.rebase_queue(queue_name) from pgq.queue order by 1" | xargs)" = "$3" ]; }
open_batch() { [ "$(PGPORT=$1 psql -d "$2" -c "select string_agg(ev_data, ',' order by ev_data)
    from pgq.get_batch_events(pgq.next_batch('live', 'open'))")" = 'dead,id=1&name=three,two' ]; }
rows() {
    PGPORT=$1 psql -d "$2" -c "select 'event', ev_id, ev_time, ev_owner, ev_type, ev_data from pgq.event_template
        union all select 'retry', ev_id, ev_time, ev_owner, ev_type, ev_data from pgq.retry_queue
        union all select 'tick', tick_id, tick_time, tick_queue, null, tick_event_seq::text from pgq.tick order by 1, 2, 4"
}

live "$port1" restore_low >/dev/null
live "$port2" restore_high >/dev/null
rows "$port1" restore_low >"$dir/low"
rows "$port2" restore_high >"$dir/high"

is "restored beside itself" move "$port1" restore_low "$port1" restore_beside
is "all rows are there" diff "$dir/low" <(rows "$port1" restore_beside)
is "there is no need to rebase" rebased "$port1" restore_beside "0 0"
is "the open batch is the same" open_batch "$port1" restore_beside
is "it goes on" same "$port1" restore_beside

is "restored into a server with higher ids" move "$port1" restore_low "$port2" restore_up
is "all rows are there" diff "$dir/low" <(rows "$port2" restore_up)
is "there is no need to rebase" rebased "$port2" restore_up "0 0"
is "the open batch is the same" open_batch "$port2" restore_up
is "it goes on" same "$port2" restore_up

is "restored into a server with lower ids" move "$port2" restore_high "$port1" restore_down
is "all rows are there" diff "$dir/high" <(rows "$port1" restore_down)
is "the ticker refuses it" refused "$port1" restore_down
is "it is rebased" rebased "$port1" restore_down "1 1"
is "all rows are still there" diff "$dir/high" <(rows "$port1" restore_down)
is "once is enough" rebased "$port1" restore_down "0 0"
is "the open batch has the same events" open_batch "$port1" restore_down
is "it goes on" same "$port1" restore_down
is "the originals do as well" same "$port1" restore_low
is "each of them" same "$port2" restore_high

for database in restore_low restore_beside restore_down; do
    psql -d postgres -c "drop database $database"
done
done_testing
