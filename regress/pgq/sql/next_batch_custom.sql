--
-- Batches of a wished size or age.
--
set client_min_messages = warning;
\pset null NULL
select pgq.create_queue('custom');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
select pgq.register_consumer('custom', 'c');
-- ticks 2 to 6, ten events between each two, a minute apart, the last one now
select count(pgq.insert_event('custom', 't', 'd')) + pgq.ticker('custom') * 0 as events from generate_series(1, 11);
select count(pgq.insert_event('custom', 't', 'd')) + pgq.ticker('custom') * 0 as events from generate_series(1, 10);
select count(pgq.insert_event('custom', 't', 'd')) + pgq.ticker('custom') * 0 as events from generate_series(1, 10);
select count(pgq.insert_event('custom', 't', 'd')) + pgq.ticker('custom') * 0 as events from generate_series(1, 10);
select count(pgq.insert_event('custom', 't', 'd')) + pgq.ticker('custom') * 0 as events from generate_series(1, 10);
update pgq.tick set tick_time = now() - (6 - tick_id) * interval '1 minute';
select tick_id, tick_event_seq from pgq.tick order by 1;

create function pg_temp.next(i_lag interval, i_count int, i_interval interval,
                             out prev_tick_id bigint, out cur_tick_id bigint)
language plpgsql as $$
declare
    v_batch bigint;
begin
    -- Tells which ticks a batch would lie between, opens none.
    select b.batch_id, b.prev_tick_id, b.cur_tick_id into v_batch, prev_tick_id, cur_tick_id
    from pgq.next_batch_custom('custom', 'c', i_lag, i_count, i_interval) b;
    update pgq.subscription set sub_batch = null, sub_next_tick = null;
end;
$$;

-- no wish: the next tick
select * from pg_temp.next(null, null, null);
-- count: the latest tick if it is enough, the first that is enough if it is more
-- than twice enough
select * from pg_temp.next(null, 50, null);
select * from pg_temp.next(null, 30, null);
select * from pg_temp.next(null, 15, null);
select * from pg_temp.next(null, 1000, null);
-- time
select * from pg_temp.next(null, null, '5 minutes');
select * from pg_temp.next(null, null, '90 seconds');
select * from pg_temp.next(null, null, '1 hour');
-- either
select * from pg_temp.next(null, 1000, '90 seconds');
select * from pg_temp.next(null, 15, '1 hour');
-- age
select * from pg_temp.next('3 minutes', null, null);
select * from pg_temp.next('5 minutes', null, null);
select * from pg_temp.next('3 minutes', 15, null);
select * from pg_temp.next('3 minutes', 50, null);

-- an open batch is told, whatever is wished
select cur_tick_id from pgq.next_batch_custom('custom', 'c', null, 15, null);
select cur_tick_id from pgq.next_batch_custom('custom', 'c', '1 hour', 1000, null);
select cur_tick_id from pgq.next_batch_info('custom', 'c');

select pgq.drop_queue('custom', true);
