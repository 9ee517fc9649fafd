-- What runs on a partition changes how its session writes values, and answers at
-- once: they come in binary, or are refused, and never mean something else.
\set VERBOSITY terse
create function run_on_one(i_sql text) returns void language plproxy as $$ cluster 'one'; target run_statement; $$;
create domain day as date;
create domain duration as interval;
create domain number as int4;
create type span as (d date, i interval, f float8);
select count(*) from everywhere($$
    create domain day as date;
    create domain duration as interval;
    create domain number as int4;
    create type span as (d date, i interval, f float8);
    create function binaries(i_name text, i_value text, i_local bool, out d date[], out r daterange, out i interval[],
        out f float8[], out p point, out m datemultirange, out t text[], out j jsonb) language plpgsql as $f$
    begin
        perform set_config(i_name, i_value, i_local);
        d := '{2026-02-03}'; r := '[2026-02-03,2026-03-04)'; i := '{-1 year -2 days +03:04:05}'; f := array[1 / 3::float8];
        p := point(1 / 3::float8, 0); m := '{[2026-02-03,2026-03-04)}'; t := '{2026-02-03}'; j := '{"a": 1}';
    end $f$;
    create function days(i_name text, i_value text, i_local bool) returns setof day language plpgsql as $f$
    begin
        perform set_config(i_name, i_value, i_local);
        return query select '2026-02-03'::day from generate_series(1, 1000);
    end $f$;
    create function durations(i_name text, i_value text, i_local bool) returns duration language plpgsql as $f$
    begin
        perform set_config(i_name, i_value, i_local);
        return '-1 year -2 days +03:04:05';
    end $f$;
    create function numbers(i_name text, i_value text, i_local bool) returns number language plpgsql as $f$
    begin
        perform set_config(i_name, i_value, i_local);
        return 12;
    end $f$;
    create function spans(i_name text, i_value text, i_local bool) returns span[] language plpgsql as $f$
    begin
        perform set_config(i_name, i_value, i_local);
        return array[('2026-02-03', '-1 year -2 days +03:04:05', 1 / 3::float8)::span];
    end $f$;
    create function texts(i_name text, i_value text, i_local bool, i_n int4, out i int4, out t text[]) language plpgsql as $f$
    begin
        perform set_config(i_name, i_value, i_local);
        i := 1;
        t := array[chr(i_n)];
    end $f$;
    create function many(i_name text, i_value text, i_local bool, i_n int4) returns setof text language plpgsql as $f$
    begin
        perform set_config(i_name, i_value, i_local);
        return query select 'some' from generate_series(1, 1000);
        return query select chr(i_n);
    end $f$;
$$);
create function binaries(i_name text, i_value text, i_local bool, out d date[], out r daterange, out i interval[],
    out f float8[], out p point, out m datemultirange, out t text[], out j jsonb) language plproxy as $$ cluster 'one'; $$;
create function days(i_name text, i_value text, i_local bool) returns setof day language plproxy as $$ cluster 'one'; $$;
create function durations(i_name text, i_value text, i_local bool) returns duration language plproxy as $$ cluster 'one'; $$;
create function numbers(i_name text, i_value text, i_local bool) returns number language plproxy as $$ cluster 'one'; $$;
create function spans(i_name text, i_value text, i_local bool) returns span[] language plproxy as $$ cluster 'one'; $$;
create function texts(i_name text, i_value text, i_local bool, i_n int4, out i int4, out t text[]) language plproxy as $$ cluster 'one'; $$;
create function many(i_name text, i_value text, i_local bool, i_n int4) returns setof text language plproxy as $$ cluster 'one'; $$;

-- what comes in binary is right, whatever has been changed, and for how long
create table settings (n int4, name text, value text);
insert into settings values (1, 'DateStyle', 'SQL, DMY'), (2, 'DateStyle', 'German'), (3, 'DateStyle', 'ISO, DMY'),
    (4, 'IntervalStyle', 'sql_standard'), (5, 'TimeZone', 'Asia/Kathmandu'), (6, 'extra_float_digits', '-10'), (7, 'bytea_output', 'escape');
