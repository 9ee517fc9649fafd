-- The position of a consumer that tracks ticks.
\set SHOW_CONTEXT never
select pgq_ext.get_last_tick('serial') is null as unknown;
select pgq_ext.set_last_tick('serial', 10);
select pgq_ext.get_last_tick('serial');

-- it moves with the transaction that applies the batch
begin;
select pgq_ext.set_last_tick('serial', 11);
select pgq_ext.get_last_tick('serial');
rollback;
select pgq_ext.get_last_tick('serial');

-- setting it again changes nothing; it may be moved back
select pgq_ext.set_last_tick('serial', 10), pgq_ext.set_last_tick('serial', 4);
select pgq_ext.get_last_tick('serial');

-- workers keep their own
select pgq_ext.set_last_tick('serial', 'w1', 20);
select pgq_ext.get_last_tick('serial', 'w1'), pgq_ext.get_last_tick('serial', ''), pgq_ext.get_last_tick('serial');
select * from pgq_ext.completed_tick order by 1, 2;

-- NULL forgets the position, and only that one
select pgq_ext.set_last_tick('serial', null::bigint);
select pgq_ext.get_last_tick('serial') is null as forgotten;
select * from pgq_ext.completed_tick order by 1, 2;
select pgq_ext.set_last_tick('serial', 'w1', null);
select pgq_ext.set_last_tick('never seen', null::bigint);
select count(*) from pgq_ext.completed_tick;

-- wrong input
select pgq_ext.set_last_tick(null, 1);
select pgq_ext.set_last_tick('serial', null, 1);

-- argument names are part of the interface
select pgq_ext.set_last_tick(a_consumer => 'named', a_tick_id => 7);
select pgq_ext.get_last_tick(a_consumer => 'named', a_subconsumer => '');
delete from pgq_ext.completed_tick;
