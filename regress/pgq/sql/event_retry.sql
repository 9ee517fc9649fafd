--
-- Many events put aside at once, limits for retries, delays between them.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('many');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
select pgq.register_consumer('many', 'c'), pgq.register_consumer('many', 'other');
select count(pgq.insert_event('many', 't', i::text)) from generate_series(1, 1000) i;
select pgq.ticker('many');
select pgq.next_batch('many', 'c') as batch \gset

-- by array: an event counts once, also if it is named twice
select pgq.event_retry(:batch, array[1, 2, 2, 3], 60);
select pgq.event_retry(:batch, array[1, 2, 2, 3], 60);
select pgq.event_retry(:batch, array[3, 4], now() + interval '1 hour', 'why');
select pgq.event_retry(:batch, '{}'::bigint[], 60), pgq.event_retry(:batch, null::bigint[], 60);
select pgq.event_retry(:batch, array(select generate_series(5, 1000)), x_retry_seconds => 60);
select ev_queue = queue_id as queue, ev_owner = sub_id as owner, ev_txid, ev_retry, ev_dead_time, ev_reason, count(*), min(ev_id), max(ev_id),
       min(ev_retry_after) > now() as later
from pgq.retry_queue, pgq.queue, pgq.subscription, pgq.consumer
where sub_consumer = co_id and co_name = 'c'
group by 1, 2, 3, 4, 5, 6;
select * from (select ev_data from pgq.retry_queue where ev_id <= 3 order by ev_id) e;
-- one that is not there: none is put aside
delete from pgq.retry_queue;
\set VERBOSITY terse
select pgq.event_retry(:batch, array[1, 1001, 2], 60);
\echo :SQLSTATE
select pgq.event_retry(:batch, array[1, null], 60);
\echo :SQLSTATE
select pgq.event_retry(-1, array[1], 60);
\echo :SQLSTATE
select pgq.event_retry(:batch, array[1], null::timestamptz, null);
\echo :SQLSTATE
\set VERBOSITY default
select count(*) from pgq.retry_queue;
-- calls that leave types to the server still mean one event
select pgq.event_retry(:batch, '7', 60);
prepare untyped as select pgq.event_retry($1, $2, $3::integer);
execute untyped(:batch, 8, 60);
prepare untyped_time as select pgq.event_retry($1, $2, $3::timestamptz);
execute untyped_time(:batch, 9, 'tomorrow');
delete from pgq.retry_queue;

-- a limit: so many retries, then dead
create function pg_temp.config(i_retries int, i_delay interval, i_max_delay interval) returns void
language sql as $$
    update pgq.subscription s
    set sub_max_retries = i_retries, sub_retry_delay = i_delay, sub_retry_max_delay = i_max_delay
    from pgq.consumer c where s.sub_consumer = c.co_id and c.co_name = 'c';
$$;
create function pg_temp.again() returns table (event bigint, retry int)
language plpgsql as $$
-- What has come back is put aside again.
declare
    v_batch bigint;
begin
    perform pgq.ticker('many');
    loop
        v_batch := pgq.next_batch('many', 'c');
        exit when v_batch is null;
        return query select e.ev_id, e.ev_retry from pgq.get_batch_events(v_batch) e;
        perform pgq.batch_retry(v_batch, 0);
        perform pgq.finish_batch(v_batch);
    end loop;
end;
$$;
select pg_temp.config(2, null, '1 hour');
select pgq.event_retry(:batch, array[1, 2], 0);
select pgq.finish_batch(:batch);
select pgq.maint_retry_events();
select * from pg_temp.again();
select pgq.maint_retry_events();
select * from pg_temp.again();
select pgq.maint_retry_events();
select * from pg_temp.again();
select ev_id, ev_retry, ev_retry_after, ev_dead_time <= now() as dead, ev_reason from pgq.retry_queue order by ev_id;

-- a dead one is retried when the consumer was moved back
select pgq.register_consumer_at('many', 'c', 1);
select pgq.next_batch('many', 'c') as batch \gset
select pgq.event_retry(:batch, 1, 0);
select pgq.event_retry(:batch, array[1, 2, 3], 0);
select pgq.event_retry(:batch, 2, 0);
select ev_id, ev_retry, ev_dead_time, ev_reason from pgq.retry_queue order by ev_id;
delete from pgq.retry_queue;

-- none at all, with a reason
select pg_temp.config(0, null, '1 hour');
select pgq.event_retry(:batch, array[1], 0, 'out of stock');
select pgq.event_retry(:batch, array[1, 2], 0, 'out of paper');
select pgq.event_retry(:batch, 3, 0);
select pgq.event_retry(:batch, 3, 0);
select pgq.event_retry_raw('many', 'c', now(), 4, now(), 1, 't', 'raw', null, null, null, null);
select pgq.event_retry_raw('many', 'c', now(), 4, now(), null, 't', 'raw', null, null, null, null);
select ev_id, ev_retry, ev_retry_after > now() as waits, ev_dead_time is not null as dead, ev_reason from pgq.retry_queue order by ev_id;
delete from pgq.retry_queue;

-- delays: doubled for each retry, up to the maximum, never less than asked for
select pg_temp.config(null, '1 minute', '10 minutes');
create function pg_temp.waits() returns table (id bigint, retry int, wait interval)
language sql as $$
    select ev_id, ev_retry, date_trunc('minute', ev_retry_after - now()) from pgq.retry_queue order by 1;
$$;
begin;
select pgq.event_retry(:batch, 1, 0);
select pgq.event_retry(:batch, 2, 300);
select count(pgq.event_retry_raw('many', 'c', now(), 2000 + i, now(), i, 't', 'raw', null, null, null, null))
from unnest(array[0, 1, 2, 3, 4, 5, 1000000]) i;
select * from pg_temp.waits();
delete from pgq.retry_queue;
-- as long as intervals can be
select pg_temp.config(null, '10 years', '1000 years');
select count(pgq.event_retry_raw('many', 'c', now(), 2000 + i, now(), i, 't', 'raw', null, null, null, null))
from unnest(array[1, 1000000]) i;
select id, wait > '9 years' as waits_long from pg_temp.waits();
rollback;

-- an event and its retry in one batch
select pg_temp.config(null, null, '1 hour');
select pgq.event_retry(:batch, 1, 0);
select pgq.finish_batch(:batch);
select pgq.maint_retry_events();
select pgq.ticker('many') > 0 as ticked;
select pgq.register_consumer_at('many', 'c', 1);
update pgq.subscription set sub_next_tick = (select max(tick_id) from pgq.tick), sub_batch = 1000
where sub_consumer = (select co_id from pgq.consumer where co_name = 'c');
select ev_id, ev_retry from pgq.get_batch_events(1000) where ev_id = 1;
select pgq.event_retry(1000, 1, 0);
select ev_id, ev_retry from pgq.retry_queue;
select pgq.batch_retry(1000, 0);

select pgq.drop_queue('many', true);