create function check_all(i_what text) returns table (name text, value text, local bool, answer text) language sql as $$
    select s.name, s.value, l.local, a.answer
    from settings s, (values (true), (false)) l(local),
        lateral attempt(format('select check_%s(%L, %L, %L)', i_what, s.name, s.value, l.local)) a(answer)
    order by s.n, l.local desc;
$$;
create function check_binaries(i_name text, i_value text, i_local bool) returns void language plpgsql as $$
begin
    assert (select (b.d, b.r, b.i, b.f, b.p[0], b.m, b.t, b.j) =
                ('{2026-02-03}'::date[], '[2026-02-03,2026-03-04)'::daterange, '{-1 year -2 days +03:04:05}'::interval[],
                 array[1 / 3::float8], 1 / 3::float8, '{[2026-02-03,2026-03-04)}'::datemultirange, '{2026-02-03}'::text[], '{"a": 1}'::jsonb)
            from binaries(i_name, i_value, i_local) b);
end $$;
select answer, count(*) from check_all('binaries') group by 1;

-- what comes in text is refused if it may mean something else
create function check_days(i_name text, i_value text, i_local bool) returns void language plpgsql as $$
begin
    assert (select array_agg(distinct d) = '{2026-02-03}' and count(*) = 1000 from days(i_name, i_value, i_local) d);
end $$;
create function check_durations(i_name text, i_value text, i_local bool) returns void language plpgsql as $$
begin
    assert durations(i_name, i_value, i_local) = '-1 year -2 days +03:04:05';
end $$;
create function check_numbers(i_name text, i_value text, i_local bool) returns void language plpgsql as $$
begin
    assert numbers(i_name, i_value, i_local) = 12;
end $$;
create function check_spans(i_name text, i_value text, i_local bool) returns void language plpgsql as $$
begin
    assert spans(i_name, i_value, i_local) = array[('2026-02-03', '-1 year -2 days +03:04:05', 1 / 3::float8)::span];
end $$;
select name, value, local, answer from check_all('days') where answer not like 'detail%' and answer not like 'hint%';
select name, value, local, answer from check_all('durations') where answer not like 'detail%' and answer not like 'hint%';
select name, value, local, answer from check_all('spans') where answer not like 'detail%' and answer not like 'hint%';
select answer, count(*) from check_all('numbers') group by 1;
select attempt('select days(''DateStyle'', ''SQL, DMY'', false)');
\set VERBOSITY default
\set SHOW_CONTEXT never
select spans('IntervalStyle', 'iso_8601', true);
\set VERBOSITY terse

-- so when the session had to be told first: here it is put back to what it was
select run_on_one('alter database plproxy_part0 set datestyle = ''SQL, DMY''');
select run_on_one('alter database plproxy_part0 set intervalstyle = ''sql_standard''');
select run_on_one('alter database plproxy_part0 set extra_float_digits = -10');
update plproxy.cluster set version = version + 1 where name = 'one';
select check_days('TimeZone', 'UTC', true), check_spans('TimeZone', 'UTC', true), check_binaries('TimeZone', 'UTC', true);
select name, value, local, answer from check_all('spans') where answer not like 'detail%' and answer not like 'hint%';
select answer, count(*) from check_all('binaries') group by 1;
select run_on_one('alter database plproxy_part0 reset all');
update plproxy.cluster set version = version + 1 where name = 'one';

-- a SET clause takes it back, so all is right
select run_on_one('alter function days(text, text, bool) set datestyle = german');
select run_on_one('alter function spans(text, text, bool) set datestyle = german set intervalstyle = postgres_verbose set extra_float_digits = -10');
select check_days('DateStyle', 'SQL, DMY', true), check_spans('DateStyle', 'SQL, DMY', true), check_spans('extra_float_digits', '-9', true);
select attempt('select check_spans(''DateStyle'', ''SQL, DMY'', false)');
select run_on_one('alter function days(text, text, bool) reset all');
select run_on_one('alter function spans(text, text, bool) reset all');
-- and there is nothing to refuse in an answer without rows
select run_on_one('create function none_left(i_style text) returns setof day language sql as ''select null::day where set_config(''''datestyle'''', i_style, false) is null''');
create function none_left(i_style text) returns setof day language plproxy as $$ cluster 'one'; $$;
select count(*) from none_left('SQL, DMY');

