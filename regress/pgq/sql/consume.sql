--
-- The life of an event: inserted, ticked, read in a batch, finished.
--
set client_min_messages = warning;
\pset null NULL
select pgq.create_queue('consume');
select pgq.create_queue('consume');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'
where queue_name = 'consume';

-- events from before the registration are not the consumer's
select pgq.insert_event('consume', 'early', 'x') > 0 as inserted;
select pgq.ticker('consume');
select pgq.register_consumer('consume', 'worker');
select pgq.register_consumer('consume', 'worker');

-- no tick, no batch
select pgq.next_batch('consume', 'worker');
select pgq.insert_event('consume', 'short', 'data') > 0 as inserted;
select pgq.insert_event('consume', 'long', 'data', '1', null, '', '4') > 0 as inserted;
select pgq.next_batch('consume', 'worker');
select pgq.ticker('consume');

-- a batch stays open until it is finished
select pgq.next_batch('consume', 'worker') as batch \gset
select pgq.next_batch('consume', 'worker') = :batch as same;
select cur_tick_id, prev_tick_id, batch_id = :batch as same,
       cur_tick_time > prev_tick_time as time_order,
       cur_tick_event_seq - prev_tick_event_seq as events
from pgq.next_batch_info('consume', 'worker');
select ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4, ev_retry
from pgq.get_batch_events(:batch);
select queue_name, consumer_name, prev_tick_id, tick_id, batch_end > batch_start as time_order,
       lag < '1 hour' as lag, seq_end - seq_start as events
from pgq.get_batch_info(:batch);
select pgq.finish_batch(:batch);
select pgq.next_batch('consume', 'worker');

-- a batch may be empty
select pgq.ticker('consume');
select pgq.next_batch('consume', 'worker') as batch \gset
select count(*) from pgq.get_batch_events(:batch);
select pgq.finish_batch(:batch);

-- what a transaction takes back is no event
begin;
select pgq.insert_event('consume', 'rolled back', null) > 0 as inserted;
rollback;
begin;
select pgq.insert_event('consume', 'kept', null) > 0 as inserted;
savepoint s;
select pgq.insert_event('consume', 'rolled back', null) > 0 as inserted;
rollback to s;
select pgq.insert_event('consume', 'kept too', null) > 0 as inserted;
commit;
select pgq.ticker('consume');
select pgq.next_batch('consume', 'worker') as batch \gset
select ev_type from pgq.get_batch_events(:batch);
select pgq.finish_batch(:batch);

-- bad input
\set SHOW_CONTEXT never
select pgq.next_batch('consume', 'nobody');
\echo :SQLSTATE
select pgq.next_batch('nowhere', 'worker');
\echo :SQLSTATE
select pgq.next_batch(null, null);
\echo :SQLSTATE
select * from pgq.get_batch_events(-1);
\echo :SQLSTATE
select * from pgq.get_batch_events(null);
\echo :SQLSTATE
select pgq.finish_batch(-1);
select pgq.finish_batch(null);
select queue_name, tick_id from pgq.get_batch_info(-1);

select pgq.unregister_consumer('consume', 'worker');
select pgq.unregister_consumer('consume', 'worker');
select pgq.drop_queue('consume');
