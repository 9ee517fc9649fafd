-- Values of all types, as the three functions write them.
\set SHOW_CONTEXT never
set client_min_messages = error;
create schema trigger_test;
set search_path = trigger_test;
set timezone = 'UTC';
set datestyle = 'iso';
set intervalstyle = 'postgres';
-- the events are collected instead of stored; the original comes back at the end
select pg_get_functiondef('pgq.insert_event(text, text, text, text, text, text, text)'::regprocedure) as original \gset
create table event (n serial, queue text, data text, backup text);
create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint as $$
    insert into trigger_test.event (queue, data, backup) values (queue_name, ev_data, ev_extra2);
    select 1::bigint;
$$ language sql;

-- Shows what an INSERT of each value becomes.
create function show(i_values text[][], out type text, out as_json text, out as_url text, out as_sql text)
returns setof record as $$
declare
    v_value text[];
    v_check jsonb;
begin
    foreach v_value slice 1 in array i_values loop
        type := v_value[1];
        execute format('create table one (v %s)', type);
        create trigger t1 after insert on one for each row execute function pgq.jsontriga('json');
        create trigger t2 after insert on one for each row execute function pgq.logutriga('url');
        create trigger t3 after insert on one for each row execute function pgq.sqltriga('sql');
        execute format('insert into one values (%L)', v_value[2]);
        select e.data into as_json from event e where e.queue = 'json';
        select e.data into as_url from event e where e.queue = 'url';
        select e.data into as_sql from event e where e.queue = 'sql';
        -- it is JSON, and the SQL makes the same value again
        v_check := as_json;
        execute 'insert into one ' || as_sql;
        if (select count(distinct coalesce(o.v::text, 'null')) from one o) <> 1 then
            raise exception 'the value % changed on its way', v_value;
        end if;
        truncate event;
        drop table one;
        return next;
    end loop;
end;
$$ language plpgsql;

create domain number as int;
create domain flag as boolean;
create domain moment as timestamp;
create type mood as enum ('calm', 'very busy');
create type place as (x int, name text, seen timestamp);

-- numbers and booleans
select * from show('{{smallint,-32768},{integer,2147483647},{bigint,-9223372036854775808},{number,5},{oid,4294967295},
    {numeric,1.500},{numeric,NaN},{numeric,-Infinity},{real,1e-30},{double precision,0.1},{double precision,-0},
    {double precision,NaN},{double precision,-infinity},{money,12.34},{boolean,t},{boolean,f},{flag,t},
    {integer,NULL},{boolean,NULL},{text,NULL}}');
-- texts
select * from show(array[
    ['text', ''], ['text', 'a b'], ['text', 'O''Hara'], ['text', 'back\slash'], ['text', '"quoted"'], ['text', 'null'],
    ['text', E'\t\n\r\b\f\x01\x1f\x7f'], ['text', '</&=%+~>'], ['text', 'äö€'],
    ['varchar(5)', 'ab  '], ['character(5)', 'ab'], ['"char"', 'c'], ['name', 'pg_class'],
    ['bytea', '\x00ff5c27'], ['json', '{"a": "x\"y", "b":[1,null]}'], ['jsonb', '{"a": "x\"y", "b":[1,null]}'],
    ['uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'], ['mood', 'very busy'], ['bit(3)', '101'], ['varbit', '10']]);
-- dates and times
select * from show(array[
    ['date', '2024-02-29'], ['date', 'infinity'], ['date', '-infinity'], ['date', '0044-03-15 BC'], ['date', '5874897-12-31'],
    ['timestamp', '2024-02-29 12:00'], ['timestamp', '2024-02-29 12:00:00.000001'], ['timestamp', '-infinity'],
    ['timestamp(0)', '294276-12-31 23:59:59'], ['timestamptz', '2024-02-29 12:00:00.5+02'], ['timestamptz', 'infinity'],
    ['timestamptz', '0044-03-15 12:00+00 BC'], ['time', '24:00'], ['timetz', '12:34:56.7+02'],
    ['interval', '1 year 2 mons 3 days 04:05:06.7'], ['moment', '2024-02-29 12:00']]);