-- in text always: a SELECT, and with disable_binary
create function chosen(i_style text, i_local bool, out s text, out d date) language plproxy as $$
    cluster 'one'; select set_config('datestyle', i_style, i_local) as s, date '2026-02-03' as d;
$$;
select attempt('select chosen(''SQL, DMY'', true)');
select attempt('select chosen(''SQL, DMY'', false)');
select d = '2026-02-03' from chosen('ISO, DMY', true);
insert into plproxy.config values ('one', 'disable_binary', 'on');
update plproxy.cluster set version = version + 1 where name = 'one';
select attempt('select binaries(''DateStyle'', ''German'', true)');
select attempt('select binaries(''IntervalStyle'', ''iso_8601'', false)');
select check_binaries('TimeZone', 'UTC', true);
delete from plproxy.config where name = 'one';
update plproxy.cluster set version = version + 1 where name = 'one';

-- the encoding: text that is not ASCII is refused when it was left changed, or
-- when it shows; other text is the same in all of them
select attempt('select texts(''client_encoding'', ''LATIN1'', false, 233)');
select attempt('select texts(''client_encoding'', ''LATIN1'', true, 233)');
select attempt('select texts(''client_encoding'', ''SQL_ASCII'', false, 233)');
select texts('client_encoding', 'LATIN1', false, 65), texts('client_encoding', 'LATIN1', true, 65), texts('application_name', 'x', false, 233);
select attempt('select count(*) from many(''client_encoding'', ''WIN1252'', false, 8364)');
select attempt('select count(*) from many(''client_encoding'', ''SQL_ASCII'', false, 8364)');
select count(*) from many('client_encoding', 'WIN1252', false, 65);
select count(*) from many('client_encoding', 'UTF8', false, 8364);

-- in a transaction that stays open, and in one that is read only
set plproxy.transactions = tied;
begin;
select check_days('TimeZone', 'UTC', true);
savepoint a;
select attempt('select days(''DateStyle'', ''SQL, DMY'', true)');
rollback to a;
select check_binaries('DateStyle', 'SQL, DMY', false);
select check_days('TimeZone', 'UTC', false), check_spans('TimeZone', 'UTC', false);
select texts('client_encoding', 'LATIN1', false, 65);
select texts('client_encoding', 'UTF8', false, 233);
select attempt('select texts(''client_encoding'', ''SQL_ASCII'', true, 233)');
rollback;
reset plproxy.transactions;
insert into plproxy.config values ('one', 'read_only', 'on');
update plproxy.cluster set version = version + 1 where name = 'one';
select attempt('select days(''DateStyle'', ''SQL, DMY'', true)');
select attempt('select days(''DateStyle'', ''SQL, DMY'', false)');
select attempt('select texts(''client_encoding'', ''SQL_ASCII'', true, 233)');
select attempt('select texts(''client_encoding'', ''SQL_ASCII'', false, 233)');
select check_days('TimeZone', 'UTC', true), texts('client_encoding', 'UTF8', false, 233);
delete from plproxy.config where name = 'one';
update plproxy.cluster set version = version + 1 where name = 'one';

-- one of several partitions does: the call fails, its connections stay good
create function all_days(i_name text, i_value text) returns setof day language plproxy as $$
    cluster 'four'; run on all;
    select case when current_database() like '%2' then (select d from days(i_name, i_value, true) d limit 1) else '2026-02-03' end;
$$;
select count(*) from all_days('TimeZone', 'UTC');
create temp table before as select pid from plproxy_connections where cluster = 'four' and state = 'idle';
do $$
declare
    v_context text;
begin
    perform all_days('DateStyle', 'SQL, DMY');
exception when object_not_in_prerequisite_state then
    get stacked diagnostics v_context = pg_exception_context;
    raise warning '%, %', sqlerrm, split_part(v_context, ', host', 1);
