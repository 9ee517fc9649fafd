-- What a waiting call shows in pg_stat_activity. It is the partition that looks there,
-- while we wait for it; the names are there from PostgreSQL 17 on.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create table waits (at serial, event text);
    create function note_wait(i_pid int4, i_event text) returns text language plpgsql as $f$
    declare
        v_event text;
        v_wanted text := case when current_setting('server_version_num')::int4 >= 170000 then i_event else 'Extension' end;
    begin
        for i in 1..1000 loop
            perform pg_stat_clear_snapshot();
            select a.wait_event into v_event from pg_stat_activity a where a.pid = i_pid and a.wait_event_type = 'Extension';
            if v_event = v_wanted then
                insert into waits (event) values (i_event);
                return i_event;
            end if;
            perform pg_sleep(0.01);
        end loop;
        return v_event || ', not ' || i_event;
    end;
    $f$;
    create function note_cancel(i_pid int4) returns text language plpgsql as $f$
    declare
        v_canceled bool := false;
    begin
        perform pg_cancel_backend(i_pid);
        -- the caller asks again and again
        loop
            begin
                if v_canceled then
                    return note_wait(i_pid, 'PlProxyCancel');
                end if;
                perform pg_sleep(60);
            exception when query_canceled then
                v_canceled := true;
            end;
        end loop;
    end;
    $f$;
    create table noted (pid int4);
    create function note_in_the_end() returns trigger language plpgsql as
        'begin perform note_wait(new.pid, ''PlProxyTransaction''); return null; end';
    create constraint trigger noted after insert on noted deferrable initially deferred
        for each row execute function note_in_the_end();
    create function note_later(i_pid int4) returns void language sql as 'insert into noted values (i_pid)';
$$);
create function note_wait(i_pid int4, i_event text) returns text language plproxy as $$ cluster 'four'; run on 0; $$;
create function note_cancel(i_pid int4) returns text language plproxy as $$ cluster 'four'; run on 0; $$;
create function note_later(i_pid int4) returns void language plproxy as $$ cluster 'four'; run on 0; $$;
create function waits() returns text language plproxy as $$
    cluster 'four'; run on 0; select string_agg(event, ' ' order by at) from waits;
$$;

select note_wait(pg_backend_pid(), 'PlProxyQuery');
select note_cancel(pg_backend_pid());
begin;
set local plproxy.transactions = tied;
select note_later(pg_backend_pid());
commit;
select waits();

-- Connecting. Only from PostgreSQL 17 on can a partition do something then.
select current_setting('server_version_num')::int4 >= 170000 as named \gset
create function note_login(i_pid int4) returns text language plpgsql as $$
begin
    perform everywhere(format($q$
        create function note_login() returns event_trigger language plpgsql as
            'begin perform note_wait(%s, ''PlProxyConnect''); end';
        create event trigger plproxy_login on login execute function note_login();
    $q$, i_pid));
    return connected(connstr('plproxy_part0') || ' application_name=plproxy_waits');
end;
$$;
create function connected(i_connstr text) returns text language plproxy as $$ connect i_connstr; select event from waits order by at desc limit 1; $$;
\if :named
select note_login(pg_backend_pid()) as seen \gset
select count(*) from everywhere('drop event trigger plproxy_login; drop function note_login()') \gset
\else
select connected(connstr('plproxy_part0') || ' application_name=plproxy_waits') as seen \gset
\endif
select :'seen' = case when :'named' then 'PlProxyConnect' else 'PlProxyTransaction' end as right;

drop function note_wait, note_cancel, note_later, note_login, connected, waits;
select count(*) from everywhere('drop table waits, noted; drop function note_wait, note_cancel, note_in_the_end, note_later');
