--
-- Batches of workers that go or die are handed on.
--
set client_min_messages = warning;
\set VERBOSITY terse
alter sequence pgq.batch_id_seq restart 101;
select pgq.create_queue('q');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0'
where queue_name = 'q';
create function put(i_data text) returns void language plpgsql as $$
begin
    perform pgq.insert_event('q', 't', i_data), pgq.force_tick('q');
end $$;
create function read_batch(i_batch bigint) returns text language sql as
    'select string_agg(e.ev_data, '','' order by e.ev_id) from pgq.get_batch_events(i_batch) e';
-- last heard of SECONDS ago
create function silent(i_name text, i_seconds int) returns void language sql as $$
    update pgq.subscription s set sub_active = now() - make_interval(secs => i_seconds)
    from pgq.consumer c where c.co_id = s.sub_consumer and c.co_name = i_name $$;
create view members as
select regexp_replace(c.co_name, '\d+', 'N') as co_name, s.sub_batch is not null as has_batch, s.sub_paused
from pgq.subscription s join pgq.consumer c on c.co_id = s.sub_consumer order by 1;
select pgq_coop.register_subconsumer('q', 'main', s) from unnest('{one,two,three}'::text[]) s;
select put('a'); select pgq.ticker('q') > 0 as tick;
select put('b'); select pgq.ticker('q') > 0 as tick;

-- unregistered without a batch, and with one
select pgq_coop.unregister_subconsumer('q', 'main', 'nosuch', 0) as nosuch, pgq_coop.unregister_subconsumer('nosuch', 'main', 'one', 0) as no_queue,
       pgq_coop.unregister_subconsumer('q', 'nosuch', 'one', 0) as no_main;
select pgq_coop.unregister_subconsumer('q', 'main', 'three', 0);
select pgq_coop.next_batch('q', 'main', 'one') as one \gset
select pgq_coop.unregister_subconsumer('q', 'main', 'one', 0);
select pgq_coop.unregister_subconsumer('q', 'main', 'one', null);
select pgq_coop.unregister_subconsumer('q', 'main', 'one', 1);
table members;
select co_name = 'main.(batch ' || :one || ')' as left_batch from pgq.consumer order by co_name;
-- it comes before the next one
select pgq_coop.next_batch('q', 'main', 'two') as batch \gset
select :batch = :one as handed_on, read_batch(:batch), pgq_coop.finish_batch(:batch);
table members;
-- the one that went may come again and take what it left
select pgq_coop.next_batch('q', 'main', 'two') as batch \gset
select pgq_coop.unregister_subconsumer('q', 'main', 'two', 1);
select pgq_coop.next_batch('q', 'main', 'two') = :batch as again, read_batch(:batch), pgq_coop.finish_batch(:batch);
-- or finish it late
select put('late'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'two') as batch \gset
select pgq_coop.unregister_subconsumer('q', 'main', 'two', 1);
select pgq_coop.finish_batch(:batch);
select pgq_coop.next_batch('q', 'main', 'two');
table members;

-- dead ones
select put('c'); select pgq.ticker('q') > 0 as tick;
select put('d'); select pgq.ticker('q') > 0 as tick;
select put('e'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'two') as two, pgq_coop.next_batch('q', 'main', 'three') as three \gset
select silent('main.two', 100), silent('main.three', 200);
select pgq_coop.next_batch('q', 'main', 'one', '1000 seconds') not in (:two, :three) as other;
select pgq_coop.finish_batch(pgq_coop.next_batch('q', 'main', 'one'));
-- the oldest batch first
select pgq_coop.next_batch('q', 'main', 'one', '50 seconds') = :two as oldest;
table members;
select read_batch(:two), pgq_coop.finish_batch(:two);
-- asking again is a sign of life
select pgq_coop.next_batch('q', 'main', 'three') = :three as own;
select pgq_coop.next_batch('q', 'main', 'one', '50 seconds');
-- what the dead one finishes late is finished
select silent('main.three', 100);
select pgq_coop.next_batch('q', 'main', 'one', '50 seconds') = :three as taken;
select pgq_coop.finish_batch(:three), pgq_coop.finish_batch(:three);
-- without a batch they just go; who only waits lives
select pgq_coop.register_subconsumer('q', 'main', s) from unnest('{two,three}'::text[]) s;
select silent('main.two', 100), silent('main.one', 40), silent('main.three', 40);
select pgq_coop.next_batch('q', 'main', 'one', '50 seconds');
table members;
select last_seen < '10 seconds' as alive from pgq.get_consumer_info('q', 'main.one');
-- a paused one is not dead
select put('f'); select pgq.ticker('q') > 0 as tick;
select pgq_coop.next_batch('q', 'main', 'three') as three \gset
update pgq.subscription set sub_paused = true where sub_batch = :three;
select silent('main.three', 100);
select pgq_coop.next_batch('q', 'main', 'one', '50 seconds');
update pgq.subscription set sub_paused = false where sub_batch = :three;
select pgq_coop.next_batch('q', 'main', 'one', '50 seconds') = :three as taken, read_batch(:three), pgq_coop.finish_batch(:three);

-- a worker that reads elsewhere too keeps its name
select pgq.create_queue('other');
select pgq.register_consumer('other', 'main.one');
select pgq_coop.unregister_subconsumer('q', 'main', 'one', 0);
select queue_name, consumer_name from pgq.get_consumer_info();
select pgq.drop_queue('other', true), pgq.drop_queue('q', true);
drop view members;
drop function put, read_batch, silent;
