--
-- Events that a consumer has given up: listed, counted, retried, deleted.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('dead');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
select pgq.register_consumer('dead', 'a'), pgq.register_consumer('dead', 'b');
select count(pgq.insert_event('dead', 't', i::text, 'e1', 'e2', 'e3', 'e4')) from generate_series(1, 5) i;
select pgq.ticker('dead');
select pgq.next_batch('dead', 'a') as batch \gset
select pgq.next_batch('dead', 'b') as other_batch \gset

-- by hand; what waits for a retry does not any more
select pgq.event_failed(:batch, 1, 'first'), pgq.event_failed(:batch, 2, null);
select pgq.event_failed(:batch, 1, 'once more');
select pgq.event_retry(:batch, 3, 60);
select pgq.event_failed(:batch, 3, 'third');
select pgq.event_failed(:other_batch, 5, 'of the other');
\set VERBOSITY terse
select pgq.event_failed(:batch, 6, 'no such event');
\echo :SQLSTATE
select pgq.event_failed(-1, 1, 'no such batch');
\echo :SQLSTATE
\set VERBOSITY default

-- where they are seen
select queue_name, consumer_name, ev_id, ev_time <= now() as written, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3,
       ev_extra4, dead_time <= now() as died, reason
from pgq.dead_letter order by 1, 2, 3;
select ev_id, ev_time <= now() as written, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4,
       ev_failed_reason, ev_failed_time <= now() as died
from pgq.failed_event_list('dead', 'a');
select ev_id from pgq.failed_event_list('dead', 'a', 2);
select ev_id from pgq.failed_event_list('dead', 'a', 2, 2);
select ev_id from pgq.failed_event_list('dead', 'a', null, 1);
select pgq.failed_event_count('dead', 'a'), pgq.failed_event_count('dead', 'b');
-- they do not come back by themselves
select pgq.finish_batch(:batch), pgq.finish_batch(:other_batch);
select pgq.maint_retry_events();

-- again: one, then all, as if they had not been retried
update pgq.retry_queue set ev_retry = 7;
select pgq.failed_event_retry('dead', 'a', 1), pgq.failed_event_retry('dead', 'a', 1), pgq.failed_event_retry('dead', 'a', 5),
       pgq.failed_event_retry('dead', 'a', null);
select pgq.maint_retry_events();
select pgq.ticker('dead') > 0 as ticked;
select pgq.next_batch('dead', 'a') as batch \gset
select ev_id, ev_retry, ev_data from pgq.get_batch_events(:batch);
select pgq.event_failed(:batch, 1, 'and again');
select pgq.finish_batch(:batch);
select pgq.failed_event_retry('dead', 'a');
select pgq.failed_event_count('dead', 'a'), pgq.failed_event_count('dead', 'b');
select pgq.maint_retry_events();
select pgq.ticker('dead') > 0 as ticked;
select pgq.next_batch('dead', 'a') as batch \gset
select ev_id, ev_retry, ev_data from pgq.get_batch_events(:batch);

-- deleted: not what waits for a retry
select pgq.event_failed(:batch, 1, ''), pgq.event_failed(:batch, 2, ''), pgq.event_retry(:batch, 3, 0);
select pgq.failed_event_delete('dead', 'a', 1), pgq.failed_event_delete('dead', 'a', 1), pgq.failed_event_delete('dead', 'a', 3),
       pgq.failed_event_delete('dead', 'a', null);
select pgq.failed_event_delete('dead', 'a');
select ev_id from pgq.retry_queue order by 1;

-- not without a name
\set VERBOSITY terse
select pgq.failed_event_count('nowhere', 'a');
\echo :SQLSTATE
select pgq.failed_event_count('dead', 'nobody');
\echo :SQLSTATE
select * from pgq.failed_event_list('dead', null);
\echo :SQLSTATE
select pgq.failed_event_retry('dead', 'nobody');
\echo :SQLSTATE
select pgq.failed_event_delete(null, 'a');
\echo :SQLSTATE
\set VERBOSITY default

-- readers see them, others do not
create role regress_pgq_reader in role pgq_reader;
create role regress_pgq_writer in role pgq_writer;
set role regress_pgq_reader;
select ev_id from pgq.dead_letter;
select pgq.failed_event_count('dead', 'b');
set role regress_pgq_writer;
select ev_id from pgq.dead_letter;
select pgq.failed_event_count('dead', 'b');
reset role;
drop role regress_pgq_reader, regress_pgq_writer;

-- they go with their consumer
select pgq.unregister_consumer('dead', 'b');
select count(*) from pgq.dead_letter;
select pgq.drop_queue('dead', true);
