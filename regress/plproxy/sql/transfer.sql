-- What the caller gets depends on no setting of the partition, nor of its own,
-- whether values come in binary or in text.
\set VERBOSITY terse
create domain dom_int as int4 check (value <> 13);
create domain dom_num as numeric(6, 2) not null;
create domain dom_text as varchar(4);
select count(*) from everywhere($$
    create domain dom_int as int8;
    create domain dom_text as text;
    create domain dom_num as float8;
    create function vary(i_seed int4) returns table (
        v_bool bool, v_int2 int2, v_int4 int4, v_int8 int8, v_oid oid, v_float4 float4, v_float8 float8,
        v_numeric numeric, v_date date, v_time time, v_timetz timetz, v_timestamp timestamp,
        v_timestamptz timestamptz, v_interval interval, v_uuid uuid, v_bytea bytea, v_text text,
        v_varchar varchar, v_bpchar bpchar, v_name name, v_json json)
    language plpgsql as $f$
    declare
        h bytea;
        n int8;
    begin
        for i in 1 .. 300 loop
            h := decode(md5(i_seed || ' ' || i), 'hex');
            n := ('x' || encode(h, 'hex'))::bit(64)::int8;
            return query select
                case when i % 11 = 0 then null else n % 2 = 0 end, (n % 32768)::int2, (n % 2147483648)::int4,
                case i when 1 then -9223372036854775808 when 2 then 9223372036854775807 else n end,
                (case i when 1 then 4294967295 else abs(n % 4294967296) end)::oid,
                (case i when 1 then 'NaN' when 2 then '-Infinity' when 3 then '-0' else (n / 3e10)::text end)::float4,
                (case i when 1 then 'NaN' when 2 then 'Infinity' when 3 then '4.9e-324' else (n / 3.0)::text end)::float8,
                (case i when 1 then 'NaN' when 2 then 'Infinity' when 3 then '0.000' else (n * n::numeric / 1e20)::text end)::numeric,
                case i when 1 then 'infinity' when 2 then '0044-03-15 BC' when 3 then '5874897-12-31' else date '2000-01-01' + (n % 100000)::int4 end,
                case i when 1 then '24:00' else time '00:00' + abs(n % 86400000000) * interval '1 us' end,
                case i when 1 then '24:00-15:59' else timetz '12:00+05:30' + abs(n % 86400000000) * interval '1 us' end,
                case i when 1 then '-infinity' when 2 then '4713-01-01 00:00:00 BC' else timestamp '2000-01-01' + (n % 1000000000000000) * interval '1 us' end,
                case i when 1 then 'infinity' when 2 then '4713-12-31 00:00:00+00 BC' else timestamptz '2000-01-01 00:00+00' + (n % 1000000000000000) * interval '1 us' end,
                case i when 1 then '-1 year -2 mons +3 days -04:05:06.789' when 2 then '00:00' else make_interval(months => (n % 1000)::int4, days => (n % 777)::int4, secs => n % 100000 / 7.0) end,
                encode(h, 'hex')::uuid, substr(h, 1, i % 17), case when i % 7 = 0 then '' when i % 5 = 0 then null else chr(33 + i) || chr(8364) || chr(92) || i end,
                ('v' || i)::varchar, ('b' || i || '  ')::bpchar, ('n' || i)::name, ('{"a": ' || i || '}')::json;
        end loop;
    end $f$;
$$);
create function vary(i_seed int4) returns table (
    v_bool bool, v_int2 int2, v_int4 int4, v_int8 int8, v_oid oid, v_float4 float4, v_float8 float8,
    v_numeric numeric, v_date date, v_time time, v_timetz timetz, v_timestamp timestamp,
    v_timestamptz timestamptz, v_interval interval, v_uuid uuid, v_bytea bytea, v_text text,
    v_varchar varchar, v_bpchar bpchar, v_name name, v_json json)
