-- Events of a batch that are not done with it: noted where the rest is applied, carried
-- out when the batch is finished at the queue.
\set SHOW_CONTEXT never
create view kept as
select consumer_id, subconsumer_id, batch_id, event_id, retry_seconds, reason from pgq_ext.event_aside order by 1, 2, 3, 4;

select pgq_ext.set_batch_done('mover', 1);
select pgq_ext.set_events_aside('mover', 1, array[12, 11, 13], array[60, null, 0], array[null, 'no such user', 'soon']);
select * from pgq_ext.get_events_aside('mover', 1);
select * from pgq_ext.get_events_aside('mover', 2);
select * from pgq_ext.get_events_aside('other', 1);

-- the batch comes again: it is done, and what is noted stays
select pgq_ext.set_batch_done('mover', 1);
select * from pgq_ext.get_events_aside('mover', 1);

-- more of the same batch, and another wish for an event; the last one counts
select pgq_ext.set_events_aside('mover', 1, array[13, 14, 14], array[null, 5, 6], array['worn', 'a', 'b']);
select * from pgq_ext.get_events_aside('mover', 1);

-- undone with the transaction; the next batch forgets it, with events or without
begin;
select pgq_ext.set_batch_done('mover', 2);
select pgq_ext.set_events_aside('mover', 2, array[20], array[1], array[null]);
select * from kept;
rollback;
select count(*) from kept;
select pgq_ext.set_batch_done('mover', 2);
select * from kept;

-- a consumer that tracks ticks notes them for the tick
select pgq_ext.set_last_tick('serial', 7);
select pgq_ext.set_events_aside('serial', 7, array[70], array[10], array['busy']);
select pgq_ext.set_last_tick('serial', 7);
select * from pgq_ext.get_events_aside('serial', 7);
select pgq_ext.set_last_tick('serial', 8);
select * from kept;
select pgq_ext.set_events_aside('serial', 8, array[80], array[10], array[null]);
select pgq_ext.set_last_tick('serial', 7);
select * from kept;
select pgq_ext.set_events_aside('serial', 7, array[70], array[10], array[null]);
select pgq_ext.set_last_tick('serial', null::bigint);
select * from kept;

-- consumers and their workers do not meet
select pgq_ext.set_batch_done('mover', 3), pgq_ext.set_batch_done('mover', 'w1', 3), pgq_ext.set_batch_done('third', 3);
select pgq_ext.set_events_aside('mover', 3, array[1], array[1], array[null]),
       pgq_ext.set_events_aside('mover', 'w1', 3, array[2], array[2], array[null]),
       pgq_ext.set_events_aside('third', 3, array[3], array[3], array[null]);
select pgq_ext.set_batch_done('mover', 4);
select * from kept;
select * from pgq_ext.get_events_aside('mover', 'w1', 3);
select pgq_ext.set_last_tick('mover', 'w1', 1);
select * from kept;

-- nothing is something, too
select pgq_ext.set_events_aside('mover', 4, '{}', '{}', '{}');

-- wrong input
select pgq_ext.set_events_aside(null, 1, array[1], array[1], array['']);
select pgq_ext.set_events_aside('mover', null, 1, array[1], array[1], array['']);
select pgq_ext.set_events_aside('mover', null, array[1], array[1], array['']);
select pgq_ext.set_events_aside('mover', 1, null, array[1], array['']);
select pgq_ext.set_events_aside('mover', 1, array[1], null, array['']);
select pgq_ext.set_events_aside('mover', 1, array[1], array[1], null);
select pgq_ext.set_events_aside('mover', 1, array[1, null], array[1, 1], array['', '']);
select pgq_ext.set_events_aside('mover', 1, array[1, 2], array[1], array['', '']);
select pgq_ext.set_events_aside('mover', 1, array[1], array[1], '{}');
select * from pgq_ext.get_events_aside(null, 1);

-- argument names are part of the interface
select pgq_ext.set_events_aside(a_consumer => 'named', a_batch_id => 7, a_event_ids => array[8], a_retry_seconds => array[9], a_reasons => array['x']);
select event_id, retry_seconds, reason from pgq_ext.get_events_aside(a_consumer => 'named', a_subconsumer => '', a_batch_id => 7);

truncate pgq_ext.completed_batch, pgq_ext.completed_tick, pgq_ext.event_aside;
drop view kept;
