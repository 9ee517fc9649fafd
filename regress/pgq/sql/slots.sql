--
-- A consumer split into slots: order for each key, positions of their own, one
-- group for retries; made, made anew and removed together.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL

-- which slot: never another one, on no server
select pgq.slot_of('', 1000), pgq.slot_of('a', 1000), pgq.slot_of('customer-17', 1000), pgq.slot_of(E'a\\b', 1000),
       pgq.slot_of(repeat('x', 100000), 1000), pgq.slot_of('a', 2147483647), pgq.slot_of('a', 1);
select pgq.slot_of(null, 7), pgq.slot_of('a', null), pgq.slot_of(null, null);
select pgq.slot_of('a', 0);
\echo :SQLSTATE
select pgq.slot_of(null, -1);
\echo :SQLSTATE
select slot, count(*) between 200 and 300 as fair from generate_series(1, 1000) i, pgq.slot_of('key ' || i, 4) slot group by 1 order by 1;

select pgq.create_queue('slots');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
create view pg_temp.slot as
    select co_name, sub_slot, sub_slots, sub_slot_key, sub_last_tick, sub_batch is not null as open, sub_worker,
           dense_rank() over (order by sub_id) as sub
    from pgq.subscription join pgq.consumer on co_id = sub_consumer order by sub_slot, 1;
create function pg_temp.work(i_worker text, i_finish boolean default true)
returns table (slot int, id bigint, retry int, type text, key text)
language plpgsql as $$
-- Takes batches until there are none, or only one.
declare
    v_batch record;
begin
    loop
        v_batch := pgq.next_slot_batch('slots', 'c', i_worker);
        exit when v_batch.batch_id is null;
        return query
            select v_batch.slot, e.ev_id, e.ev_retry, e.ev_type, e.ev_extra1 from pgq.get_batch_events(v_batch.batch_id) e;
        exit when not i_finish;
        perform pgq.finish_batch(v_batch.batch_id);
    end loop;
end;
$$;

create function pg_temp.put(i_type text, i_key text) returns bigint
language sql as 'select pgq.insert_event(''slots'', i_type, ''d'', i_key, ''x'', null, null)';

-- a new consumer: from the latest tick on; the same again changes nothing
select pgq.register_slots('slots', 'c', 3);
select pgq.register_slots('slots', 'c', 3);
select * from pg_temp.slot;
select queue_name, consumer_name, last_tick from pgq.get_consumer_info();
select count(pg_temp.put('t' || i, 'key ' || i % 4)) from generate_series(1, 8) i;
select pgq.insert_event('slots', 'no key', 'd');
select pgq.ticker('slots');

-- each event in one slot, each key in one slot
select * from pg_temp.work('w', false);
select slot, cur_tick_id, prev_tick_id, cur_tick_time >= prev_tick_time as times, cur_tick_event_seq, prev_tick_event_seq
from pgq.next_slot_batch('slots', 'c', 'w');
select * from pg_temp.slot;
-- the readers agree
create function pg_temp.batch() returns bigint language sql as 'select sub_batch from pgq.subscription where sub_worker = ''w''';
select count(*) from pgq.get_batch_cursor(pg_temp.batch(), 'cursor', 100) c
join pgq.get_batch_events(pg_temp.batch()) e using (ev_id);
select pgq.batch_event_sql(pg_temp.batch()) ~ 'pgq.slot_of\(ev_extra1, 3\) operator\(pg_catalog\.=\) 0' as filtered;
select * from pg_temp.work('v');
select * from pg_temp.work('w');
select * from pg_temp.slot;

-- a retried event comes to the slot of its key, whoever works on it
select pg_temp.put('again', 'key ' || i) from generate_series(1, 3) i;
select pgq.ticker('slots') > 0 as ticked;
select s.slot, pgq.batch_retry(s.batch_id, 0), pgq.finish_batch(s.batch_id) from pgq.next_slot_batch('slots', 'c', 'w') s;
select s.slot, pgq.batch_retry(s.batch_id, 0), pgq.finish_batch(s.batch_id) from pgq.next_slot_batch('slots', 'c', 'w') s;
select s.slot, pgq.batch_retry(s.batch_id, 0), pgq.finish_batch(s.batch_id) from pgq.next_slot_batch('slots', 'c', 'w') s;
select pgq.maint_retry_events();
select pgq.ticker('slots') > 0 as ticked;
select *, pgq.slot_of(key, 3) = slot as its_slot from pg_temp.work('v') order by id;