end $$;
select count(*) from all_days('TimeZone', 'UTC');
select count(*) from plproxy_connections join before using (pid) where state = 'idle';

-- nulls in arrays, where array_nulls is off there or here
create type pair as (a text, b text[]);
create domain texts_or_null as text[];
select run_on_one($$
    create type pair as (a text, b text[]);
    create domain texts_or_null as text[];
    create function nulls(i_array text[], i_pair pair, i_domain texts_or_null, out t text) language sql as
        'select to_json(i_array) || '' '' || to_json(i_pair) || '' '' || to_json(i_domain)';
    create function nulls_split(i_array inet[], out t text) language sql as 'select to_json(i_array)::text';
    create function nulls_back(out a text[], out b pair, out c texts_or_null) language sql as
        $f$ select '{a,NULL,"NULL"}'::text[], row(null, '{NULL,"NULL"}')::pair, '{NULL}'::texts_or_null $f$
$$);
create function nulls(i_array text[], i_pair pair, i_domain texts_or_null, out t text) language plproxy as $$ cluster 'one'; $$;
create function nulls_split(i_array inet[], out t text) language plproxy as $$ cluster 'one'; split i_array; $$;
create function nulls_back(out a text[], out b pair, out c texts_or_null) language plproxy as $$ cluster 'one'; $$;
select run_on_one('alter database plproxy_part0 set array_nulls = off');
update plproxy.cluster set version = version + 1 where name = 'one';
select nulls(array['a', null, 'NULL'], row(null, '{}'), '{}');
select nulls('{}', row('NULL', array[null, 'NULL']), '{}');
select nulls('{}', row(null, '{}'), array[null, 'NULL']);
select nulls_split('{10.0.0.1,NULL}');
select run_on_one('alter database plproxy_part0 reset all');
update plproxy.cluster set version = version + 1 where name = 'one';
set array_nulls = off;
select to_json(a) as a, to_json(b) as b, to_json(c) as c from nulls_back();
show array_nulls;
reset array_nulls;
select run_on_one('drop function nulls, nulls_split, nulls_back; drop type pair; drop domain texts_or_null');
drop function nulls, nulls_split, nulls_back;
drop type pair;
drop domain texts_or_null;

-- an infinite interval in binary: a number where there are none, so refused;
-- where there are none the partition makes that number, which is the same in binary
select run_on_one($$
    create function forever(i_sign text, out i interval, out a interval[]) language plpgsql as $f$
    begin
        i := i_sign || 'infinity';
        a := array[i];
    exception when invalid_datetime_format then
        i := case i_sign when '' then interval '178956970 years 7 mons 2147483647 days 2562047788:00:54.775807'
            else interval '-178956970 years -7 mons -2147483647 days -2562047788:00:54.775807' - interval '1 mon 1 day 0.000001 sec' end;
        a := array[i];
    end $f$
$$);
create function forever(i_sign text, out i interval, out a interval[]) language plproxy as $$ cluster 'one'; $$;
create function forever_one(i_sign text) returns interval language plproxy as $$ cluster 'one'; $$;
create function forever_all(i_sign text) returns interval[] language plproxy as $$ cluster 'one'; $$;
select run_on_one('create function forever_one(text) returns interval language sql as ''select i from forever($1)''');
select run_on_one('create function forever_all(text) returns interval[] language sql as ''select a from forever($1)''');
select s.sign, f.name, case
        when current_setting('server_version_num')::int4 < 170000 and t.answer = '22008: the partition has sent an infinite interval, which this server does not have' then 'right'
        when current_setting('server_version_num')::int4 >= 170000 and t.answer = 'ok' then 'right' else t.answer end
from (values ('', 1), ('-', 2)) s(sign, n), (values ('forever_one'), ('forever_all'), ('forever')) f(name),
    attempt(format('select %s(%L)', f.name, s.sign)) t(answer)
order by s.n, f.name;

