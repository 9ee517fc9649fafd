-- Tables of every kind, and tables that change under their trigger.
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

-- what is known of a table follows its changes, in the same session
create table moving (id int primary key, v text);
create trigger t after insert or update or delete on moving
    for each row execute function pgq.logutriga('q', 'ev_extra2=id + 1');
insert into moving values (1, 'a');
alter table moving add w int default 5;
insert into moving values (2, 'b');
alter table moving drop v;
insert into moving values (3, 6);
alter table moving alter w type text using 'w' || w, alter id type bigint;
insert into moving values (4, 'seven');
alter table moving rename w to x;
alter table moving rename to moved;
insert into moved values (5, 'eight');
create schema trigger_test_other;
alter table moved set schema trigger_test_other;
insert into trigger_test_other.moved values (6, 'nine');
alter schema trigger_test_other rename to trigger_test_third;
insert into trigger_test_third.moved values (7, 'ten');
alter table trigger_test_third.moved drop constraint moving_pkey;
insert into trigger_test_third.moved values (8, 'eleven');
delete from trigger_test_third.moved;
alter table trigger_test_third.moved add primary key (x, id);
delete from trigger_test_third.moved where id = 8;
create or replace trigger t after insert or update or delete on trigger_test_third.moved
    for each row execute function pgq.jsontriga('q2');
delete from trigger_test_third.moved where id = 7;
drop schema trigger_test_third cascade;

-- also when the transaction that changed it is undone
create table undone (id int primary key);
create trigger t after insert on undone for each row execute function pgq.logutriga('q');
insert into undone values (1);
begin;
alter table undone add v int;
insert into undone values (2, 2);
rollback;
insert into undone values (3);

-- partitions: an event names the one that holds the row, with its own key
create table part (id int, region text, v text, primary key (region, id)) partition by list (region);
create table part_north partition of part for values in ('north');
create table part_south (v text, gone int, region text not null, id int not null);
alter table part_south drop gone;
alter table part attach partition part_south for values in ('south');
create trigger t after insert or update or delete on part
    for each row execute function pgq.logutriga('q', 'ignore=none', 'ev_extra3=region || id');
insert into part values (1, 'north', 'a'), (2, 'south', 'b');
update part set v = v || '!';
-- a row that moves leaves one and enters the other
update part set region = 'south' where id = 1;
delete from part;

-- inheritance
create table parent (id int primary key);
create table child (extra text, primary key (id)) inherits (parent);
create trigger t after insert or update on child for each row execute function pgq.logutriga('q');
insert into child values (1, 'x');
update parent set id = id;

-- generated columns are in the image once they are computed
create table computed (id int primary key, v int, twice int generated always as (v * 2) stored);
create trigger t_after after insert or update or delete on computed
    for each row execute function pgq.logutriga('after');
create trigger t_before before insert or update or delete on computed
    for each row execute function pgq.logutriga('before', 'backup');
insert into computed values (1, 3);
update computed set v = 4;
delete from computed;

-- a deferred trigger fires at commit, and an error there undoes the change
create table deferred (id int primary key);
create constraint trigger t after insert on deferred deferrable initially deferred
    for each row execute function pgq.logutriga('q', 'ev_extra2=10 / id');
begin;
insert into deferred values (1);
insert into deferred values (2);
commit;
begin;
insert into deferred values (0);
commit;
select count(*) from deferred;

-- a trigger fires within its own event
create table echo (id int primary key);
create trigger t after insert on echo for each row execute function pgq.logutriga('q');
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
declare
    v_id int := split_part(ev_data, '=', 2);
begin
    raise notice '%', ev_data;
    if v_id < 3 then
        -- and the table's catalog entry changes while the outer one is still at work
        execute format('grant %s on trigger_test.echo to public', case v_id when 1 then 'select' else 'insert' end);
        insert into trigger_test.echo values (v_id + 1);
    end if;
    return 1;
end;
$$ language plpgsql;
insert into echo values (1);
select id from echo order by id;

-- whoever may not insert events may not change the table
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
begin
    raise notice '% by %', ev_data, current_user;
    return 1;
end;
$$ language plpgsql;
create role regress_stranger;
create role regress_producer in role pgq_writer;
grant usage on schema trigger_test to regress_stranger, regress_producer;
grant insert on undone to regress_stranger, regress_producer;
set role regress_stranger;
insert into undone values (10);
reset role;
set role regress_producer;
insert into undone values (11);
reset role;
revoke all on schema trigger_test from regress_stranger, regress_producer;
revoke all on undone from regress_stranger, regress_producer;
drop role regress_stranger, regress_producer;

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
