-- pgq.jsontriga: the change of a row as JSON.
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
    for each row execute function pgq.jsontriga('users', 'backup');
create trigger to_queue_truncate after truncate on user_account
    for each statement execute function pgq.jsontriga('users');

insert into user_account values (1, 'Anna', true), (2, null, false);
update user_account set name = 'Anna Maria' where id = 1;
delete from user_account where id = 2;
truncate user_account;

-- names and values that JSON must escape
create table "odd ""name""" (id int primary key, "k\v" text);
create trigger to_queue after insert on "odd ""name"""
    for each row execute function pgq.jsontriga('odd');
insert into "odd ""name""" values (1, E'"\\\b\f\n\r\t\x01\x7f/ äö€');

-- bare are integers and booleans; domains over them are not
create domain positive as int check (value > 0);
create table every (
    s smallint, i int, b bigint, primary key (b, s),
    p positive, n numeric, f float8, t boolean, o oid, j jsonb, a int[], y bytea);
create trigger to_queue after insert on every for each row execute function pgq.jsontriga('every');
insert into every values (-32768, 2147483647, 9223372036854775807, 5, 1.50, 'NaN', false, 7, '{"a": null}', '{1,NULL}', '\xff');

-- dates and times are ISO 8601, whatever the session's style
create table moments (id int primary key, d date, t timestamp, z timestamptz);
create trigger to_queue after insert on moments for each row execute function pgq.jsontriga('moments');
set datestyle = 'sql, dmy';
set timezone = 'UTC';
insert into moments values
    (1, '29/02/2024', '29/02/2024 12:00:00.5', '29/02/2024 12:00:00+02'),
    (2, 'infinity', '-infinity', 'infinity'),
    (3, '15/03/0044 BC', '15/03/0044 12:00 BC', '15/03/0044 12:00+00 BC');
set timezone = 'Asia/Kolkata';
insert into moments values (4, null, '29/02/2024 12:00', '29/02/2024 12:00+02');
reset timezone;
reset datestyle;

-- what is written is JSON
create table parsed (ev_type json, ev_data json);
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    insert into trigger_test.parsed values (ev_type::json, ev_data::json) returning 1::bigint;
$$ language sql;
insert into "odd ""name""" values (2, E'"\\\b\f\n\r\t\x01\x7f/ äö€');
select ev_type ->> 'op' as op, ev_type -> 'table' ->> 1 as name, ev_type -> 'pkey' as pkey, ev_data ->> 'k\v' = o."k\v" as same
  from parsed, "odd ""name""" o where o.id = 2;

-- without a key
create table keyless (a int);
create trigger to_queue after insert or delete on keyless
    for each row execute function pgq.jsontriga('keyless');
insert into keyless values (1);
select ev_type, ev_data from parsed offset 1;
delete from keyless;

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