language plproxy as $$ cluster 'one'; $$;
create function config(i_key text, i_val text) returns void language sql as $$
    delete from plproxy.config where name = 'one' and key = i_key;
    insert into plproxy.config select 'one', i_key, i_val where i_val is not null;
    update plproxy.cluster set version = version + 1 where name = 'one';
$$;

-- in this session's own encoding and settings, the first time
create temp table want as select row_number() over () as n, v.* from vary(1) v;
select count(*), count(v_bool), count(v_text), min(length(v_varchar)), count(distinct v_uuid) from want;
select * from want where n <= 3 \gx

-- in binary, in text, behind other settings there and here
create function check_settings(i_there text, i_here text) returns text language plpgsql as $$
declare
    v_binary int8;
    v_text int8;
begin
    perform run_on_one('alter database plproxy_part0 reset all');
    if i_there <> '' then
        perform run_on_one('alter database plproxy_part0 set ' || replace(i_there, ';', '; alter database plproxy_part0 set '));
    end if;
    if i_here <> '' then
        execute 'set local ' || replace(i_here, ';', '; set local ');
    end if;
    perform config('disable_binary', '0');
    select count(*) into v_binary from (select (w)::text from want w except all
        select (x)::text from (select row_number() over () as n, v.* from vary(1) v) x) s;
    perform config('disable_binary', '1');
    select count(*) into v_text from (select (w)::text from want w except all
        select (x)::text from (select row_number() over () as n, v.* from vary(1) v) x) s;
    return case when v_binary + v_text = 0 then 'same' else format('%s differ in binary, %s in text', v_binary, v_text) end;
end $$;
create function run_on_one(i_sql text) returns void language plproxy as $$ cluster 'one'; target run_statement; $$;
select check_settings('', '');
select check_settings('datestyle = ''sql, dmy''; intervalstyle = ''iso_8601''; timezone = ''Asia/Kathmandu''; extra_float_digits = -3; bytea_output = ''escape''', '');
select check_settings('datestyle = ''german''; intervalstyle = ''sql_standard''; timezone = ''America/Caracas''; extra_float_digits = -15', '');
select check_settings('datestyle = ''postgres, mdy''; intervalstyle = ''postgres_verbose''; extra_float_digits = 0', 'datestyle = ''sql, dmy''; intervalstyle = ''iso_8601''; bytea_output = ''escape''');
select check_settings('client_encoding = ''latin1''; standard_conforming_strings = off', 'timezone = ''Asia/Kathmandu''; extra_float_digits = 3');
-- characters that this session's client cannot read come through as well
begin;
set local client_encoding = 'sql_ascii';
select check_settings('', '');
rollback;
begin;
set local client_encoding = 'latin1';
select count(*), count(*) filter (where v_text like '%' || chr(8364) || '%') = count(*) filter (where v_text <> '') as whole from vary(1);
rollback;
select run_on_one('alter database plproxy_part0 reset all');

-- a SELECT is in text always, floats in it are not rounded there
select run_on_one('alter database plproxy_part0 set extra_float_digits = -10');
select config('disable_binary', null);
create function floats(out a float8, out b float4, out c float8[], out d point) language plproxy as $$
    cluster 'one';
    select pi() as a, (1 / 3.0)::float4 as b, array[pi()] as c, point(pi(), 0) as d;
$$;
select * from floats();
select run_on_one('alter database plproxy_part0 reset all');
select config('disable_binary', null);

