--
-- A ticker that writers wake, and consumers that ticks wake.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('wake');
-- hours, so that no machine is too slow for this test
select pgq.set_queue_config('wake', 'ticker_max_lag', '3 hours'),
       pgq.set_queue_config('wake', 'ticker_idle_period', '60 hours'),
       pgq.set_queue_config('wake', 'ticker_min_lag', '1 hour');
create function pg_temp.last_tick(i_age interval) returns void
language sql as $$
    -- Makes the last tick so old.
    update pgq.tick t set tick_time = now() - i_age
    from (select max(tick_id) as id from pgq.tick) m where t.tick_id = m.id;
$$;

-- a queue that does not ask for it
select pgq.insert_event('wake', 't', 'one');
select pg_temp.last_tick('2 hours');
select pgq.tick_channel('wake');
select * from pgq.ticker_wake('wake');

-- one that does, from the first event on
select pgq.set_queue_config('wake', 'notify', 'true');
select pgq.tick_channel('wake') = 'pgq_tick_' || queue_id as channel from pgq.queue;
select tick_id from pgq.ticker_wake('wake');
select pg_temp.last_tick('2 hours');
select * from pgq.ticker_wake('wake');

-- long before max_lag, not before min_lag, once for each event
select pg_temp.last_tick('0');
select pgq.insert_event('wake', 't', 'two');
select tick_id, again between '1 minute' and '1 hour' as rest_of_min_lag from pgq.ticker_wake('wake');
select pg_temp.last_tick('2 hours');
select * from pgq.ticker_wake('wake');
select pg_temp.last_tick('2 hours');
select * from pgq.ticker_wake('wake');

-- what a savepoint takes back has moved the sequence; what was rolled back, too
begin;
savepoint s;
select pgq.insert_event('wake', 't', 'taken back');
rollback to s;
commit;
select tick_id from pgq.ticker_wake('wake');
select pg_temp.last_tick('2 hours');
select * from pgq.ticker_wake('wake');

-- a clock set back makes no pause
select pgq.insert_event('wake', 't', 'three');
select pg_temp.last_tick('-1 hours');
select tick_id from pgq.ticker_wake('wake');

-- no tick: paused, external, unknown
select pg_temp.last_tick('2 hours');
select pgq.insert_event('wake', 't', 'four');
select pgq.set_queue_config('wake', 'ticker_paused', 'true');
select * from pgq.ticker_wake('wake');
select pgq.set_queue_config('wake', 'ticker_paused', 'false');
select pgq.set_queue_config('wake', 'external_ticker', 'true');
select * from pgq.ticker_wake('wake');
select pgq.set_queue_config('wake', 'external_ticker', 'false');
select * from pgq.ticker_wake('nowhere');
select * from pgq.ticker_wake(null);
select pgq.tick_channel('nowhere');
\echo :SQLSTATE
select pgq.tick_channel(null);
\echo :SQLSTATE
select tick_id from pgq.ticker_wake('wake');

select pgq.drop_queue('wake');
