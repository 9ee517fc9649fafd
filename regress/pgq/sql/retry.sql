--
-- Events that are put aside come back, to their consumer only.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('retry');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
select pgq.register_consumer('retry', 'a'), pgq.register_consumer('retry', 'b');
select pgq.insert_event('retry', 't', 'one', 'e1', 'e2', 'e3', 'e4'), pgq.insert_event('retry', 't', 'two'),
       pgq.insert_event('retry', 't', 'three');
select pgq.ticker('retry');
create function pg_temp.read(i_consumer text) returns table (id bigint, retry int, data text, extras text)
language plpgsql as $$
declare
    v_batch bigint;
begin
    perform pgq.ticker('retry');
    loop
        v_batch := pgq.next_batch('retry', i_consumer);
        exit when v_batch is null;
        return query
            select e.ev_id, e.ev_retry, e.ev_data, concat_ws(',', e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4)
            from pgq.get_batch_events(v_batch) e;
        perform pgq.finish_batch(v_batch);
    end loop;
end;
$$;

select pgq.next_batch('retry', 'a') as batch \gset
select pgq.event_retry(:batch, 1, 0);
select pgq.event_retry(:batch, 1, 0);
select pgq.event_retry(:batch, 2, now() + interval '1 hour');
select ev_id, ev_txid, ev_retry, ev_retry_after <= now() as due from pgq.retry_queue order by ev_id;
-- the rest of the batch
select pgq.batch_retry(:batch, 3600);
select pgq.batch_retry(:batch, 3600);
select pgq.finish_batch(:batch);

-- only what is due comes back: same id, counted, to a and not to b
select pgq.maint_retry_events();
select pgq.maint_retry_events();
select * from pg_temp.read('a');
select * from pg_temp.read('b');
update pgq.retry_queue set ev_retry_after = now();
select pgq.maint_retry_events();
select * from pg_temp.read('a');
select * from pg_temp.read('b');

-- once more, with the count kept
select * from pg_temp.read('a');
select pgq.insert_event('retry', 't', 'four');
select pgq.ticker('retry');
select pgq.next_batch('retry', 'a') as batch \gset
select pgq.batch_retry(:batch, 0);
select pgq.finish_batch(:batch);
select pgq.maint_retry_events();
select pgq.ticker('retry');
select pgq.next_batch('retry', 'a') as batch \gset
select pgq.batch_retry(:batch, 0);
select pgq.finish_batch(:batch);
select pgq.maint_retry_events();
select * from pg_temp.read('a');

-- some thousand at a time, the oldest first
select count(pgq.event_retry_raw('retry', 'a', now() - i * interval '1 second', null, now(), 3, 'raw', i::text,
                                 null, null, null, null))
from generate_series(1, 5001) i;
select pgq.maint_retry_events();
select ev_data from pgq.retry_queue;
select pgq.maint_retry_events();
select pgq.maint_retry_events();
select count(*), min(retry) from pg_temp.read('a');
select pgq.event_retry_raw('retry', 'a', now(), 77, now(), null, 'raw', 'given id', '1', '2', '3', '4');
-- a closed queue waits and stops no other
update pgq.queue set queue_disable_insert = true;
select pgq.maint_retry_events();
update pgq.queue set queue_disable_insert = false;
-- nor does one that fails
select pgq.create_queue('broken'), pgq.register_consumer('broken', 'a');
select pgq.event_retry_raw('broken', 'a', now(), 5, now(), 1, 'raw', 'd', null, null, null, null);
update pgq.queue set queue_data_pfx = 'pgq.gone' where queue_name = 'broken';
select pgq.maint_retry_events();
select queue_name, ev_data from pgq.retry_queue join pgq.queue on queue_id = ev_queue;
update pgq.queue set queue_data_pfx = 'pgq.event_' || queue_id where queue_name = 'broken';
select pgq.maint_retry_events();
select pgq.drop_queue('broken', true);
select * from pg_temp.read('a');

-- a queue's limit for each transaction is for those who write to it
update pgq.queue set queue_per_tx_limit = 1;
select count(pgq.event_retry_raw('retry', 'a', now(), null, now(), 1, 'raw', i::text, null, null, null, null))
from generate_series(1, 3) i;
select pgq.maint_retry_events();
select count(*) from pg_temp.read('a');
update pgq.queue set queue_per_tx_limit = null;

-- what makes no sense; batch ids are anybody's
\set VERBOSITY terse
select pgq.insert_event('retry', 't', 'five') > 0 as inserted;
select pgq.ticker('retry') > 0 as ticked;
select pgq.next_batch('retry', 'a') as batch \gset
select pgq.event_retry(:batch, 1, 0);
\echo :SQLSTATE
select pgq.event_retry(-1, 1, 0);
\echo :SQLSTATE
select pgq.event_retry(:batch, null, 0);
\echo :SQLSTATE
select pgq.batch_retry(-1, 0);
\echo :SQLSTATE
select pgq.event_retry_raw('retry', 'nobody', now(), null, now(), 0, 't', 'd', null, null, null, null);
\echo :SQLSTATE

select pgq.drop_queue('retry', true);
