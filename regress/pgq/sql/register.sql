--
-- Consumers come, move and go.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('register');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
select pgq.ticker('register');
select pgq.register_consumer('register', 'a');
select pgq.register_consumer(x_queue_name => 'register', x_consumer_id => 'a');
select pgq.insert_event('register', 't', 'one');
select pgq.ticker('register');
select pgq.insert_event('register', 't', 'two');
select pgq.ticker('register');

-- at a tick: the events after it
select pgq.register_consumer_at('register', 'b', 3);
select last_tick, current_batch, next_tick from pgq.get_consumer_info('register', 'b');
select e.ev_data from pgq.get_batch_events(pgq.next_batch('register', 'b')) e;

-- moved: the open batch is forgotten
select pgq.register_consumer_at('register', 'b', 2);
select last_tick, current_batch, next_tick from pgq.get_consumer_info('register', 'b');
select e.ev_data from pgq.get_batch_events(pgq.next_batch('register', 'b')) e;
-- without a tick nothing moves
select pgq.register_consumer_at('register', 'b', null);
select last_tick, current_batch is not null as open, next_tick from pgq.get_consumer_info('register', 'b');

-- one consumer of two queues keeps its name until it has left both
select pgq.create_queue('register 2');
select pgq.register_consumer('register 2', 'b');
select pgq.unregister_consumer('register', 'b');
select count(*) from pgq.consumer where co_name = 'b';
select pgq.unregister_consumer('register 2', 'b');
select count(*) from pgq.consumer where co_name = 'b';

-- the retried events go along
select pgq.event_retry_raw('register', 'a', now(), null, now(), 0, 't', 'd', null, null, null, null) > 0 as put_aside;
select pgq.unregister_consumer('register', 'a');
select count(*) from pgq.retry_queue;

-- a group: subconsumers share the id of the main consumer
select pgq.register_consumer('register', 'main');
create function pg_temp.join_group(i_name text, i_last bigint, i_next bigint, i_batch bigint) returns void
language sql as $$
    insert into pgq.consumer (co_name) values (i_name);
    insert into pgq.subscription (sub_id, sub_queue, sub_consumer, sub_last_tick, sub_next_tick, sub_batch)
    select s.sub_id, s.sub_queue, c.co_id, i_last, i_next, i_batch
    from pgq.subscription s
    join pgq.consumer m on m.co_id = s.sub_consumer and m.co_name = 'main'
    join pgq.consumer c on c.co_name = i_name;
$$;
select pg_temp.join_group('idle', null, null, null), pg_temp.join_group('busy', 1, 2, nextval('pgq.batch_id_seq')),
       pg_temp.join_group('other', null, null, null);
select pgq.unregister_consumer('register', 'idle');
select pgq.unregister_consumer('register', 'busy');
select queue_name, consumer_name, lag is null as no_lag, last_tick, pending_events from pgq.get_consumer_info('register');
select pgq.unregister_consumer('register', 'main');
select count(*) from pgq.subscription;

-- what makes no sense
select pgq.register_consumer('nowhere', 'a');
\echo :SQLSTATE
select pgq.register_consumer(null, 'a');
\echo :SQLSTATE
select pgq.register_consumer('register', null);
\echo :SQLSTATE
select pgq.register_consumer_at('register', 'a', 12345);
\echo :SQLSTATE
select pgq.unregister_consumer('register', 'nobody'), pgq.unregister_consumer('nowhere', 'a'),
       pgq.unregister_consumer(null, null);
begin;
delete from pgq.tick;
select pgq.register_consumer('register', 'a');
\echo :SQLSTATE
rollback;

-- a consumer whose tick is gone gets told
begin;
select pgq.register_consumer('register', 'lost');
update pgq.subscription set sub_last_tick = 12345;
select pgq.next_batch('register', 'lost');
\echo :SQLSTATE
rollback;

delete from pgq.consumer;
select pgq.drop_queue('register'), pgq.drop_queue('register 2');
