-- Connections: opened when needed, kept, replaced when their server went away.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create function who() returns text language sql as 'select current_user || '' '' || current_setting(''application_name'')';
    create function big(i_a text) returns int4 language sql as 'select length(i_a)';
    create function big_back(i_n int4) returns text language sql as 'select repeat(''x'', i_n)';
$$);
create function pid() returns int4 language plproxy as $$ cluster 'four'; run on 1; $$;
create function pids() returns setof int4 language plproxy as $$ cluster 'four'; run on all; target pid; $$;
create function who() returns text language plproxy as $$ cluster 'four'; run on 1; $$;

-- one backend for all calls, also across transactions and rollbacks
select pid() as first \gset
select pid() = :first;
begin;
select pid() = :first;
rollback;
select pid() = :first;
select who();

-- a server that went away between calls is not noticed
select pg_terminate_backend(p, 10000) from pids() p;
select pid() <> :first;
select count(*) from pids();
select pid() = pid();

-- one that goes away during a call is; the next call connects again
select count(*) from everywhere($$
    create function die() returns int4 language plpgsql as $f$
    begin
        perform pg_terminate_backend(pg_backend_pid());
        perform pg_sleep(60);
        return 1;
    end;
    $f$;
$$);
create function die() returns int4 language plproxy as $$ cluster 'four'; run on 1; $$;
create function die_all() returns setof int4 language plproxy as $$ cluster 'four'; run on all; target die; $$;
select attempt('select die()');
-- one of them is the first
select regexp_replace(attempt('select die_all()'), 'partition [0-3]', 'partition N') as attempt;
select count(*) from pids();

-- as whom: the caller, the owner of a SECURITY DEFINER function, or the string's
create role plproxy_caller login;
create role plproxy_owner login superuser;
grant usage on schema plproxy to public;
grant select on all tables in schema plproxy to public;
create function who_definer() returns text language plproxy security definer as $$ cluster 'four'; run on 1; target who; $$;
alter function who_definer() owner to plproxy_owner;
create function who_connect(i_connstr text) returns text language plproxy as $$ connect i_connstr; select who(); $$;
set role plproxy_caller;
select who(), who_definer();
select who_connect(connstr('plproxy_part0') || ' user=postgres application_name=mine');
select who_connect(format('postgresql://postgres@127.0.0.1:%s/plproxy_part0', current_setting('port')));
-- the pool of one user is not another's
select pid() <> :first;
reset role;
select who();

-- a session user stays the same whatever the role
insert into plproxy.config values ('four', 'default_user', 'session_user');
update plproxy.cluster set version = version + 1 where name = 'four';
set role plproxy_caller;
select who() like session_user || ' plproxy %';
reset role;
delete from plproxy.config where name = 'four';
update plproxy.cluster set version = version + 1 where name = 'four';
drop function who_definer();
drop role plproxy_owner;

-- what a function there leaves in its session is there for the next call
create role plproxy_left login;
select count(*) from everywhere($$
    create function leave(i_local bool) returns text language sql
        as 'select set_config(''work_mem'', ''1MB'', i_local) || set_config(''role'', ''plproxy_left'', i_local)';
    create function left_there() returns text language sql
        as 'select current_user || '' '' || current_setting(''work_mem'')';
$$);
create function leave(i_local bool) returns text language plproxy as $$ cluster 'four'; run on 1; $$;
create function left_there() returns text language plproxy as $$ cluster 'four'; run on 1; $$;
select left_there() as at_first \gset
select leave(true);
select left_there() = :'at_first';
select leave(false);
select left_there();
update plproxy.cluster set version = version + 1 where name = 'four';
select left_there() = :'at_first';
drop function leave, left_there;
drop role plproxy_left;

-- parameters and answers larger than any socket buffer, both ways at once
create function big(i_a text) returns int4 language plproxy as $$ cluster 'four'; run on 1; $$;
create function big_back(i_n int4) returns text language plproxy as $$ cluster 'four'; run on 1; $$;
create function big_both(i_a text) returns setof int4 language plproxy as $$
    cluster 'four'; run on all; select length(i_a || i_a);
$$;
select big(repeat('x', 20000000)), length(big_back(20000000));
select * from big_both(repeat('x', 5000000));

-- a connection past its lifetime is not used again
insert into plproxy.config values ('four', 'connection_lifetime', '1');
update plproxy.cluster set version = version + 1 where name = 'four';
select pid() as young \gset
select pg_sleep(1.1);
select pid() <> :young;
delete from plproxy.config where name = 'four';
update plproxy.cluster set version = version + 1 where name = 'four';

