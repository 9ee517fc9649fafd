-- Fields of an event given by SQL over the row, or by magic columns.
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

create table item (id int primary key, name text, "Size" int, "order" text);
create trigger t after insert or update or delete on item for each row execute function pgq.logutriga('q',
    'ev_type=lower(''TYPE'') || id', 'ev_data=null', 'ev_extra1=id', 'ev_extra2=Size + 1',
    'ev_extra3=''name '' || name || "order"', 'ev_extra4=(select max(i.id) from trigger_test.item i where i.name = name)');
insert into item values (1, 'a', 10, 'x');
update item set name = 'b', "Size" = null;
delete from item;
drop trigger t on item;

-- a name in a string, a comment, behind a dot or before a bracket is no column
create function item_name(int) returns text language sql as $$ select 'function ' || $1 $$;
alter table item add item_name text;
create trigger t after insert on item for each row execute function pgq.logutriga('q',
    'ev_extra2=''id''', 'ev_extra3=/* name */ id -- name', 'ev_extra4=item_name(id) || item_name');
insert into item values (2, 'a', 10, 'x', 'y');
drop trigger t on item;

-- nor is it of an SQL word that it stands for something else
create table word (id int primary key, "user" text, "order" text, "left" text, "null" text, "time" text, text text);
create trigger t after insert on word for each row execute function pgq.logutriga('q',
    'ev_extra1=user || text::text', 'ev_extra2=order', 'ev_extra3=left(left, 2) || ''user'' /* order */', 'ev_extra4=time');
create trigger t_more after insert on word for each row execute function pgq.logutriga('q',
    'ev_type=null', 'ev_extra1=w.user from (select 5 as "user") w', 'ev_extra2="order" || "user"', 'ev_extra3=lower("left")');
insert into word values (1, 'me', 'first', 'LEFT', 'nil', 'now', 'txt');
drop table word;

-- of an option given twice the first one counts; an empty one is NULL
create trigger t after insert on item for each row execute function pgq.logutriga('q',
    'ev_extra2=id', 'ev_extra2=id + 1', 'ev_extra1=', 'when=true', 'when=false');
insert into item values (3, 'a');
drop trigger t on item;

-- when=
create trigger t after insert or update or delete on item for each row execute function pgq.logutriga('q',
    'when=id > 5 and name <> ''hidden''', 'ignore=Size,order,item_name');
insert into item values (5, 'a'), (6, 'a'), (7, 'hidden');
-- of an update the new row counts, of a delete the old one
update item set name = 'hidden' where id = 6;
update item set name = 'shown' where id = 7;
delete from item;
drop trigger t on item;

-- wrong expressions
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'when=name');
insert into item values (1, 'a');
drop trigger t on item;
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'when=name = ''a''');
insert into item values (1, null);
drop trigger t on item;
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'when=');
insert into item values (1, 'a');
drop trigger t on item;
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'ev_data=nome');
insert into item values (1, 'a');
drop trigger t on item;
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'ev_data=id, name');
insert into item values (1, 'a');
drop trigger t on item;
create trigger t after insert on item for each row execute function pgq.logutriga('q', 'ev_data=1 where id > 5');
insert into item values (1, 'a');
drop trigger t on item;

-- magic columns give fields and are no data; NULL too; an expression wins
create table magic (
    id int primary key, v text, _pgq_ev_type text, _pgq_ev_data text, _pgq_ev_extra1 text, _pgq_ev_extra4 int);
create trigger t after insert or update on magic for each row execute function pgq.logutriga('q', 'backup');
create trigger t_expression after insert on magic for each row execute function pgq.jsontriga('q', 'ev_type=''mine''');
insert into magic values (1, 'a', 'type', 'data', 'extra1', 4);
update magic set _pgq_ev_data = null, _pgq_ev_type = null;
alter table magic drop _pgq_ev_type, drop _pgq_ev_data;
update magic set v = 'b';
alter table magic add _pgq_ev_extra5 text;
update magic set v = 'c';

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
