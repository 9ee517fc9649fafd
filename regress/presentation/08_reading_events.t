#!/usr/bin/env bash
# Slide "PgQ: Consumer - Reading Events": registering by call and by command, and the three
# calls that read.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs pgqadm.py
server server
sql postgres 'create database somedb' 'create role producer' 'create role reader'
sql somedb 'create extension pgq' "select pgq.create_queue('q')" 'grant pgq_writer to producer' 'grant pgq_reader to reader' >/dev/null
printf '%s\n' '[pgqadm]' 'db = dbname=somedb' >ini
consumers() { sql somedb "select string_agg(consumer_name, ' ' order by consumer_name) from pgq.get_consumer_info('q')"; }
produce() { sql somedb 'set role producer' "select pgq.insert_event('q', 'n', '$1')" >/dev/null; }

# ---- registering

produce before
tick somedb q
is "pgq.register_consumer(queue, consumer)" gives 1 sql somedb "select pgq.register_consumer('q', 'by_call')"
is "a second time changes nothing" gives 0 sql somedb "select pgq.register_consumer('q', 'by_call')"
is "pgqadm.py <ini> register <queue> <consumer>" pgqadm.py ini register q by_command
is "both are on the queue" gives 'by_call by_command' consumers
is "a queue that is not there is refused" refuses PGQ01 somedb "select pgq.register_consumer('none', 'by_call')"

# ---- reading

next() { sql somedb 'set role reader' "select pgq.next_batch('q', '$1')"; }
data() { sql somedb 'set role reader' "select row_number() over (order by ev_id), ev_type, ev_data from pgq.get_batch_events($1)"; }
finish_batch() { sql somedb 'set role reader' "select pgq.finish_batch($1)"; }
is "there is no batch yet: pgq.next_batch gives null" gives '' next by_call
produce one
produce two
is "without a tick there is none" gives '' next by_call
tick somedb q
batch=$(next by_call)
is "pgq.next_batch(queue, consumer): int8" gives bigint sql somedb "select pg_typeof($batch::bigint) where $batch > 0"
is "pgq.get_batch_events(batch_id): SETOF record" gives '1|n|one
2|n|two' data "$batch"
is "what was there before the registration is not in it" gives 0 sql somedb \
    "select count(*) from pgq.get_batch_events($batch) where ev_data = 'before'"
produce three
tick somedb q
is "until it is finished the batch stays the same" gives "$batch" next by_call
is "with the same events" gives '1|n|one
2|n|two' data "$batch"
is "pgq.finish_batch(batch_id)" gives 1 finish_batch "$batch"
is "a finished batch cannot be read" refuses PGQ03 somedb "select pgq.get_batch_events($batch)"
is "a second finish_batch does nothing" gives 0 eval "finish_batch $batch 2>/dev/null"
batch=$(next by_call)
is "the next batch has what came since" gives '1|n|three' data "$batch"
is "which is finished" gives 1 finish_batch "$batch"
is "each consumer gets all events" gives 'one
two
three' events somedb q by_command ev_data
is "who may only write may not read" refuses 42501 somedb "set role producer; select pgq.next_batch('q', 'by_call')"
is "a consumer that is not registered is refused" refuses PGQ02 somedb "select pgq.next_batch('q', 'nobody')"

# ---- unregistering

is "pgqadm.py <ini> unregister <queue> <consumer>" pgqadm.py ini unregister q by_command
is "pgq.unregister_consumer(queue, consumer)" gives 1 sql somedb "select pgq.unregister_consumer('q', 'by_call')"
is "nobody is on the queue" gives '' consumers
done_testing
