--
-- When a tick is due, and who makes it.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('ticker');
-- hours, so that no machine is too slow for this test
select pgq.set_queue_config('ticker', 'ticker_max_lag', '3 hours'),
       pgq.set_queue_config('ticker', 'ticker_idle_period', '60 hours');
create function pg_temp.last_tick(i_age interval, i_before interval) returns void
language sql as $$
    -- Makes the last tick so old, and the one before it so much older.
    update pgq.tick t set tick_time = now() - i_age - case when t.tick_id < m.id then i_before else '0' end
    from (select max(tick_id) as id from pgq.tick) m;
$$;

-- there is one tick: the second one comes at once
select count(*) from pgq.tick;
select pgq.ticker('ticker');
select pgq.ticker('ticker');

-- events: too few and too early; late enough; enough of them
select count(pgq.insert_event('ticker', 't', 'd')) from generate_series(1, 499);
select pgq.ticker('ticker');
select pg_temp.last_tick('2 hours', '0 hours');
select pgq.ticker('ticker');
select pg_temp.last_tick('4 hours', '0 hours');
select pgq.ticker('ticker');
select count(pgq.insert_event('ticker', 't', 'd')) from generate_series(1, 500);
select pgq.ticker('ticker');

-- no events: first after half of max_lag and twice the last distance, at least
-- after idle_period
select pg_temp.last_tick('1 hours', '0 hours');
select pgq.ticker('ticker');
select pg_temp.last_tick('10 hours', '8 hours');
select pgq.ticker('ticker');
select pg_temp.last_tick('20 hours', '8 hours');
select pgq.ticker('ticker');
select pg_temp.last_tick('70 hours', '50 hours');
select pgq.ticker('ticker');

-- a clock set back makes no pause
select pg_temp.last_tick('-1 hours', '1 hours');
select pgq.ticker('ticker');

-- forced: the next ticker makes it
select pg_temp.last_tick('0', '1 hour');
select pgq.ticker('ticker');
select pgq.force_tick('ticker');
select pgq.ticker('ticker');
select pgq.ticker('ticker');
select pgq.force_tick('nowhere'), pgq.force_tick(null);

-- ids and snapshots grow together
select count(*) filter (where not in_order) as out_of_order
from (select txid_snapshot_xmax(tick_snapshot) >= lag(txid_snapshot_xmax(tick_snapshot)) over w
             and tick_event_seq >= lag(tick_event_seq) over w as in_order
      from pgq.tick window w as (order by tick_id)) t;

-- paused
select pgq.set_queue_config('ticker', 'ticker_paused', 'true');
select pgq.ticker('ticker');
\echo :SQLSTATE
select pgq.ticker();
select last_value as before from pgq.seq_getval((select queue_event_seq from pgq.queue)) as last_value \gset
select pgq.force_tick('ticker') > 0 as told;
select pgq.seq_getval((select queue_event_seq from pgq.queue)) = :before as not_moved;
select pgq.set_queue_config('ticker', 'ticker_paused', 'false');

-- given from outside
select pgq.ticker('ticker', 100, now(), 100000);
\echo :SQLSTATE
select pgq.set_queue_config('ticker', 'external_ticker', 'true');
select pgq.ticker('ticker');
\echo :SQLSTATE
select pgq.ticker();
select pgq.ticker('ticker', 100, '2001-02-03 04:05:06+00', 100000);
set timezone = 'UTC';
select tick_id, tick_time, tick_event_seq from pgq.tick order by tick_id desc limit 1;
select pgq.seq_getval(queue_event_seq), pgq.seq_getval(queue_tick_seq) from pgq.queue;
\set VERBOSITY terse
select pgq.ticker('ticker', 100, now(), 100001);
\echo :SQLSTATE
\set VERBOSITY default
-- sequences do not go back
select pgq.ticker('ticker', 101, now(), 10);
select pgq.seq_getval(queue_event_seq), pgq.seq_getval(queue_tick_seq) from pgq.queue;
select pgq.set_queue_config('ticker', 'external_ticker', 'false');

-- no such queue
select pgq.ticker('nowhere');
\echo :SQLSTATE
select pgq.ticker(null);
\echo :SQLSTATE
select pgq.ticker('nowhere', 1, now(), 1);
\echo :SQLSTATE

-- forced with as large a count as can be set: at once, too
select pgq.create_queue('large');
select pgq.set_queue_config('large', 'ticker_max_count', '2147483647');
set statement_timeout = '10s';
select pgq.force_tick('large') > 0 as told;
reset statement_timeout;
select pgq.ticker('large');
select pgq.drop_queue('large');

-- all queues; one that fails stops no other. As after a restore into a server
-- with lower transaction ids:
select pgq.create_queue('another');
select pgq.create_queue('last');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
update pgq.tick set tick_snapshot = '9000000000:9000000001:'
from pgq.queue where queue_id = tick_queue and queue_name = 'last' and tick_id = 1;
update pgq.tick set tick_snapshot = '9000000000:9000000001:'
from pgq.queue where queue_id = tick_queue and queue_name = 'another' and tick_id = 1;
\set VERBOSITY terse
do $$
begin
    perform pgq.ticker('another');
exception
    when sqlstate 'PGQ09' then
        raise warning '%', regexp_replace(sqlerrm, 'cur txid=\d+', 'cur txid=N');
end;
$$;
set client_min_messages = error;
select pgq.ticker();
set client_min_messages = warning;
select queue_name, count(*) > 2 as ticked from pgq.queue join pgq.tick on tick_queue = queue_id group by 1 order by 1;

-- a sequence that was set back is told
update pgq.tick set tick_snapshot = txid_current_snapshot()
from pgq.queue where queue_id = tick_queue and queue_name = 'another';
select setval(queue_event_seq, 1, false) is not null as reset from pgq.queue where queue_name = 'another';
update pgq.tick set tick_event_seq = 10
from pgq.queue where queue_id = tick_queue and queue_name = 'another';
select pgq.ticker('another');
-- a snapshot that reaches into the future: what is written now would count as seen
update pgq.tick set tick_snapshot = (txid_snapshot_xmin(txid_current_snapshot()) || ':9000000001:')::txid_snapshot
from pgq.queue where queue_id = tick_queue and queue_name = 'another';
create function pg_temp.refused(i_sql text) returns text
language plpgsql as $$
begin
    execute i_sql;
    return 'accepted';
exception
    when sqlstate 'PGQ09' then
        return regexp_replace(regexp_replace(sqlerrm, 'cur txid=\d+', 'cur txid=N'), 'xmin=\d+', 'xmin=N');
end;
$$;
select pg_temp.refused($$select pgq.ticker('another')$$);
select pgq.set_queue_config('another', 'external_ticker', 'true');
select pg_temp.refused($$select pgq.ticker('another', 1000, now(), 1000)$$);

select pgq.drop_queue('ticker'), pgq.drop_queue('another'), pgq.drop_queue('last');
