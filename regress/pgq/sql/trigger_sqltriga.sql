-- pgq.sqltriga: the change of a row as the tail of an SQL statement.
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
    id int,
    "Real Name" text,
    gone int,
    active boolean,
    born date,
    primary key (active, id)
);
alter table user_account drop column gone;
create trigger to_queue after insert or update or delete on user_account
    for each row execute function pgq.sqltriga('users', 'backup');
create trigger to_queue_truncate after truncate on user_account
    for each statement execute function pgq.sqltriga('users');

insert into user_account values (1, 'O''Hara \ Anna', true, '2000-01-01'), (2, null, false, null);
-- only what changed is set
update user_account set "Real Name" = 'Anna' where id = 1;
update user_account set "Real Name" = null, born = '2001-01-01' where id = 1;
-- nothing changed: the first key column says that there was an update
update user_account set id = id where id = 1;
delete from user_account where id = 2;
truncate user_account;

-- a key column that is NULL finds no row again
create table keyed (a int, b int);
create trigger to_queue after insert or update or delete on keyed
    for each row execute function pgq.sqltriga('keyed', 'pkey=a');
insert into keyed values (null, 1);
update keyed set b = 2;
delete from keyed;

-- a row of nothing
create table bare (a int generated always as (1) stored);
create trigger to_queue after insert on bare for each row execute function pgq.sqltriga('bare');
insert into bare default values;

-- the statements do on a copy what was done here
create table source (id int primary key, v text, w numeric, double numeric generated always as (w * 2) stored);
create table copy (like source including all);
create trigger to_queue after insert or update or delete on source
    for each row execute function pgq.sqltriga('source');
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
begin
    execute case ev_type
        when 'I' then 'insert into trigger_test.copy '
        when 'U' then 'update trigger_test.copy set '
        when 'D' then 'delete from trigger_test.copy where '
    end || ev_data;
    return 1;
end;
$$ language plpgsql;
insert into source values (1, E'a\\b''c', 1.0), (2, null, 2), (3, '', null);
update source set v = v || '!', w = w * 2.50;
update source set w = 1.00 where id = 3;
update source set w = 1.000 where id = 3;
delete from source where id = 2;
select * from source order by id;
select s.w::text = c.w::text as same, s = c as equal from source s full join copy c using (id);

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