-- a partition of another encoding is spoken to in ours
set client_min_messages = warning;
drop database if exists plproxy_latin1;
reset client_min_messages;
create database plproxy_latin1 encoding 'LATIN1' locale 'C' template template0;
create function bytes(i_text text, out same text, out bytes bytea) language plproxy as $$
    connect latin1(); select i_text as same, convert_to(i_text, 'LATIN1') as bytes;
$$;
create function latin1() returns text language sql as $$ select connstr('plproxy_latin1') $$;
select * from bytes('é');
select attempt($$select bytes('€')$$);
select * from bytes('ü');
drop database plproxy_latin1 with (force);

-- many partitions, together and one by one
insert into plproxy.cluster values ('many');
insert into plproxy.partition select 'many', i, connstr('plproxy_part0') || ' application_name=many' || i
from generate_series(0, 63) i;
create function many() returns setof text language plproxy as $$
    cluster 'many'; run on all; select current_setting('application_name');
$$;
create function many(i_a int4) returns text language plproxy as $$
    cluster 'many'; run on i_a; select current_setting('application_name');
$$;
select count(distinct m) from many() m;
select count(*), count(distinct many(i)), bool_and(many(i) = 'many' || i) from generate_series(0, 63) i;
select count(*) from pg_stat_activity where application_name like 'many%';
update plproxy.cluster set version = version + 1 where name = 'many';
select many(1);

-- CONNECT keeps 64 connections, the latest used ones, and those of clusters
create function to_connect(i_a int4) returns text language plproxy as $$
    connect connect_to(i_a); select current_setting('application_name');
$$;
create function connect_to(i_a int4) returns text language sql as $$
    select connstr('plproxy_part0') || ' application_name=connect' || i_a;
$$;
insert into plproxy.cluster values ('kept');
insert into plproxy.partition values ('kept', 0, connect_to(0));
create function kept() returns text language plproxy as $$
    cluster 'kept'; select current_setting('application_name');
$$;
select kept();
select count(to_connect(i)) from generate_series(1, 60) i;
select to_connect(1);
select count(to_connect(i)) from generate_series(61, 70) i;
create function connects() returns table (n bigint, first bool, second bool, cluster bool) language plpgsql as $$
begin
    -- what was told to end may still be at it
    for i in 1 .. 100 loop
        perform pg_stat_clear_snapshot();
        return query
            select count(*), bool_or(application_name = 'connect1'), bool_or(application_name = 'connect2'),
                   bool_or(application_name = 'connect0')
            from pg_stat_activity where application_name like 'connect%' having count(*) <= 65;
        exit when found;
        perform pg_sleep(0.1);
    end loop;
end;
$$;
select * from connects();

-- no such host, port, database: class 08, and the others are not harmed
create function nobody(i_connstr text) returns text language plproxy as $$ connect i_connstr; select who(); $$;
\set VERBOSITY sqlstate
select nobody('host=127.0.0.1 port=1 dbname=x');
select nobody(connstr('no_such_database'));
select nobody('host=no-such-host.invalid dbname=x');
select nobody('host=/no/such/dir dbname=x');
\set VERBOSITY terse
select nobody('host=127.0.0.1 port=1 dbname=x');
\set VERBOSITY default
insert into plproxy.cluster values ('half');
insert into plproxy.partition values ('half', 0, connstr('plproxy_part0')), ('half', 1, 'host=127.0.0.1 port=1');
create function half() returns setof int4 language plproxy as $$ cluster 'half'; run on all; target pid; $$;
create function half0() returns setof int4 language plproxy as $$ cluster 'half'; run on 0; target pid; $$;
\set VERBOSITY terse
select half();
\set VERBOSITY default
select half0() is not null;
-- a server that takes long to let us in: the string's connect_timeout, the
-- cluster's, and a cancel in the middle
select nobody(connstr('plproxy_part0') || ' options=''-c post_auth_delay=5'' connect_timeout=1');
insert into plproxy.cluster values ('late');
insert into plproxy.config values ('late', 'connect_timeout', '1');
insert into plproxy.partition values ('late', 0, connstr('plproxy_part0') || ' options=''-c post_auth_delay=5''');
create function late() returns int4 language plproxy as $$ cluster 'late'; target pid; $$;
select late();
set statement_timeout = '100ms';
select late();
reset statement_timeout;

-- the second host of a list that works
select nobody(format('host=127.0.0.1,127.0.0.1 port=1,%s dbname=plproxy_part0', current_setting('port')));

drop function to_connect, connect_to, kept, connects, pid, pids, who, die, die_all, who_connect, big, big_back, big_both, nobody, half, half0, late, bytes, latin1, many(), many(int4);
revoke usage on schema plproxy from public;
drop owned by plproxy_caller;
drop role plproxy_caller;
