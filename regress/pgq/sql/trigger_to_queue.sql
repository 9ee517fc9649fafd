-- A trigger's events in a real queue: they come with their transaction or not at all.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create schema trigger_test;
create table trigger_test.item (id int primary key, name text);
create trigger to_queue after insert or update or delete on trigger_test.item
    for each row execute function pgq.logutriga('trigger_queue');

-- no queue, no change
insert into trigger_test.item values (1, 'a');
select count(*) from trigger_test.item;

select pgq.create_queue('trigger_queue');
select pgq.register_consumer('trigger_queue', 'reader');

insert into trigger_test.item values (1, 'a');
begin;
insert into trigger_test.item values (2, 'undone');
rollback;
begin;
update trigger_test.item set name = 'b & c';
savepoint s;
delete from trigger_test.item;
rollback to s;
commit;
delete from trigger_test.item;

-- whoever may insert events needs no right on the queue's tables
create role regress_producer in role pgq_writer;
grant usage on schema trigger_test to regress_producer;
grant insert on trigger_test.item to regress_producer;
set role regress_producer;
insert into trigger_test.item values (3, 'c');
reset role;

select pgq.force_tick('trigger_queue') is not null as bumped, pgq.ticker('trigger_queue') is not null as ticked;
select e.ev_type, e.ev_data, e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4
  from pgq.next_batch('trigger_queue', 'reader') b, pgq.get_batch_events(b) e;

drop schema trigger_test cascade;
select pgq.drop_queue('trigger_queue', true);
drop role regress_producer;
