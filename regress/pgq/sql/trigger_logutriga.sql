-- pgq.logutriga: the change of a row in url encoding.
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

create table user_account (
    id int primary key,
    name text,
    gone int,
    active boolean
);
alter table user_account drop column gone;
create trigger to_queue after insert or update or delete on user_account
    for each row execute function pgq.logutriga('users');
create trigger to_queue_truncate after truncate on user_account
    for each statement execute function pgq.logutriga('users');

insert into user_account values (1, 'Anna', true), (2, null, false);
update user_account set name = 'Anna Maria' where id = 1;
update user_account set name = name where id = 2;
delete from user_account where id = 2;
truncate user_account;

-- unreserved bytes stay, all others are encoded, in names too
create table "odd = name" (id int primary key, "k&v ü" text);
create trigger to_queue after insert or update on "odd = name"
    for each row execute function pgq.logutriga('odd queue');
insert into "odd = name" values (1, 'azAZ09_.-'), (2, ' +&=%~*!/?#"''\'), (3, 'äö€'), (4, E'\t\r\n\x7f'), (5, '');

-- the key stands in the order of its index
create table pair (a int, b text, c int, primary key (c, a));
create trigger to_queue after insert or update or delete on pair
    for each row execute function pgq.logutriga('pairs');
insert into pair values (1, 'x', 2);
update pair set b = 'y';
delete from pair;

-- the key may not change; a different spelling of the same key is no change
update pair set a = 5;
insert into pair values (1, 'x', 2);
update pair set a = 5;
update pair set a = a;
create table priced (price numeric primary key, note text);
create trigger to_queue after update on priced for each row execute function pgq.logutriga('prices');
insert into priced values (1.0, 'x');
update priced set price = 1.00;
update priced set price = 1.01;

-- without a key rows can only be added
create table keyless (a int);
create trigger to_queue after insert or update or delete on keyless
    for each row execute function pgq.logutriga('keyless');
insert into keyless values (1);
update keyless set a = 2;
delete from keyless;
-- and a key that is added is seen at once
alter table keyless add primary key (a);
delete from keyless;

-- types write themselves, whatever they are
create domain positive as int check (value > 0);
create domain flag as boolean;
create type mood as enum ('calm', 'busy');
create type place as (x int, name text);
create table every (
    id positive primary key, f flag, m mood, p place, a text[], b bytea, j jsonb, n numeric,
    d date, t timestamp, z timestamptz, i interval, r int4range);
create trigger to_queue after insert on every for each row execute function pgq.logutriga('every');
set timezone = 'UTC';
insert into every values (7, true, 'busy', '(1,"a b")', '{a,NULL,"b c"}', '\x00ff', '{"a": [1]}', 1.50,
    '2024-02-29', '2024-02-29 12:00:00.5', '2024-02-29 12:00:00+02', '1 day 2 hours', '[1,5)');
reset timezone;

-- a value too long for its row
create table long_text (id int primary key, t text);
alter table long_text alter t set storage external;
insert into long_text select 1, repeat('0123456789', 10000);
create trigger to_queue after delete on long_text for each row
    execute function pgq.logutriga('long', 'ev_data=length(t) || '':'' || right(t, 3)');
create trigger to_queue2 after delete on long_text for each row
    execute function pgq.logutriga('long', 'ev_extra1=md5(t)');
\set VERBOSITY terse
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
begin
    raise notice '% % %', left(ev_data, 30), length(ev_data), ev_extra1;
    return 1;
end;
$$ language plpgsql;
delete from long_text;
select length('id=1&t=') + 100000 as image_length, md5(repeat('0123456789', 10000));

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
