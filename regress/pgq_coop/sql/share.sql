--
-- Workers share the batches of one consumer.
--
set client_min_messages = warning;
\set VERBOSITY terse
alter sequence pgq.batch_id_seq restart 101;
select pgq.create_queue('q');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0'
where queue_name = 'q';
-- put(DATA): an event and the tick behind it
create function put(i_data text) returns void language plpgsql as $$
begin
    perform pgq.insert_event('q', 't', i_data), pgq.force_tick('q');
end $$;
create function read_batch(i_batch bigint) returns text language sql as
    'select string_agg(e.ev_data, '','' order by e.ev_id) from pgq.get_batch_events(i_batch) e';
-- the rows, with ticks as what they are to the group
create view members as
select c.co_name, s.sub_id = (select min(m.sub_id) from pgq.subscription m) as in_group, s.sub_last_tick is not null as has_last,
       s.sub_next_tick is not null as has_next, s.sub_batch is not null as has_batch
from pgq.subscription s join pgq.consumer c on c.co_id = s.sub_consumer order by 1;

-- registration
select pgq_coop.register_subconsumer('q', 'main', 'one');
select pgq_coop.register_subconsumer('q', 'main', 'one');
table members;
select pgq_coop.register_subconsumer('nosuch', 'main', 'one');
select pgq_coop.register_subconsumer('q', 'main', null);
select pgq_coop.register_subconsumer('q', null, 'one');
select pgq_coop.register_subconsumer('q', 'main.one', 'deeper');
select pgq_coop.next_batch('q', 'main.one', 'deeper');
select pgq.register_consumer('q', 'main.alone');
select pgq_coop.register_subconsumer('q', 'main', 'alone');
select pgq_coop.next_batch('q', 'main', 'alone');
select pgq.unregister_consumer('q', 'main.alone');
select pgq_coop.next_batch('nosuch', 'main', 'one');
select pgq_coop.next_batch('q', 'main', 'one');

-- each worker gets another batch, and the same one until it is finished
select put('a'); select pgq.ticker('q') > 0 as tick;
select put('b'); select pgq.ticker('q') > 0 as tick;
select put('c'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'one') as one, pgq_coop.next_batch('q', 'main', 'two') as two \gset
select :one <> :two as different, read_batch(:one) as one, read_batch(:two) as two;
select :one = pgq_coop.next_batch('q', 'main', 'one') as same;
table members;
select queue_name, consumer_name, current_batch is not null as batch, pending_events is not null as pending from pgq.get_consumer_info();
select queue_name, consumer_name from pgq.get_batch_info(:two);
-- the later one may be done first; then rotation still waits for the earlier one
select pgq_coop.finish_batch(:two), pgq_coop.finish_batch(:two);
select pgq_coop.next_batch('q', 'main', 'two') as three \gset
select read_batch(:three), pgq_coop.finish_batch(:three);
select pgq_coop.next_batch('q', 'main', 'two');
select txid_current() > 0 as other_transaction;
select queue_cur_table as before from pgq.queue \gset
select pgq.maint_rotate_tables_step1('q');
select pgq.maint_rotate_tables_step2();
select queue_cur_table - :before as rotated from pgq.queue;
select pgq.maint_rotate_tables_step1('q');
select queue_cur_table - :before as rotated from pgq.queue;
select read_batch(:one), pgq_coop.finish_batch(:one);
select pgq.maint_rotate_tables_step1('q');
select pgq.maint_rotate_tables_step2();
select queue_cur_table <> :before as rotated from pgq.queue;

-- retried events come back to any of the group
select put('again'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'one') as batch \gset
select ev_id from pgq.get_batch_events(:batch) \gset
select pgq.event_retry(:batch, :ev_id, 0), pgq_coop.finish_batch(:batch);
select pgq.maint_retry_events();
select pgq.force_tick('q') > 0 as forced, pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'two') as batch \gset
select ev_retry, ev_data from pgq.get_batch_events(:batch);
select pgq_coop.finish_batch(:batch);

-- wishes
select put('small'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch_custom('q', 'main', 'one', '1 hour', null, null);
select pgq_coop.next_batch_custom('q', 'main', 'one', null, null, '1 hour');
select pgq_coop.next_batch_custom('q', 'main', 'one', null, 1, null) as batch \gset
select read_batch(:batch), pgq_coop.finish_batch(:batch);

-- a batch of a consumer that is no worker is not ours to finish
select put('main'); select pgq.ticker('q') > 0 as tick;
select pgq.next_batch('q', 'main') as batch \gset
select pgq_coop.next_batch('q', 'main', 'one');
select pgq_coop.finish_batch(:batch);
select read_batch(:batch), pgq.finish_batch(:batch);
-- nor should a worker's be finished by the other function: it does no harm for long
select put('mixed'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'one') as batch \gset
select pgq.finish_batch(:batch);
select pgq_coop.next_batch('q', 'main', 'one');
table members;

-- paused
update pgq.subscription s set sub_paused = true from pgq.consumer c where c.co_id = s.sub_consumer and c.co_name = 'main.one';
select put('paused'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'one') is null as nothing, pgq_coop.next_batch('q', 'main', 'two') as two \gset
select :'nothing' as nothing, read_batch(:two), pgq_coop.finish_batch(:two);
update pgq.subscription s set sub_paused = c.co_name = 'main' from pgq.consumer c where c.co_id = s.sub_consumer;
select put('paused'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'one') as one, pgq_coop.next_batch('q', 'main', 'two') as two;
update pgq.subscription set sub_paused = false;
select pgq_coop.next_batch('q', 'main', 'one') as batch \gset
select read_batch(:batch), pgq_coop.finish_batch(:batch);

-- the whole group goes with its main consumer
select pgq.unregister_consumer('q', 'main');
table members;
select pgq.drop_queue('q', true);
drop view members;
drop function put, read_batch;