-- dead events are the group's, limits of one slot hold for all
update pgq.subscription set sub_max_retries = 0 where sub_slot = 1;
select pg_temp.put('fails', 'key ' || i) from generate_series(1, 3) i;
select pgq.ticker('slots') > 0 as ticked;
select count(pgq.batch_retry(batch_id, 0) + pgq.finish_batch(batch_id))
from (select (pgq.next_slot_batch('slots', 'c', 'w' || i)).batch_id from generate_series(1, 3) i) b;
select queue_name, consumer_name, ev_id, reason from pgq.dead_letter order by ev_id;
select pgq.failed_event_count('slots', 'c'), pgq.failed_event_count('slots', 'c#2');
select pgq.failed_event_retry('slots', 'c');
select pgq.maint_retry_events();
select pgq.ticker('slots') > 0 as ticked;
select slot, retry, key, pgq.slot_of(key, 3) = slot as its_slot from pg_temp.work('v') order by id;

-- alive as long as it is heard of; a batch that is given to another has a new id
select pg_temp.put('t', 'key 3') > 0 as inserted;
select pgq.ticker('slots') > 0 as ticked;
select batch_id as batch, slot from pgq.next_slot_batch('slots', 'c', 'slow') \gset
select count(*) from pg_temp.work('v');
select pgq.touch_batch(:batch), pgq.touch_batch(-1);
select batch_id from pgq.next_slot_batch('slots', 'c', 'v', '1 hour');
update pgq.subscription set sub_active = now() - interval '2 hours' where sub_batch is not null;
select batch_id from pgq.next_slot_batch('slots', 'c', 'v');
-- not while it is paused
update pgq.subscription set sub_paused = true;
select batch_id from pgq.next_slot_batch('slots', 'c', 'v', '1 hour');
select batch_id from pgq.next_slot_batch('slots', 'c', 'slow');
update pgq.subscription set sub_paused = false;
select batch_id > :batch as other_id, slot = :slot as same_slot from pgq.next_slot_batch('slots', 'c', 'v', '1 hour');
select batch_id > :batch as other_id, slot = :slot as same_slot from pgq.next_slot_batch('slots', 'c', 'v', '1 hour');
set client_min_messages = error;
select pgq.touch_batch(:batch), pgq.finish_batch(:batch);
set client_min_messages = warning;
select count(*) from pg_temp.work('v');
select batch_id from pgq.next_slot_batch('slots', 'c', 'slow', '0');

-- another number of slots: when all are at one tick
select pg_temp.put('t', 'key 3') > 0 as inserted;
select pgq.ticker('slots') as tick \gset
select pgq.finish_batch(batch_id) from pgq.next_slot_batch('slots', 'c', 'w');
select batch_id > 0 as opened from pgq.next_slot_batch('slots', 'c', 'w');
\set VERBOSITY terse
select pgq.register_slots('slots', 'c', 2);
\echo :SQLSTATE
\set VERBOSITY default
do $$
declare
    v_detail text;
begin
    perform pgq.register_slots('slots', 'c', 2);
exception
    when object_not_in_prerequisite_state then
        get stacked diagnostics v_detail = pg_exception_detail;
        raise warning '%', regexp_replace(v_detail, 'batch \d+', 'batch N');
