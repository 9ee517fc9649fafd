#!/usr/bin/env bash
# Slide "PgQ: Tracking Events": a consumer that does its events one by one, dies in the
# middle of a batch, and does none of them twice. Queue and target are two servers.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
queue_and_target mail
sql shop 'create extension pgq' "select pgq.create_queue('mails')" "select pgq.register_consumer('mails', 'sender')" >/dev/null
on_target 'create extension pgq_ext' 'create table sent (n int)'

# Ids of events are not without gaps, so it is the mail's number that is looked at.
# send BATCH [COUNT]: what an e-mail sender does, up to COUNT mails: each is a transaction
# of its own, which the mail and its mark are in together.
send() {
    local event n left=${2:-1000}
    while IFS='|' read -r event n; do
        [ "$(on_target "select pgq_ext.is_event_done('sender', $1, $event)")" = f ] || continue
        [ $((left--)) -gt 0 ] || return 1
        [ "$(on_target "begin; insert into sent values ($n); select pgq_ext.set_event_done('sender', $1, $event); commit")" = t ] || return 2
    done < <(sql shop "select ev_id, ev_data from pgq.get_batch_events($1)")
}
sent() { on_target "select string_agg(n::text, ' ' order by n) from sent"; }
kept() { on_target 'select count(*) from pgq_ext.completed_event'; }
sql shop "select count(pgq.insert_event('mails', 'mail', n::text)) from generate_series(1, 6) n" >/dev/null
tick shop mails
batch=$(sql shop "select pgq.next_batch('mails', 'sender')")
is "no event is done at first" gives f on_target "select pgq_ext.is_event_done('sender', $batch, 1)"
is "the sender dies behind three mails" fails 1 send "$batch" 3
is "they are done" gives 't|t|t|f' on_target "select pgq_ext.is_event_done('sender', $batch, 1), pgq_ext.is_event_done('sender', $batch, 2),
    pgq_ext.is_event_done('sender', $batch, 3), pgq_ext.is_event_done('sender', $batch, 4)"
is "the mark goes with the mail: what is rolled back is not done" gives t on_target \
    "begin; select pgq_ext.set_event_done('sender', $batch, 4); rollback"
is "it is not" gives f on_target "select pgq_ext.is_event_done('sender', $batch, 4)"
is "a second sender is told so" gives f on_target "select pgq_ext.set_event_done('sender', $batch, 3)"
is "the queue gives the same batch again" gives "$batch" sql shop "select pgq.next_batch('mails', 'sender')"
is "the next sender does the rest" send "$batch"
is "each mail was sent once" gives '1 2 3 4 5 6' sent
sql shop "select pgq.finish_batch($batch)" >/dev/null

is "the marks of the batch are kept until the batch changes" gives 6 kept
sql shop "select count(pgq.insert_event('mails', 'mail', n::text)) from generate_series(7, 8) n" >/dev/null
tick shop mails
batch=$(sql shop "select pgq.next_batch('mails', 'sender')")
event=$(sql shop "select min(ev_id) from pgq.get_batch_events($batch)")
is "another batch" send "$batch"
is "its first event deletes the old ones" gives 2 kept
is "all is sent" gives '1 2 3 4 5 6 7 8' sent
is "another consumer has marks of its own" gives 't|f' on_target \
    "select pgq_ext.is_event_done('sender', $batch, $event), pgq_ext.is_event_done('archive', $batch, $event)"
is "NULL for the consumer is refused" eval "PGPORT=$target refuses 22004 mail \"select pgq_ext.set_event_done(null, $batch, 7)\""
done_testing
