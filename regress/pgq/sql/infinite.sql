--
-- Infinite times: an operator who writes -infinity wants something at once, and one
-- queue with such a time stops no other.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('never'), pgq.create_queue('now'), pgq.create_queue('plain');
select pgq.register_consumer(q, 'c') from unnest('{never,now,plain}'::text[]) q;
update pgq.queue set queue_switch_time = '-infinity' where queue_name = 'now';
update pgq.queue set queue_switch_time = 'infinity' where queue_name = 'never';
select queue_name, queue_switch_time from pgq.get_queue_info() where queue_name <> 'plain';

-- rotation: at once, and never
select * from pgq.maint_operations() where func_name ~ 'rotate';
select queue_name, rotation_due_since, blocker_kind, blocker from pgq.rotation_blockers where blocker_kind <> 'transaction';
select pgq.ticker();
select pgq.force_tick('now') > 0 as forced, pgq.ticker() as ticked;
select batch_id > 0 as opened, pgq.finish_batch(batch_id)
from pgq.next_batch_info('now', 'c') where batch_id is not null;
select pgq.maint_rotate_tables_step1(queue_name) from pgq.queue order by queue_name;
select pgq.maint_rotate_tables_step2();
select queue_name, queue_cur_table, isfinite(queue_switch_time) as switched from pgq.queue order by 1;

-- ticks
update pgq.tick set tick_time = case queue_name when 'now' then '-infinity' else 'infinity' end::timestamptz
from pgq.queue where queue_id = tick_queue and queue_name <> 'plain';
select pgq.insert_event(q, 't', 'd') > 0 as inserted from unnest('{never,now,plain}'::text[]) q;
update pgq.queue set queue_ticker_max_lag = '1 hour', queue_notify = true;
select queue_name, ticker_lag, ev_per_sec, ev_new from pgq.get_queue_info() where queue_name <> 'plain';
select queue_name, lag, last_seen >= '0' as last_seen from pgq.get_consumer_info() where queue_name <> 'plain';
-- one that is long ago is followed, and one to come means that the clock was set back
select queue_name, pgq.ticker(queue_name) > 0 as ticked from pgq.queue order by queue_name;
select queue_name, (pgq.ticker_wake(queue_name)).tick_id > 0 as woken from pgq.queue where queue_name <> 'plain' order by 1;
select q.queue_name, b.batch_id > 0 as opened, cur_tick_time > now() - interval '1 hour' as recent, i.lag < '1 hour' as info
from pgq.queue q, pgq.next_batch_custom(q.queue_name, 'c', '0', 1, '1 hour') b, pgq.get_batch_info(b.batch_id) i
where q.queue_name <> 'plain' order by 1;
update pgq.tick set tick_time = case queue_name when 'now' then '-infinity' else 'infinity' end::timestamptz
from pgq.queue where queue_id = tick_queue and queue_name <> 'plain';
select c.queue_name, i.batch_end, i.lag
from pgq.get_consumer_info() c, pgq.get_batch_info(c.current_batch) i where c.queue_name <> 'plain';
select c.queue_name, pgq.finish_batch(c.current_batch) from pgq.get_consumer_info() c where current_batch is not null;
-- infinite times between batches, and what a consumer wishes
select queue_name, pgq.ticker(queue_name) > 0 as ticked
from pgq.queue, lateral (select pgq.force_tick(queue_name) offset 0) f where queue_name <> 'plain' order by 1;
select queue_name, batch_id > 0 as opened
from pgq.queue, pgq.next_batch_custom(queue_name, 'c', '0', null, '1 hour') where queue_name <> 'plain' order by 1;

-- retention: what it keeps
update pgq.queue set queue_retention = '1 hour', queue_switch_time = '-infinity';
select queue_name, pgq.maint_rotate_tables_step1(queue_name) from pgq.queue order by 1;
select distinct queue_name from pgq.rotation_blockers order by 1;

-- consumers: not heard of for ever, or heard of in the future
update pgq.subscription set sub_active = case queue_name when 'now' then '-infinity' else 'infinity' end::timestamptz
from pgq.queue where queue_id = sub_queue and queue_name <> 'plain';
select queue_name, last_seen from pgq.get_consumer_info() where queue_name <> 'plain';
update pgq.queue set queue_consumer_expiry = '1 hour', queue_switch_time = '-infinity', queue_retention = null,
                     queue_switch_step2 = queue_switch_step2 + 1000000 where queue_name <> 'plain';
select pgq.force_tick(queue_name) > 0 from pgq.queue order by queue_name;
select pgq.ticker();
set client_min_messages = error;
select queue_name, pgq.maint_expire_consumers(queue_name) from pgq.queue order by 1;
set client_min_messages = warning;
select queue_name from pgq.get_consumer_info() order by 1;

-- workers of a split consumer
select pgq.register_slots('plain', 's', 1);
select pgq.force_tick('plain') > 0, pgq.ticker('plain') > 0;
select batch_id > 0 from pgq.next_slot_batch('plain', 's', 'w1');
update pgq.subscription set sub_active = 'infinity' where sub_slot is not null;
select batch_id > 0 from pgq.next_slot_batch('plain', 's', 'w2', '0');
update pgq.subscription set sub_active = '-infinity' where sub_slot is not null;
select batch_id > 0 from pgq.next_slot_batch('plain', 's', 'w2', '10000000 years');

select pgq.drop_queue(queue_name, true) from pgq.queue order by queue_name;
