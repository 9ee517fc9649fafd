-- A batch has its effect once, however often it is brought.
\set SHOW_CONTEXT never
create schema target;
create table target.account (name text primary key, balance int not null);
insert into target.account values ('anna', 0);

-- the consumer's side of one batch: check, apply, record, all in one transaction
create function target.apply_batch(i_consumer text, i_batch_id bigint, i_amount int)
returns text as $$
begin
    if not pgq_ext.set_batch_done(i_consumer, i_batch_id) then
        return 'done before';
    end if;
    update target.account a set balance = a.balance + i_amount where a.name = 'anna';
    return 'applied';
end;
$$ language plpgsql;

select pgq_ext.is_batch_done('mover', 1);
select target.apply_batch('mover', 1, 10);
select pgq_ext.is_batch_done('mover', 1);
select target.apply_batch('mover', 1, 10);
select balance from target.account;

-- the worker dies before its commit: nothing is recorded, the redone batch counts
begin;
select target.apply_batch('mover', 2, 5);
select pgq_ext.is_batch_done('mover', 2);
rollback;
select pgq_ext.is_batch_done('mover', 2), pgq_ext.is_batch_done('mover', 1);
select target.apply_batch('mover', 2, 5);
select target.apply_batch('mover', 2, 5);
select balance from target.account;

-- an error in the middle of the batch takes the record with it
begin;
savepoint before_batch;
select target.apply_batch('mover', 3, 1);
select 1/0;
rollback to before_batch;
select pgq_ext.is_batch_done('mover', 3);
commit;
select target.apply_batch('mover', 3, 1);
select balance from target.account;

-- only the last batch is remembered, one row a consumer
select pgq_ext.is_batch_done('mover', 1), pgq_ext.is_batch_done('mover', 3);
select * from pgq_ext.completed_batch where consumer_id = 'mover';

-- consumers and their workers do not meet
select pgq_ext.is_batch_done('other', 3), pgq_ext.is_batch_done('mover', 'w1', 3);
select pgq_ext.set_batch_done('other', 3);
select pgq_ext.set_batch_done('mover', 'w1', 3);
select pgq_ext.set_batch_done('mover', 'w1', 3);
select pgq_ext.is_batch_done('mover', '', 3), pgq_ext.is_batch_done('mover', 'w1', 3);
select * from pgq_ext.completed_batch order by 1, 2;

-- ids below 1 are no batches and leave no trace
select pgq_ext.set_batch_done('nothing', 0), pgq_ext.set_batch_done('nothing', -1);
select pgq_ext.is_batch_done('nothing', 0);
select count(*) from pgq_ext.completed_batch where consumer_id = 'nothing';

-- wrong input
select pgq_ext.set_batch_done(null, 1);
select pgq_ext.set_batch_done('mover', null, 1);
select pgq_ext.set_batch_done('mover', null::bigint);
select pgq_ext.is_batch_done('mover', null::bigint);

-- argument names are part of the interface
select pgq_ext.set_batch_done(a_consumer => 'named', a_batch_id => 7);
select pgq_ext.is_batch_done(a_consumer => 'named', a_subconsumer => '', a_batch_id => 7);

delete from pgq_ext.completed_batch;
drop schema target cascade;
