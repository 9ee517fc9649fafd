-- The trigger function of the first days, as old databases declare it: the kinds of the
-- columns stand in one string, and the events are those of pgq.sqltriga.
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

create function logtriga() returns trigger as '$libdir/pgq_triggers', 'pgq_logtriga' language c;

create table item (id int primary key, name text, gone int, note text);
alter table item drop gone;
create trigger t after insert or update or delete on item for each row execute function logtriga('q', 'kvi');
create trigger t_truncate after truncate on item for each statement execute function logtriga('q', 'kvi');
insert into item values (1, E'O''Hara \\', 'x');
update item set name = null;
-- changes of ignored columns make no event, nothing changed makes one
update item set note = 'y';
update item set name = name;
update item set id = 2;
-- a column that came later is ignored
alter table item add later int;
update item set later = 5;
delete from item;
truncate item;
drop trigger t on item;

-- two keys, in the order of columns; the third argument has no meaning
create trigger t after insert or update or delete on item
    for each row execute function logtriga('q', 'kkvv', 'elsewhere.item');
insert into item values (1, 'a', 'x', 3);
update item set note = 'y', later = null;
update item set name = 'b';
delete from item;
insert into item values (2, null, 'x', 3);
update item set note = 'y';
delete from item;
drop trigger t on item;

-- the primary key has no say
create trigger t after insert or update on item for each row execute function logtriga('q', 'ivk');
update item set id = 3;
update item set note = 'z';
update item set name = 'c';
drop trigger t on item;

-- session_replication_role = local stands above it
create trigger t after insert or update on item for each row execute function logtriga();
set session_replication_role = local;
update item set name = 'd';
reset session_replication_role;

-- wrong declarations
update item set name = 'e';
drop trigger t on item;
create trigger t after update on item for each row execute function logtriga('q');
update item set name = 'e';
drop trigger t on item;
create trigger t after update on item for each row execute function logtriga('q', 'k', 't', 'x');
update item set name = 'e';
drop trigger t on item;
create trigger t after update on item for each row execute function logtriga('q', 'vvi');
update item set name = 'e';
drop trigger t on item;
create trigger t before update on item for each row execute function logtriga('q', 'kv');
update item set name = 'e';
drop trigger t on item;
create trigger t after update on item for each statement execute function logtriga('q', 'kv');
update item set name = 'e';
drop trigger t on item;
select logtriga();

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