end;
$$;
select count(*) from pg_temp.work('w');
select pgq.register_slots('slots', 'c', 2);
select co_name, sub_slot, sub_slots, sub_last_tick = :tick as at_tick, open, sub from pg_temp.slot;
select pgq.register_slots('slots', 'c', 4, 'ev_type');
select co_name, sub_slot, sub_slots, sub_slot_key, sub_last_tick = :tick as at_tick, open, sub from pg_temp.slot;
select distinct sub_max_retries from pgq.subscription;
select count(pgq.insert_event('slots', 'type ' || i, 'd')) from generate_series(1, 20) i;
select pgq.ticker('slots') > 0 as ticked;
select count(*), count(distinct id), count(distinct slot), bool_and(pgq.slot_of(type, 4) = slot) as its_slot from pg_temp.work('w');

-- removed together, however they are called
select pgq.unregister_slots('slots', 'c'), pgq.unregister_slots('slots', 'c');
select pgq.register_slots('slots', 'c', 2), pgq.unregister_consumer('slots', 'c#1');
select pgq.register_slots('slots', 'c', 2), pgq.unregister_consumer('slots', 'c');
select count(*) from pgq.consumer;
select pgq.unregister_consumer('slots', 'c'), pgq.unregister_slots('slots', 'c');

-- a consumer as it was before: keeps its position and what it has put aside
select pgq.register_consumer('slots', 'c');
select count(pg_temp.put('t', 'key ' || i)) from generate_series(1, 10) i;
select pgq.ticker('slots') > 0 as ticked;
select pgq.next_batch('slots', 'c') as batch \gset
select pgq.batch_retry(:batch, 0);
\set VERBOSITY terse
select pgq.register_slots('slots', 'c', 2);
\echo :SQLSTATE
\set VERBOSITY default
select pgq.finish_batch(:batch);
select count(pg_temp.put('t', 'key ' || i)) from generate_series(11, 15) i;
select pgq.ticker('slots') > 0 as ticked;
select pgq.register_slots('slots', 'c', 2);
select pgq.maint_retry_events();
select pgq.ticker('slots') > 0 as ticked;
select retry, count(*), count(distinct id), count(distinct slot) from pg_temp.work('w') group by 1 order by 1;
select co_name from pgq.consumer order by 1;

-- the slots may also be read one by one
select count(pg_temp.put('t', 'key ' || i)) from generate_series(1, 10) i;
select pgq.ticker('slots') > 0 as ticked;
select pgq.next_batch('slots', 'c#1') as batch \gset
select count(*) > 0 as some, bool_and(pgq.slot_of(ev_extra1, 2) = 1) as its_slot from pgq.get_batch_events(:batch);
select slot from pgq.next_slot_batch('slots', 'c', 'w');
select slot from pgq.next_slot_batch('slots', 'c', 'v');
select pgq.finish_batch(:batch);

-- refused
select pgq.register_consumer('slots', 'd#1');
\set VERBOSITY terse
select pgq.register_slots('slots', 'd', 2);
\echo :SQLSTATE
select pgq.register_slots('slots', 'd', 0);
\echo :SQLSTATE
select pgq.register_slots('slots', 'd', 1001);
\echo :SQLSTATE
select pgq.register_slots('slots', 'd', null);
\echo :SQLSTATE
select pgq.register_slots('slots', null, 2);
\echo :SQLSTATE
select pgq.register_slots('slots', 'd', 2, 'ev_id');
\echo :SQLSTATE
select pgq.register_slots('nowhere', 'd', 2);
\echo :SQLSTATE
select pgq.next_slot_batch('slots', 'd', 'w');
\echo :SQLSTATE
select pgq.next_slot_batch('slots', 'c', null);
\echo :SQLSTATE
-- a group of subconsumers is another thing
select pgq.register_consumer('slots', 'm'), pgq.register_consumer('slots', 'm.1');
update pgq.subscription
set sub_id = (select sub_id from pgq.subscription, pgq.consumer where co_id = sub_consumer and co_name = 'm'), sub_last_tick = null
from pgq.consumer where co_id = sub_consumer and co_name = 'm.1';
select pgq.register_slots('slots', 'm', 2);
\echo :SQLSTATE
select pgq.register_slots('slots', 'm.1', 2);
\echo :SQLSTATE
\set VERBOSITY default

select pgq.drop_queue('slots', true);
select co_name from pgq.consumer where co_name <> 'm.1';
