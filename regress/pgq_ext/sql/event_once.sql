-- A batch that is applied event by event, in several transactions.
\set SHOW_CONTEXT never
select pgq_ext.is_event_done('each', 1, 101);
select pgq_ext.set_event_done('each', 1, 101);
select pgq_ext.set_event_done('each', 1, 101);
select pgq_ext.is_event_done('each', 1, 101), pgq_ext.is_event_done('each', 1, 102);

-- an event whose transaction is undone is done again
begin;
select pgq_ext.set_event_done('each', 1, 102);
rollback;
select pgq_ext.is_event_done('each', 1, 102);
select pgq_ext.set_event_done('each', 1, 102);

-- workers keep their own
select pgq_ext.set_event_done('each', 'w1', 1, 101);
select pgq_ext.is_event_done('each', 'w1', 1, 102);
select * from pgq_ext.completed_event order by 1, 2, 3, 4;
select * from pgq_ext.partial_batch order by 1, 2;

-- the first event of the next batch forgets the batch before, of this worker only
select pgq_ext.set_event_done('each', 2, 103);
select * from pgq_ext.completed_event order by 1, 2, 3, 4;
select * from pgq_ext.partial_batch order by 1, 2;

-- the change of batch is undone with its transaction
begin;
select pgq_ext.set_event_done('each', 3, 104);
rollback;
select pgq_ext.is_event_done('each', 2, 103);
select * from pgq_ext.partial_batch order by 1, 2;

-- an event that came back by retry carries its id into the later batch
select pgq_ext.set_event_done('each', 3, 103);
select pgq_ext.is_event_done('each', 2, 103), pgq_ext.is_event_done('each', 3, 103);

-- wrong input
select pgq_ext.set_event_done(null, 1, 1);
select pgq_ext.set_event_done('each', null, 1, 1);
select pgq_ext.set_event_done('each', null, 1);
select pgq_ext.set_event_done('each', 1, null);

-- argument names are part of the interface
select pgq_ext.set_event_done(a_consumer => 'named', a_batch_id => 7, a_event_id => 8);
select pgq_ext.is_event_done(a_consumer => 'named', a_subconsumer => '', a_batch_id => 7, a_event_id => 8);
delete from pgq_ext.completed_event;
delete from pgq_ext.partial_batch;