-- values that the local type does not take
select run_on_one('create function bad_value(i_n int4) returns int4 language sql as ''select i_n''');
create function bad_value(i_n int4) returns dom_int language plproxy as $$ cluster 'one'; $$;
select bad_value(12);
select bad_value(13);
select run_on_one('create function bad_number(i_n numeric) returns numeric language sql as ''select i_n''');
create function bad_number(i_n numeric) returns dom_num language plproxy as $$ cluster 'one'; $$;
select bad_number(1.555);
select bad_number(12345);
select bad_number(null);
-- a domain of the same name is over another type there
select run_on_one('create function domains(out a dom_int, out b dom_num, out c dom_text) language sql as ''select 7::dom_int, 1.25::dom_num, ''''abc''''::dom_text''');
create function domains(out a dom_int, out b dom_num, out c dom_text) language plproxy as $$ cluster 'one'; $$;
select * from domains();
create table narrow_values (n numeric(4, 1), v varchar(3), t timestamp(0), i interval minute, b char(5));
select run_on_one('create table narrow_values (n numeric, v varchar, t timestamp, i interval, b char(5))');
select run_on_one('create function narrow_values(i_v text) returns setof narrow_values language sql as ''select 1.25, i_v, timestamp ''''2026-01-01 00:00:00.6'''', interval ''''1 h 2 min 3 s'''', ''''b''''''');
create function narrow_values(i_v text) returns setof narrow_values language plproxy as $$ cluster 'one'; $$;
select *, length(b), octet_length(b) from narrow_values('abc');
select * from narrow_values('abcd');
select config('disable_binary', '1');
select *, length(b), octet_length(b) from narrow_values('abc');
select * from narrow_values('abcd');
select config('disable_binary', null);

-- arrays, ranges and what else is built in: all bounds, dimensions and nulls come
-- through, in binary as in text
select $$
    create table built_ins (n int4,
        a_bool bool[], a_int2 int2[], a_int4 int4[], a_int8 int8[], a_oid oid[], a_float4 float4[], a_float8 float8[],
        a_numeric numeric[], a_date date[], a_time time[], a_timetz timetz[], a_timestamp timestamp[],
        a_timestamptz timestamptz[], a_interval interval[], a_uuid uuid[], a_bytea bytea[], a_text text[],
        a_varchar varchar[], a_bpchar bpchar[], a_name name[], a_json json[], a_jsonb jsonb[],
        a_inet inet[], a_box box[], a_range daterange[], a_multirange datemultirange[],
        v_jsonb jsonb, v_inet inet, v_cidr cidr, v_macaddr macaddr, v_macaddr8 macaddr8, v_bit bit(5), v_varbit varbit,
        v_point point, v_line line, v_lseg lseg, v_box box, v_path path, v_polygon polygon, v_circle circle, v_money money,
        r_int4 int4range, r_int8 int8range, r_num numrange, r_date daterange, r_ts tsrange, r_tstz tstzrange,
        m_int4 int4multirange, m_int8 int8multirange, m_num nummultirange, m_date datemultirange, m_ts tsmultirange, m_tstz tstzmultirange);
    insert into built_ins values (1,
        '{t,f,NULL}', '[-1:1]={-32768,NULL,32767}', '[0:1][2:3][5:5]={{{1},{2}},{{3},{NULL}}}',
        '{-9223372036854775808,9223372036854775807}', '{0,4294967295}', '{NaN,-Infinity,-0,0.33333334}', '{NaN,Infinity,4.9e-324,0.3333333333333333}',
        '{NaN,Infinity,0.000,-123456789012345678901234567890.5}', '{infinity,0044-03-15 BC,2026-02-03}', '{24:00,00:00:00.000001}',
        '{24:00-15:59,12:00+05:30}', '{-infinity,4713-01-01 00:00:00 BC,2026-02-03 04:05:06.789}',
        '{infinity,2026-02-03 04:05:06.789+01}', '{-1 year -2 mons +3 days -04:05:06.789,00:00}', '{6ba7b810-9dad-11d1-80b4-00c04fd430c8}',
        array['', '\x0001ff', null, convert_to(repeat('b', 5000), 'utf8')], array['', null, 'NULL', 'é€', '"\{},', repeat('€', 3000)],
        '{{a,b},{c,NULL}}', '{"b  ",NULL}', '[3:4]={n,"é"}', array['{"a": "é"}', null]::json[], array['{"a": "é"}', '1', null]::jsonb[],
        '{10.0.0.0/8,::1,NULL}', array['(1,2),(3,4)', null, '(0.1,0.2),(0.3,0.4)']::box[],
        '{"[2026-02-03,2026-03-04)",empty,NULL,"(,)"}', array['{[2026-02-03,2026-03-04),[2027-01-01,)}', '{}', null]::datemultirange[],
        '{"a": ["é", null, 1.50]}', '10.1.2.3/8', '2001:db8::/32', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '10101', '101010101',
        '(0.1,-Infinity)', '{1,2,3}', '[(1,2),(3,4)]', '(1,2),(3,4)', '[(1,2),(3,0.1)]', '((0,0),(0,1),(1,0))', '<(1,2),0.1>', 12.34::money,
        '[1,5)', '(,5)', '(1.50,2.5]', '[2026-02-03,2026-03-04)', 'empty', '[2026-02-03 04:05+01,infinity]',
        '{[1,5),[7,)}', '{}', '{(1.50,2.5]}', '{[2026-02-03,2026-03-04)}', '{(2026-02-03 04:05,)}', '{[2026-02-03 04:05+01,infinity]}');
    insert into built_ins values (2, '{}', '{}', '{{1,2},{3,4}}', '{NULL}', '{{NULL,NULL}}', '{}', '{NULL,1}', '{}', '[7:7]={NULL}');
    insert into built_ins values (3);
$$ as built_ins \gset
:built_ins
select run_on_one(:'built_ins');
select run_on_one($$
    create function get_built_ins(i_style text) returns setof built_ins language plpgsql as
        'begin perform set_config(''datestyle'', i_style, true); return query select * from built_ins; end'
$$);
create function get_built_ins(i_style text) returns setof built_ins language plproxy as $$ cluster 'one'; $$;
create function check_built_ins(i_style text) returns int8 language sql as $$
    select count(*) from (select (b)::text from built_ins b intersect all select (g)::text from get_built_ins(i_style) g) s;
$$;
select check_built_ins('German');
select config('disable_binary', '1');
select attempt('select check_built_ins(''German'')') limit 1;
select check_built_ins('ISO, DMY');
select config('disable_binary', null);
begin;
set local client_encoding = 'latin1';
select check_built_ins('German');
rollback;
-- what remains in text: elements and columns of other types
create function columns_of(i_n int4, out a int2vector, out b regtype[], out c built_ins) language plproxy as $$ cluster 'one'; $$;
select run_on_one('create function columns_of(i_n int4, out a int2vector, out b regtype[], out c built_ins) language sql as ''select ''''1 2''''::int2vector, ''''{int4,text}''''::regtype[], b from built_ins b where n = i_n''');
select a, b, (c)::text = (select (w)::text from built_ins w where n = 1) as same from columns_of(1);
-- a column's length and precision count for its elements
create table narrow_arrays (n numeric(4, 1)[], v varchar(3)[], t timestamp(0)[], i interval minute[], b char(3)[], x bit(3)[]);
select run_on_one('create table narrow_arrays (n numeric[], v varchar[], t timestamp[], i interval[], b char(3)[], x bit(3)[])');
select run_on_one('create function narrow_arrays(i_n numeric, i_v text) returns setof narrow_arrays language sql as ''select array[1.25, i_n], array[i_v], array[timestamp ''''2026-01-01 00:00:00.6''''], array[interval ''''1 h 2 min 3 s''''], array[''''b''''], array[b''''101'''']''');
create function narrow_arrays(i_n numeric, i_v text) returns setof narrow_arrays language plproxy as $$ cluster 'one'; $$;
select *, octet_length(b[1]) from narrow_arrays(1, 'abc');
select * from narrow_arrays(12345, 'abc');
select * from narrow_arrays(1, 'abcd');

select run_on_one('drop function bad_number, bad_value, columns_of, domains, get_built_ins, narrow_arrays, narrow_values, vary; drop table built_ins, narrow_arrays, narrow_values; drop domain dom_int, dom_num, dom_text');
drop function bad_number, bad_value, check_built_ins, check_settings, columns_of, config, domains, floats, get_built_ins, narrow_arrays, narrow_values, run_on_one, vary;
drop table built_ins, narrow_arrays, narrow_values;
drop domain dom_int, dom_num, dom_text;
