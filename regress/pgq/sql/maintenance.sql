--
-- What upkeep is due, and the small helpers.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select * from pgq.maint_operations();
select pgq.create_queue('b'), pgq.create_queue('a');
select * from pgq.maint_operations();
update pgq.queue set queue_rotation_period = '0';
select * from pgq.maint_operations();
-- rotation half done
select pgq.maint_rotate_tables_step1('a');
select * from pgq.maint_operations();
select pgq.maint_rotate_tables_step2();
update pgq.queue set queue_rotation_period = '1 hour';
-- what a queue wants, in its order
update pgq.queue set queue_extra_maint = '{my.second,my.first}' where queue_name = 'b';
select * from pgq.maint_operations();
update pgq.queue set queue_extra_maint = null;

-- without autovacuum the small tables are ours
select current_setting('autovacuum') as autovacuum, count(*) from pgq.maint_tables_to_vacuum();

-- other extensions' upkeep, if they are there
create schema pgq_node;
create table pgq_node.node_info (queue_name text, node_type text);
insert into pgq_node.node_info values ('a', 'root'), ('b', 'leaf');
create function pgq_node.maint_watermark(text) returns int language sql as 'select 0';
create schema londiste;
create function londiste.root_check_seqs(text) returns int language sql as 'select 0';
create function londiste.periodic_maintenance() returns int language sql as 'select 0';
select * from pgq.maint_operations();
drop schema pgq_node, londiste cascade;

-- information about queues
select queue_name, queue_ntables, queue_cur_table, queue_rotation_period, queue_switch_time <= now() as switch_time,
       queue_external_ticker, queue_ticker_paused, queue_ticker_max_count, queue_ticker_max_lag, queue_ticker_idle_period,
       ticker_lag >= '0' as ticker_lag, ev_per_sec, ev_new, last_tick_id
from pgq.get_queue_info();
update pgq.queue set queue_ticker_max_lag = '0' where queue_name = 'a';
select count(pgq.insert_event('a', 't', 'd')) from generate_series(1, 20);
select pgq.ticker('a');
update pgq.tick set tick_time = now() - (2 - tick_id) * interval '10 seconds'
from pgq.queue where queue_id = tick_queue and queue_name = 'a';
select pgq.insert_event('a', 't', 'd');
select queue_name, ev_per_sec, ev_new, last_tick_id from pgq.get_queue_info('a');
select count(*) from pgq.get_queue_info('nowhere');
select count(*) from pgq.get_queue_info(null);

-- and about consumers
select pgq.register_consumer_at('a', 'x', 1), pgq.register_consumer('a', 'y'), pgq.register_consumer('b', 'x');
select queue_name, consumer_name, lag >= '0' as lag, last_seen >= '0' as last_seen, last_tick, current_batch, next_tick, pending_events
from pgq.get_consumer_info();
select pgq.next_batch('a', 'x') > 0 as opened;
select queue_name, consumer_name, last_tick, current_batch > 0 as current_batch, next_tick, pending_events from pgq.get_consumer_info('a');
select queue_name, consumer_name from pgq.get_consumer_info(null, 'x');
select queue_name, consumer_name from pgq.get_consumer_info('a', 'y');
select queue_name, consumer_name from pgq.get_consumer_info('a', 'nobody');
-- a queue of 3.5 that nobody has written to: its first tick counts one
update pgq.tick set tick_event_seq = 1 from pgq.queue where queue_id = tick_queue and queue_name = 'b';
select queue_name, ev_new from pgq.get_queue_info('b');
select pgq.ticker('b');
select queue_name, consumer_name, pending_events from pgq.get_consumer_info('b');
select pgq.drop_queue('a', true), pgq.drop_queue('b', true);

-- names and sequences
select pgq.quote_fqname(n) from (values ('t'), ('s.t'), ('S.T x'), ('s.t.u'), ('"q".t'), (''), (null)) v (n);
create sequence public."Seq x";
select pgq.seq_getval('public.Seq x'), pgq.seq_setval('Seq x', 10), pgq.seq_getval('Seq x'),
       pgq.seq_setval('Seq x', 5), nextval('"Seq x"'), pgq.seq_setval(null, 5), pgq.seq_getval(null);
drop sequence "Seq x";
select pgq.seq_getval('nowhere');
