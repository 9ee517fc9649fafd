--
-- Pausing, moving, configuring and forgetting consumers; who holds up rotation.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset null NULL
set timezone = 'UTC';
select pgq.create_queue('steer');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0';
select pgq.register_consumer('steer', 'a'), pgq.register_consumer('steer', 'b');
create function pg_temp.read(i_consumer text) returns setof text
language plpgsql as $$
declare
    v_batch bigint;
begin
    loop
        v_batch := pgq.next_batch('steer', i_consumer);
        exit when v_batch is null;
        return query select e.ev_data from pgq.get_batch_events(v_batch) e;
        perform pgq.finish_batch(v_batch);
    end loop;
end;
$$;
create function pg_temp.rotate() returns integer
language plpgsql as $$
begin
    perform pgq.maint_rotate_tables_step1('steer');
    return (select queue_cur_table from pgq.queue where queue_name = 'steer');
end;
$$;

-- paused: no batch, by none of the functions; what is open may be finished
select pgq.insert_event('steer', 't', 'one');
select pgq.ticker('steer');
select pgq.insert_event('steer', 't', 'two');
select pgq.ticker('steer');
select pgq.next_batch('steer', 'a') as batch \gset
select pgq.pause_consumer('steer', 'a'), pgq.pause_consumer('steer', 'a');
select pgq.next_batch('steer', 'a'), (pgq.next_batch_info('steer', 'a')).*;
select * from pgq.next_batch_custom('steer', 'a', null, 1, null);
select ev_data from pgq.get_batch_events(:batch);
select pgq.finish_batch(:batch);
select pgq.next_batch('steer', 'a');
select * from pg_temp.read('b');
select pgq.resume_consumer('steer', 'a'), pgq.resume_consumer('steer', 'a');
select * from pg_temp.read('a');

-- settings
select pgq.set_consumer_config('steer', 'a', 'paused', 'yes'), pgq.next_batch('steer', 'a');
select pgq.set_consumer_config('steer', 'a', 'paused', 'no'), pgq.set_consumer_config('steer', 'a', 'max_retries', '5'),
       pgq.set_consumer_config('steer', 'a', 'retry_delay', '1 second'),
       pgq.set_consumer_config('steer', 'a', 'retry_max_delay', '1 minute');
select sub_paused, sub_max_retries, sub_retry_delay, sub_retry_max_delay from pgq.subscription order by sub_consumer;
select pgq.set_consumer_config('steer', 'a', 'max_retries', null), pgq.set_consumer_config('steer', 'a', 'retry_delay', null);
select sub_paused, sub_max_retries, sub_retry_delay, sub_retry_max_delay from pgq.subscription order by sub_consumer;
create function pg_temp.try(i_sql text) returns text
language plpgsql as $$
begin
    execute i_sql;
    return 'accepted';
exception
    when others then
        return sqlstate || ' ' || sqlerrm;
end;
$$;
select pg_temp.try(s) from (values
    ($$select pgq.set_consumer_config('steer', 'a', 'max_retries', '-1')$$),
    ($$select pgq.set_consumer_config('steer', 'a', 'retry_delay', '-1 second')$$),
    ($$select pgq.set_consumer_config('steer', 'a', 'retry_max_delay', null)$$),
    ($$select pgq.set_consumer_config('steer', 'a', 'paused', null)$$),
    ($$select pgq.set_consumer_config('steer', 'a', 'paused', 'perhaps')$$),
    ($$select pgq.set_consumer_config('steer', 'a', 'batch', '1')$$),
    ($$select pgq.set_consumer_config('steer', 'a', null, '1')$$),
    ($$select pgq.set_consumer_config('steer', 'nobody', 'max_retries', '1')$$),
    ($$select pgq.set_consumer_config('nowhere', 'a', 'max_retries', '1')$$),
    ($$select pgq.pause_consumer('steer', 'nobody')$$),
    ($$select pgq.resume_consumer(null, null)$$),
    ($$select pgq.seek_consumer('steer', 'nobody', now())$$),
    ($$select pgq.seek_consumer('steer', 'a', null)$$),
    ($$select pgq.seek_consumer('steer', 'a', '2000-01-01')$$)) v (s);

