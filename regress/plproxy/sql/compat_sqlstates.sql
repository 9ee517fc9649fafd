-- Programs for PL/Proxy 2.x look for XX000: plproxy.compat_sqlstates gives it to
-- what are errors of our own, and to nothing else.
\set SHOW_CONTEXT never
create function sqlstate_of(i_sql text) returns text language plpgsql as $$
begin
    execute i_sql;
    return 'ok';
exception when query_canceled or others then
    return sqlstate;
end;
$$;
select count(*) from everywhere($$
    create function remote_error() returns int4 language plpgsql as
        'begin raise exception ''no'' using errcode = ''P1234''; end';
    create function remote_rows(i_n int4) returns setof int4 language sql as 'select generate_series(1, i_n)';
    create function remote_sleep() returns int4 language sql as 'select 1 from pg_sleep(600)';
$$);
create function remote_error() returns int4 language plproxy as $$ cluster 'four'; run on 0; $$;
create function remote_rows(i_n int4) returns int4 language plproxy as $$ cluster 'four'; run on 0; $$;
create function remote_sleep() returns int4 language plproxy as $$ cluster 'quick'; $$;
create function no_server() returns int4 language plproxy as $$ connect 'host=127.0.0.1 port=1'; select 1; $$;
create function no_cluster() returns int4 language plproxy as $$ cluster 'nosuch'; $$;
create function no_number() returns int4 language plproxy as $$ cluster 'four'; run on 7; $$;
create function no_input(i_n int4) returns int2 language plproxy as $$ cluster 'four'; run on 0; select i_n; $$;
create function local_error(i_n int4) returns int4 language plproxy as $$ cluster 'four'; run on 1 / i_n; target remote_rows; $$;
insert into plproxy.cluster values ('quick');
insert into plproxy.config values ('quick', 'query_timeout', '100ms');
insert into plproxy.partition select 'quick', number, connstr from plproxy.partition where name = 'one';

create table cases (nr serial, what text, run text);
insert into cases (what, run) values
    ('connection', 'select no_server()'),
    ('query_timeout', 'select remote_sleep()'),
    ('partition number', 'select no_number()'),
    ('syntax', 'create function f() returns int4 language plproxy as ''nonsense'''),
    ('shape', 'create function f() returns int4 immutable language plproxy as ''cluster ''''a'''';'''),
    ('setting', 'create server s foreign data wrapper plproxy options (p0 '''', nonsense ''1'')'),
    ('no row', 'select remote_rows(0)'),
    ('many rows', 'select remote_rows(2)'),
    ('partition options', 'create server s foreign data wrapper plproxy options (p1 '''')'),
    ('remote', 'select remote_error()'),
    ('user''s function', 'select no_cluster()'),
    ('input', 'select no_input(70000)'),
    ('local expression', 'select local_error(0)');
create function states() returns setof text language plpgsql as $$
declare
    r record;
begin
    for r in select * from cases order by nr loop
        return next r.what || ': ' || sqlstate_of(r.run);
    end loop;
end;
$$;
select * from states();
set plproxy.compat_sqlstates = on;
select * from states();
-- the text is ours in both
select attempt('select no_number()');
reset plproxy.compat_sqlstates;

delete from plproxy.config where name = 'quick';
delete from plproxy.partition where name = 'quick';
delete from plproxy.cluster where name = 'quick';
drop table cases;
drop function states, sqlstate_of, remote_error, remote_rows, remote_sleep, no_server, no_cluster, no_number, no_input, local_error;