-- a backslash in a SELECT means what it means here
create function backslashes(i_n int4) returns text language plproxy as $$ cluster 'one'; select 'a\\b\'  || i_n; $$;
create function no_backslashes(i_n int4) returns text language plproxy as $$ cluster 'one'; select current_setting('standard_conforming_strings') || i_n; $$;
select run_on_one('alter database plproxy_part0 set standard_conforming_strings = off');
update plproxy.cluster set version = version + 1 where name = 'one';
select backslashes(1), backslashes(2), no_backslashes(3);
begin;
set local escape_string_warning = off;
set local standard_conforming_strings = off;
create function backslashes_escape(i_n int4) returns text language plproxy as $$ cluster 'one'; select 'a\\b\''  || i_n; $$;
select backslashes_escape(1);
select run_on_one('alter database plproxy_part0 reset all');
update plproxy.cluster set version = version + 1 where name = 'one';
select backslashes_escape(2), backslashes(2), no_backslashes(3);
commit;

-- objects are the same ones there, whatever search_path is here
create schema elsewhere;
create table elsewhere.things (a int4);
create function elsewhere.do_things(int4) returns int4 language sql as 'select 1';
create domain named_thing as regclass;
create type named_row as (a regclass);
select run_on_one($$
    create schema elsewhere;
    create table elsewhere.things (a int4);
    create table things (b int4);
    create function elsewhere.do_things(int4) returns int4 language sql as 'select 1';
    create function do_things(int4) returns int4 language sql as 'select 2';
    create domain named_thing as regclass;
    create type named_row as (a regclass);
    create function things_of(a regclass, b regtype, c regproc, d regprocedure, e regclass[], f named_thing, g named_row, h regtype, out t text)
    language sql set search_path = pg_catalog as
        $f$ select format('%s %s %s %s %s %s %s %s', a, b, c, d, e, f, g, h) $f$
$$);
create function things_of(a regclass, b regtype, c regproc, d regprocedure, e regclass[], f named_thing, g named_row, h regtype, out t text)
language plproxy as $$ cluster 'one'; target public.things_of; $$;
set search_path = elsewhere, public;
select things_of('things', 'things', 'do_things', 'do_things(int4)', '{things}', 'things', row('things'), 'int4');
show search_path;
reset search_path;
drop function things_of;
drop domain named_thing;
drop type named_row;
select run_on_one('drop table elsewhere.things; drop function elsewhere.do_things; drop schema elsewhere');
drop table elsewhere.things;
drop function elsewhere.do_things;
drop schema elsewhere;

-- a style that a query changes and changes back shows in dates and timestamps
create function one_day(i_style text, out s text, out d date) returns setof record language plproxy as $$
    cluster 'one'; select set_config('datestyle', case i when 1 then i_style else 'ISO, MDY' end, true) as s, date '2026-02-03' as d
    from generate_series(1, 2) i;
$$;
create function one_time(i_style text, out s text, out d timestamptz) returns setof record language plproxy as $$
    cluster 'one'; select set_config('datestyle', case i when 1 then i_style else 'ISO, MDY' end, true) as s, timestamptz '2026-02-03' as d
    from generate_series(1, 2) i;
$$;
create function some_days() returns setof date language plproxy as $$
    cluster 'one'; select unnest('{0044-03-15 BC,infinity,-infinity,2026-02-03,12345-01-01,NULL}'::date[]);
$$;
create function text_days() returns setof date language plproxy as $$ cluster 'one'; select '3 Feb 2026'::text; $$;
select attempt('select count(*) from one_day(''SQL, DMY'')');
select attempt('select count(*) from one_day(''Postgres, DMY'')');
select attempt('select count(*) from one_time(''German'')') limit 1;
select count(*) from one_day('ISO, DMY') where d = '2026-02-03';
select count(*), count(d), min(d) = '-infinity', max(d) = 'infinity' from some_days() d;
select d = '2026-02-03' from text_days() d;
drop function forever, forever_one, forever_all, backslashes, no_backslashes, backslashes_escape, one_day, one_time, some_days, text_days;

drop function run_on_one, binaries, days, durations, numbers, spans, texts, many, check_all, check_binaries, check_days,
    check_durations, check_numbers, check_spans, none_left, chosen, all_days;
drop table settings;
drop domain day, duration, number;
drop type span;