-- a group: its main consumer's settings are those of all
select pgq.register_consumer('steer', 'main'), pgq.register_consumer('steer', 'main.one');
update pgq.subscription
set sub_id = (select sub_id from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name = 'main'),
    sub_last_tick = null
from pgq.consumer where co_id = sub_consumer and co_name = 'main.one';
select pgq.set_consumer_config('steer', 'main', 'max_retries', '7'), pgq.set_consumer_config('steer', 'main.one', 'retry_delay', '7');
select pgq.pause_consumer('steer', 'main');
select co_name, sub_max_retries, sub_retry_delay, sub_paused
from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name like 'main%' order by 1;
select pgq.seek_consumer('steer', 'main.one', now());
select pgq.unregister_consumer('steer', 'main');

-- and slots: the consumer's name means all of them
select pgq.register_consumer('steer', 'slots#0'), pgq.register_consumer('steer', 'slots#1');
update pgq.subscription set sub_slots = 2, sub_slot = right(co_name, 1)::integer, sub_slot_key = 'ev_extra1'
from pgq.consumer where co_id = sub_consumer and co_name like 'slots#%';
select pgq.pause_consumer('steer', 'slots'), pgq.set_consumer_config('steer', 'slots', 'max_retries', '3'),
       pgq.seek_consumer('steer', 'slots', 'infinity') = max(tick_id) as sought from pgq.tick;
select pgq.resume_consumer('steer', 'slots#1');
select co_name, sub_paused, sub_max_retries from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name like 'slots%' order by 1;
select pgq.unregister_consumer('steer', 'slots#0'), pgq.unregister_consumer('steer', 'slots#1');

-- seeking: the last tick not later than that
select min(tick_id) - 1 as base, max(tick_id) as top from pgq.tick \gset
update pgq.tick set tick_time = timestamptz '2026-01-01' + (tick_id - :base) * interval '1 hour';
select pgq.seek_consumer('steer', 'a', '2026-01-01 01:59:59') - :base as tick;
select * from pg_temp.read('a');
select pgq.seek_consumer('steer', 'a', '2026-01-01 02:00:00') - :base as tick;
select * from pg_temp.read('a');
select pgq.seek_consumer('steer', 'a', now()) = :top as latest;
select * from pg_temp.read('a');
-- an open batch is forgotten
select pgq.seek_consumer('steer', 'a', '2026-01-01 01:00:00') - :base as tick;
select pgq.next_batch('steer', 'a') as batch \gset
select pgq.seek_consumer('steer', 'a', '2026-01-01 01:00:00') - :base as tick;
set client_min_messages = error;
select pgq.finish_batch(:batch);
set client_min_messages = warning;
select * from pg_temp.read('a');
-- a clock that was set back for a while: what came after that time comes
update pgq.tick set tick_time = '2026-01-01 00:30:00' where tick_id = :base + 2;
select pgq.seek_consumer('steer', 'a', '2026-01-01 00:45:00');
select pgq.seek_consumer('steer', 'a', '2026-01-01 01:30:00') - :base as tick;
update pgq.tick set tick_time = '2026-01-01 02:00:00' where tick_id = :base + 2;
select * from pg_temp.read('a');

-- retention: no rotation while something that old would go
select pgq.ticker('steer');
select * from pg_temp.read('a');
select * from pg_temp.read('b');
update pgq.tick set tick_time = now();
select pg_temp.rotate();
select pgq.maint_rotate_tables_step2();
select pgq.insert_event('steer', 't', 'three');
select pgq.ticker('steer');
select * from pg_temp.read('a');
select * from pg_temp.read('b');
select pgq.set_queue_config('steer', 'retention', '1 hour');
-- everything is younger: all of it stays
select pg_temp.rotate();
-- the last tick before the hour is from before the last rotation: it would go
select max(tick_id) as last from pgq.tick \gset
update pgq.tick set tick_time = now() - interval '2 hours' where tick_id < :last;
select pg_temp.rotate();
-- behind it only in the last hour
update pgq.tick set tick_time = now() - interval '61 minutes' where tick_id = :last;
select pgq.insert_event('steer', 't', 'four');
select pgq.ticker('steer');
select * from pg_temp.read('a');
select * from pg_temp.read('b');
select pg_temp.rotate();
select pgq.maint_rotate_tables_step2();
select pgq.seek_consumer('steer', 'a', now() - interval '1 hour') = :last as kept;
select * from pg_temp.read('a');
select pgq.set_queue_config('steer', 'retention', null);

