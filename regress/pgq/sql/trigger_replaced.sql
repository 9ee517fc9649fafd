-- The events go through pgq.insert_event, whoever has put what in its place.
\set SHOW_CONTEXT never
set client_min_messages = warning;
create schema trigger_test;
set search_path = trigger_test;
create table item (id int primary key, name text);
create trigger t after insert or update or delete on item for each row execute function pgq.logutriga('replaced');
select pgq.create_queue('replaced');
select pg_get_functiondef('pgq.insert_event(text, text, text, text, text, text, text)'::regprocedure) as original \gset
create table seen (n serial, who text, data text);
create view stored as
    select ev_data from pgq.event_template e
     where tableoid in (select c.oid from pg_class c, pgq.queue q
                         where q.queue_name = 'replaced' and c.oid::regclass::text like q.queue_data_pfx || '%');

insert into item values (1, 'first');

-- by a function in SQL, in the middle of a session and of a transaction
begin;
insert into item values (2, 'still the original');
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    insert into trigger_test.seen (who, data) values ('sql', ev_data);
    select 1::bigint;
$$ language sql;
insert into item values (3, 'a'), (4, 'b');
-- undone with everything else: the original is back
savepoint s;
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
begin
    insert into trigger_test.seen (who, data) values ('plpgsql', ev_data);
    return 1;
end;
$$ language plpgsql;
insert into item values (5, 'c');
rollback to s;
insert into item values (5, 'd');
commit;
:original;
insert into item values (6, 'original again');
select who, data from seen order by n;
select * from stored order by 1;

-- one that fails undoes the change, and the next one finds nothing left of it
truncate seen;
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    insert into trigger_test.seen (who, data) values ('sql', ev_data);
    select 1 / (ev_data not like '%bad%')::int::bigint;
$$ language sql;
begin;
insert into item values (7, 'good');
savepoint s;
insert into item values (8, 'good'), (9, 'bad'), (10, 'good');
rollback to s;
insert into item values (8, 'better');
commit;
select who, data from seen order by n;

-- it may change rows whose trigger calls it again
truncate seen;
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    insert into trigger_test.seen (who, data) values ('before', ev_data);
    update trigger_test.item set name = name || '!' where ev_type = 'I:id' and id in (7, 8);
    insert into trigger_test.seen (who, data) values ('after', ev_data);
    select 1::bigint;
$$ language sql;
insert into item values (20, 'x'), (21, 'y');
select who, data from seen order by n;

-- a strict one is not called with a NULL
:original;
alter function pgq.insert_event(text, text, text, text, text, text, text) rename to insert_event_kept;
insert into item values (30, 'nobody to get it');
create function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint strict as $$
    insert into trigger_test.seen (who, data) values ('strict', ev_data);
    select 1::bigint;
$$ language sql;
truncate seen;
insert into item values (31, 'not this one');
drop trigger t on item;
create trigger t after insert or update or delete on item for each row
    execute function pgq.logutriga('replaced', 'ev_extra2=1', 'ev_extra3=2', 'ev_extra4=3');
insert into item values (32, 'but this one');
select who, data from seen order by n;
drop function pgq.insert_event(text, text, text, text, text, text, text);
alter function pgq.insert_event_kept(text, text, text, text, text, text, text) rename to insert_event;

-- its rights and its owner are those of whatever it is now
drop trigger t on item;
create trigger t after insert or update or delete on item for each row execute function pgq.logutriga('replaced');
create role regress_teller;
grant usage on schema trigger_test to regress_teller;
grant insert on item to regress_teller;
insert into item values (40, 'superuser');
set role regress_teller;
insert into item values (41, 'may not');
reset role;
grant pgq_writer to regress_teller;
set role regress_teller;
insert into item values (41, 'may through its group');
reset role;
revoke pgq_writer from regress_teller;
set role regress_teller;
insert into item values (42, 'may no more');
reset role;
select * from stored order by 1;

set client_min_messages = error;
select pgq.drop_queue('replaced', true);
drop schema trigger_test cascade;
drop role regress_teller;
