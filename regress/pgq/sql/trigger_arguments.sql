-- What the arguments of a queue trigger do; all three functions share them.
\set SHOW_CONTEXT never
set client_min_messages = notice;
create schema trigger_test;
set search_path = trigger_test;
-- the events are shown instead of stored; the original comes back at the end
select pg_get_functiondef('pgq.insert_event(text, text, text, text, text, text, text)'::regprocedure) as original \gset
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
begin
    raise notice '% | % | % | % | % | % | %', queue_name, ev_type, ev_data, ev_extra1,
        coalesce(ev_extra2, '-'), coalesce(ev_extra3, '-'), coalesce(ev_extra4, '-');
    return 1;
end;
$$ language plpgsql;

create table item (id int primary key, name text, seen timestamp, price numeric);

-- ignore=: the columns are in no event, and make none by themselves
create trigger t after insert or update or delete on item
    for each row execute function pgq.logutriga('q', 'ignore=seen,price', 'backup');
insert into item values (1, 'a', '2024-01-01', 1.0);
update item set seen = '2024-01-02';
update item set price = 1.00;
update item set name = 'b', seen = '2024-01-03';
-- an update that changes nothing was meant to send the row again
update item set name = name;
delete from item;
drop trigger t on item;

-- pkey=: in the place of the primary key, printed as given
create trigger t after insert or update or delete on item
    for each row execute function pgq.logutriga('q', 'pkey=name , id');
create trigger t_json after insert on item
    for each row execute function pgq.jsontriga('q', 'pkey=name , id');
insert into item values (1, 'a', null, null);
update item set price = 5;
update item set name = 'b';
update item set name = null;
drop trigger t on item;
drop trigger t_json on item;
create trigger t after insert or update on item for each row execute function pgq.logutriga('q', 'pkey=id,nome');
update item set price = 6;
drop trigger t on item;
-- an empty one is no key at all
create trigger t after insert or update on item for each row execute function pgq.logutriga('q', 'pkey=');
insert into item values (2, 'b', null, null);
update item set price = 6;
drop trigger t on item;

-- a name with a blank in it is one name, if there is such a column
create table blank (id int primary key, "first name" text, first int, name int);
create trigger t after insert or update on blank
    for each row execute function pgq.jsontriga('q', 'pkey=id , first name', 'ignore=name first');
insert into blank values (1, 'a', 2, 3);
update blank set first = 5, name = 6;
update blank set "first name" = 'b';
drop table blank;

-- SKIP: the event instead of the row
create trigger t before insert or update or delete on item
    for each row execute function pgq.logutriga('q', 'SKIP', 'when=id < 100');
insert into item values (3, 'c', null, null), (103, 'c', null, null);
update item set price = 7 where id = 1;
delete from item where id = 1;
select * from item;
drop trigger t on item;
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'SKIP');
insert into item values (3, 'c', null, null);
drop trigger t on item;

-- SKIP: NOT NULL and CHECK constraints hold, as for a row that is stored
\set VERBOSITY terse
create table mailq (id int check (id > 0), who text not null, n int generated always as (id * 2) stored not null check (n < 100));
create trigger t before insert or update on mailq for each row execute function pgq.logutriga('q', 'SKIP', 'when=coalesce(id, 0) <> 7');
insert into mailq values (1, 'ann'), (2, 'bob');
insert into mailq values (3, null);
insert into mailq values (0, 'ann');
insert into mailq values (50, 'ann');
insert into mailq values (null, 'ann');
insert into mailq values (7, null);
alter table mailq alter n drop not null;
insert into mailq values (null, 'a check that is null holds');
select * from mailq;
-- updates, and checks by functions and of whole rows
alter table mailq disable trigger t;
insert into mailq values (4, 'eve');
alter table mailq enable trigger t;
alter table mailq add primary key (who);
update mailq set id = 5;
update mailq set id = -5;
create function even(i int) returns bool language plpgsql as $$ begin return i % 2 = 0; end $$;
alter table mailq add constraint "Even" check (even(n)), add constraint whole check (even(id) or mailq is not null);
insert into mailq values (6, 'a check by a function');
alter table mailq add constraint "Odd" check (not even(n)) not valid;
insert into mailq values (6, 'one that older rows do not pass');
select * from mailq;
drop table mailq;
drop function even;
\set VERBOSITY default

-- a BEFORE trigger without SKIP lets the row through, as it found it
create trigger t before insert or update or delete on item
    for each row execute function pgq.logutriga('q');
insert into item values (3, 'c', null, null);
update item set price = 8 where id = 3;
delete from item where id = 3;
select * from item order by id;
drop trigger t on item;

-- instead of what a view cannot do by itself
create view item_view as select * from item;
create trigger t instead of insert or update or delete on item_view
    for each row execute function pgq.logutriga('q', 'pkey=id', 'backup');
insert into item_view values (9, 'view', null, null);
with changed as (update item_view set name = 'seen' where id > 0 returning id) select count(*) > 0 as told from changed;
delete from item_view where id = 1;
drop trigger t on item_view;
create trigger t instead of insert on item_view for each row execute function pgq.sqltriga('q', 'SKIP');
with told as (insert into item_view values (9, 'view', null, null) returning id) select count(*) from told;
drop view item_view;
select id from item order by id;

-- what has no key, or changes it, fails even where when= would keep silent
create trigger t before update on item for each row execute function pgq.logutriga('q', 'when=false');
update item set id = id + 1000;
drop trigger t on item;
create trigger t before update on item for each row execute function pgq.logutriga('q', 'when=false', 'pkey=');
update item set name = 'x';
drop trigger t on item;

-- deny: no change at all
create trigger t before insert or update or delete on item
    for each row execute function pgq.logutriga('q', 'deny', 'ignore=price', 'when=false');
create trigger t_truncate before truncate on item
    for each statement execute function pgq.sqltriga('q', 'deny');
\set VERBOSITY sqlstate
insert into item values (4, 'd', null, null);
\set VERBOSITY default
insert into item values (4, 'd', null, null);
update item set price = 9;
delete from item;
truncate item;
drop trigger t on item;
drop trigger t_truncate on item;

-- session_replication_role: local stands above all of it
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'no such argument');
insert into item values (5, 'e', null, null);
set session_replication_role = local;
insert into item values (5, 'e', null, null);
set session_replication_role = replica;
insert into item values (6, 'f', null, null);
alter table item enable always trigger t;
insert into item values (7, 'g', null, null);
reset session_replication_role;
drop trigger t on item;

-- triggers of the wrong kind
create trigger t after insert on item for each row execute function pgq.logutriga();
insert into item values (8, 'h', null, null);
drop trigger t on item;
create trigger t after insert on item for each statement execute function pgq.logutriga('q');
insert into item values (8, 'h', null, null);
drop trigger t on item;
create trigger t after truncate on item for each statement execute function pgq.logutriga('q', 'ignore=name');
truncate item;
drop trigger t on item;
create trigger t after truncate on item for each statement execute function pgq.logutriga('q', 'pkey=name');
truncate item;
drop trigger t on item;
create trigger t after truncate on item for each statement execute function pgq.logutriga('q', 'backup');
truncate item;
drop trigger t on item;
create trigger t after truncate on item for each statement execute function pgq.logutriga('q', 'ev_extra2=1');
truncate item;
drop trigger t on item;
-- SKIP holds back rows, not a TRUNCATE
create trigger t before truncate on item for each statement execute function pgq.logutriga('q', 'SKIP');
truncate item;
select count(*) from item;

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