-- who holds up rotation: nobody knows of a due one that goes
create view pg_temp.blockers as
select queue_name, blocker_kind, blocker, rotation_due_since is not null as due, since is not null as since,
       regexp_replace(regexp_replace(detail, 'heard of .*$', 'heard of TIME'), '(tick|batch|of) \d+', '\1 N', 'g') as detail
from pgq.rotation_blockers
where blocker_kind <> 'transaction';
select * from pg_temp.blockers;
select pgq.insert_event('steer', 't', 'five');
select pgq.ticker('steer');
select * from pg_temp.read('a');
select * from pg_temp.blockers;
select pgq.next_batch('steer', 'b') is not null as open;
select pgq.pause_consumer('steer', 'b');
select * from pg_temp.blockers;
select pgq.resume_consumer('steer', 'b');
select * from pg_temp.read('b');
select * from pg_temp.blockers;
select pg_temp.rotate();
select * from pg_temp.blockers;
select pgq.maint_rotate_tables_step2();
select pgq.set_queue_config('steer', 'ticker_paused', 'true');
select * from pg_temp.blockers;
select pgq.set_queue_config('steer', 'ticker_paused', 'false');
update pgq.subscription set sub_last_tick = 1 from pgq.consumer where co_id = sub_consumer and co_name = 'b';
select pgq.ticker('steer');
select * from pg_temp.read('a');
select * from pg_temp.blockers;
select pgq.seek_consumer('steer', 'b', now()) is not null as moved;
-- not due: nobody
select pgq.set_queue_config('steer', 'rotation_period', '1 hour');
select * from pgq.rotation_blockers;
select pgq.set_queue_config('steer', 'rotation_period', '0');
-- everybody may look
create role regress_pgq_nobody;
set role regress_pgq_nobody;
select count(*) > 0 as looked from pgq.rotation_blockers;
reset role;
drop role regress_pgq_nobody;

-- forgotten consumers
select * from pgq.maint_operations() where func_name = 'pgq.maint_expire_consumers';
select pgq.set_queue_config('steer', 'consumer_expiry', '1 day');
select * from pgq.maint_operations() limit 1;
select pgq.register_consumer('steer', 'idle');
select pgq.insert_event('steer', 't', 'six');
select pgq.ticker('steer');
select * from pg_temp.read('a');
update pgq.subscription set sub_active = now() - interval '2 days'
from pgq.consumer where co_id = sub_consumer and co_name in ('a', 'b');
-- a stands at the latest tick and b could read on, idle was heard of today
select pgq.maint_expire_consumers('steer'), pgq.maint_expire_consumers('nowhere'), pgq.maint_expire_consumers(null);
select consumer_name from pgq.get_consumer_info('steer');
-- not while no rotation is due
select pgq.register_consumer_at('steer', 'b', (select min(tick_id) from pgq.tick));
update pgq.subscription set sub_active = now() - interval '2 days'
from pgq.consumer where co_id = sub_consumer and co_name = 'b';
select pgq.set_queue_config('steer', 'rotation_period', '1 hour');
select pgq.maint_expire_consumers('steer');
select pgq.set_queue_config('steer', 'rotation_period', '0');
-- a group only when all of it is silent
update pgq.subscription
set sub_id = (select sub_id from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name = 'b'),
    sub_last_tick = null
from pgq.consumer where co_id = sub_consumer and co_name = 'idle';
select pgq.maint_expire_consumers('steer');
select consumer_name from pgq.get_consumer_info('steer');
update pgq.subscription set sub_active = now() - interval '3 days'
from pgq.consumer where co_id = sub_consumer and co_name = 'idle';
select pgq.maint_expire_consumers('steer');
select consumer_name from pgq.get_consumer_info('steer');
select pgq.drop_queue('steer', true);