-- the others
select * from show(array[
    ['integer[]', '{1,NULL,3}'], ['text[]', '{"a b",NULL,"c\"d","\\","",null,"null"}'], ['timestamp[]', '{2024-01-01,infinity}'],
    ['mood[]', '{calm,"very busy"}'], ['number[]', '{{1,2},{3,4}}'], ['place', '(1,"a ""b",2024-02-29)'],
    ['place[]', '{"(1,\"a b\",)"}'], ['int4range', '[1,5)'], ['tsrange', '[2024-01-01,infinity)'], ['int4multirange', '{[1,2),[5,9)}'],
    ['inet', '10.0.0.1/8'], ['cidr', '10.0.0.0/8'], ['macaddr', '08:00:2b:01:02:03'], ['macaddr8', '08:00:2b:01:02:03:04:05'],
    ['point', '(1,2)'], ['box', '(1,2),(3,4)'], ['circle', '<(1,2),3>'], ['tsvector', 'a b:1'], ['tsquery', 'a & b'],
    ['regclass', 'pg_class'], ['regtype', 'int4'], ['pg_lsn', '0/16B3748'], ['txid_snapshot', '1:5:2,3'], ['tid', '(0,1)'],
    ['int2vector', '1 2'], ['jsonpath', '$.a']]);

-- the session's settings; ISO 8601 in JSON stays
set datestyle = 'german';
set intervalstyle = 'iso_8601';
set bytea_output = 'escape';
set timezone = 'America/St_Johns';
select * from show(array[['date', '29.02.2024'], ['timestamp', '29.02.2024 12:00'], ['timestamptz', '29.02.2024 12:00 UTC'],
    ['interval', '1 day 2 hours'], ['bytea', '\x00ff5c']]);
reset bytea_output;
set standard_conforming_strings = off;
set escape_string_warning = off;
set backslash_quote = off;
select * from show(array[['text', 'back\\slash'], ['text', 'O''Hara\\']]);
reset standard_conforming_strings;
reset escape_string_warning;
reset backslash_quote;

-- a value that is spelled anew is set anew, since 1.00 is not 1.0 for who gets it
create table spelled (id int primary key, n numeric, f float8, c char(5), j jsonb, a int[]);
create trigger t after update on spelled for each row execute function pgq.sqltriga('sql');
insert into spelled values (1, 1.0, 0, 'a', '{"a": 1}', '{1}');
update spelled set n = 1.00;
update spelled set f = '-0';
update spelled set c = 'a   ', j = '{"a":1}', a = array[1];
-- a value kept outside of its row is compared by what it is
alter table spelled alter j set storage external;
update spelled set j = (select jsonb_agg(i) from generate_series(1, 2000) i);
update spelled set j = (select jsonb_agg(i) from generate_series(1, 2000) i), n = 2;
update spelled set n = 3;
select left(data, 40) as data from event order by n;

-- what equality the key has is for its type to say
truncate event;
create table keys (x text, n numeric, a int[], p point, b bytea);
insert into keys values ('a', 1.0, '{1}', '(1,2)', 'a');
create trigger t1 after update on keys for each row execute function pgq.sqltriga('sql', 'pkey=x,n,a,p,b');
update keys set n = 1.00, p = '(1.0,2.0)';
update keys set x = 'A';
update keys set a = '{1,2}';
update keys set p = '(2,1)';
update keys set b = 'b';
select data from event order by n;

-- what the row does not hold cannot be in its event: virtual columns, where there are any
do $$
begin
    execute format('create table seldom (id int primary key, v int %s)',
        case when current_setting('server_version_num')::int >= 180000
             then ', twice int generated always as (v * 2) virtual' end);
end;
$$;
create trigger t after insert or update on seldom for each row execute function pgq.logutriga('url', 'backup');
create trigger t_before before insert or update on seldom for each row execute function pgq.jsontriga('json', 'backup');
truncate event;
insert into seldom values (1, 2);
update seldom set v = 3;
select queue, data, backup from event order by n;

:original;
set client_min_messages = error;
drop schema trigger_test cascade;
