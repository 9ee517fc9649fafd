-- What the other tests stand on: four partitions, which are databases of this
-- server, and clusters described by the three plproxy.get_cluster_ functions,
-- which read tables here. Nothing printed names the port.
\set VERBOSITY terse
set client_min_messages = warning;
drop database if exists plproxy_part0;
drop database if exists plproxy_part1;
drop database if exists plproxy_part2;
drop database if exists plproxy_part3;
create database plproxy_part0;
create database plproxy_part1;
create database plproxy_part2;
create database plproxy_part3;
select current_database() as proxy_db \gset

-- All that a partition gets by hand is a function that runs any statement.
\c plproxy_part0
\i partition.sql
\c plproxy_part1
\i partition.sql
\c plproxy_part2
\i partition.sql
\c plproxy_part3
\i partition.sql
\c :proxy_db

-- the members of the extension; row types are some only from PostgreSQL 17 on
select pg_describe_object(classid, objid, 0)
from pg_depend
where refclassid = 'pg_extension'::regclass and deptype = 'e' and classid <> 'pg_type'::regclass
  and refobjid = (select oid from pg_extension where extname = 'plproxy')
order by 1;

create schema plproxy;
create table plproxy.cluster (name text primary key, version int4 default 1);
create table plproxy.config (name text, key text, val text);
create table plproxy.partition (name text, number int4, connstr text);

create function plproxy.get_cluster_version(i_name text) returns int4 language plpgsql as $$
declare
    v_version int4;
begin
    select c.version into v_version from plproxy.cluster c where c.name = i_name;
    if not found then
        raise exception 'no such cluster: %', i_name using errcode = 'undefined_object';
    end if;
    return v_version;
end;
$$;

create function plproxy.get_cluster_config(i_name text, out key text, out val text)
returns setof record language sql as $$
    select c.key, c.val from plproxy.config c where c.name = i_name;
$$;

create function plproxy.get_cluster_partitions(i_name text) returns setof text language sql as $$
    select p.connstr from plproxy.partition p where p.name = i_name order by p.number;
$$;

-- the connect string of a database of this server
create function connstr(i_db text) returns text language sql as $$
    select format('host=127.0.0.1 port=%s dbname=%s', current_setting('port'), i_db);
$$;

insert into plproxy.cluster values ('four'), ('one');
insert into plproxy.partition select 'four', i, connstr('plproxy_part' || i) from generate_series(0, 3) i;
insert into plproxy.partition values ('one', 0, connstr('plproxy_part0'));

-- runs a statement on each partition
create function everywhere(i_sql text) returns setof void language plproxy as $$
    cluster 'four';
    run on all;
    target run_statement;
$$;

select count(*) from everywhere('select 1');

-- What a statement does, errors included: SQLSTATE and message, then the detail
-- and the hint if there are any.
create function attempt(i_sql text) returns setof text language plpgsql as $$
declare
    v_state text;
    v_message text;
    v_detail text;
    v_hint text;
begin
    execute i_sql;
    return next 'ok';
exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text,
        v_detail = pg_exception_detail, v_hint = pg_exception_hint;
    return next v_state || ': ' || v_message;
    if v_detail <> '' then
        return next 'detail: ' || v_detail;
    end if;
    if v_hint <> '' then
        return next 'hint: ' || v_hint;
    end if;
end;
$$;
