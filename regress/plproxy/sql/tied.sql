-- Calls tied to the local transaction: what they do on partitions is committed,
-- undone and isolated as what is done here.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create table tied_item (id int4 primary key deferrable initially deferred, checked int4 check (checked > 0));
    create function put(i_id int4) returns int4 language sql as 'insert into tied_item values (i_id, i_id) returning id';
    create function items() returns text language sql as
        'select current_database() || '' '' || coalesce(string_agg(id::text, '','' order by id), ''-'') from tied_item';
    create function modes() returns text language sql as
        'select concat_ws('' '', current_setting(''transaction_isolation''), current_setting(''transaction_read_only''),
            current_setting(''transaction_deferrable''))';
    create function tied_who() returns text language sql as 'select current_user::text';
$$);
create function put(i_part int4, i_id int4) returns int4 language plproxy as $$ cluster 'four'; run on i_part; select put(i_id); $$;
create function put_all(i_id int4) returns setof int4 language plproxy as $$ cluster 'four'; run on all; target put; $$;
create function items() returns setof text language plproxy as $$ cluster 'four'; run on all; $$;
create function pid(i_part int4) returns int4 language plproxy as $$ cluster 'four'; run on i_part; select pid(); $$;
create function modes() returns text language plproxy as $$ cluster 'four'; run on 0; $$;
-- as others see it
create function seen() returns setof text language plproxy set plproxy.transactions = autocommit as $$
    cluster 'four'; run on all; target items;
$$;
-- what the partitions' sessions of this backend are in
create function states() returns text language sql as $$
    select string_agg(coalesce(partition::text, 'connect') || ' ' || state, ', ' order by partition)
    from plproxy_connections where state <> 'idle';
$$;

select put(0, 1), count(*) from seen();
set plproxy.transactions = tied;
set plproxy.transactions = 'two-phase';
show plproxy.transactions;

-- rollback
begin;
select put(0, 2), put(1, 2);
select put_all(3);
select * from items();
select * from seen();
select states();
rollback;
select * from items();
select states();

-- commit
begin;
select put(0, 4), put(1, 4);
select put_all(5);
select * from seen();
commit;
select states();
select * from seen();

-- a statement by itself is a transaction
select put(2, 6);
select 1 / (put(2, 7) - put(3, 7));
select * from seen();

-- a function can be tied whoever calls it
reset plproxy.transactions;
create function put_tied(i_part int4, i_id int4) returns int4 language plproxy set plproxy.transactions = tied as $$
    cluster 'four'; run on i_part; select put(i_id);
$$;
begin;
select put_tied(0, 8), put(0, 9);
rollback;
select * from seen() limit 1;
set plproxy.transactions = tied;

-- one connection for a transaction; it is kept
select pid(0) as pid0 \gset
begin;
select pid(0) = :pid0, pid(0) = pid(0);
-- a call that is not tied takes another one
set local plproxy.transactions = autocommit;
select pid(0) <> :pid0;
set local plproxy.transactions = tied;
select pid(0) = :pid0;
commit;

-- the transaction there is as the one here
begin; select modes(); commit;
begin isolation level repeatable read; select modes(); commit;
begin isolation level serializable; select modes(); commit;
begin isolation level serializable read only deferrable; select modes(); select put(0, 10); rollback;
begin read only; select modes(); select modes(); commit;
begin; select modes(); set transaction read only; select modes(); select put(0, 10); rollback;
begin;
savepoint a;
set transaction read only;
select modes();
release a;
select modes();
select put(0, 10);
rollback;

-- also when settings go along
insert into plproxy.config values ('four', 'statement_timeout', '1 min');
update plproxy.cluster set version = version + 1 where name = 'four';
begin isolation level serializable read only deferrable; select modes(); commit;
begin isolation level repeatable read; select modes(); select count(*) from items(); commit;
delete from plproxy.config where key = 'statement_timeout';
update plproxy.cluster set version = version + 1 where name = 'four';
select count(*) from everywhere('set datestyle = ''SQL, DMY''');
begin isolation level repeatable read; select modes(); rollback;

-- one snapshot for all that a transaction reads there
begin isolation level repeatable read;
select count(*) from items();
set local plproxy.transactions = autocommit;
select put(3, 11);
set local plproxy.transactions = tied;
select * from items() offset 3;
commit;
select * from items() offset 3;

-- savepoints
begin;
select put(0, 20);
savepoint a;
select put(0, 21), put(1, 21);
savepoint b;
select put(0, 22), put(1, 22), put(2, 22);
rollback to b;
select * from items();
select states();
select put(1, 23);
rollback to a;
select * from items();
select put(1, 24);
release a;
savepoint a;
select put(0, 25);
rollback to a;
commit;
select * from seen();

-- exception blocks: the transaction goes on, also after errors on partitions
create function try_put(i_part int4, i_id int4, i_depth int4 default 0) returns text language plpgsql as $$
begin
    if i_depth > 0 then
        perform put(i_part, i_id + 10000 * i_depth);
        return try_put(i_part, i_id, i_depth - 1);
    end if;
    return put(i_part, i_id);
exception when others then
    return sqlstate;
end;
$$;
begin;
select try_put(0, 0), try_put(0, 30), try_put(0, 0), try_put(0, 31), try_put(0, 0);
select states();
select try_put(1, 0, 3);
select try_put(1, 30, 3);
commit;
select * from items() limit 2;

create function put_many(i_n int4, i_every int4) returns int4 language plpgsql as $$
declare
    v_failed int4 := 0;
begin
    for i in 1..i_n loop
        begin
            perform put(i % 4, 100 + i);
            if i % i_every = 0 then
                raise exception 'no';
            end if;
        exception when raise_exception then
            v_failed := v_failed + 1;
        end;
    end loop;
    return v_failed;
end;
$$;
select put_many(24, 3);
select * from items();
-- errors on all partitions at once
create function try_all(i_id int4) returns text language plpgsql as $$
begin
    perform put_all(i_id);
    return 'ok';
exception when check_violation then
    return sqlerrm;
end;
$$;
begin;
select put_all(40);
select try_all(0), try_all(41), try_all(0);
commit;
select * from seen() s where s like '%,40,41,%';

-- a constraint that is checked in the end fails before anything is committed
\set VERBOSITY terse
begin;
select put(0, 50), put(1, 50), put(1, 50), put(2, 50);
commit;
\echo :LAST_ERROR_SQLSTATE
select put(1, 51) from generate_series(1, 2);
\echo :LAST_ERROR_SQLSTATE
select count(*) from seen() s where s ~ '5[01]';
select states();
\set VERBOSITY default

-- PREPARE TRANSACTION
begin;
select put(0, 52);
prepare transaction 'tied';
select count(*) from seen() s where s ~ '52';

-- a cursor WITH HOLD is read to its end before the partitions commit
begin;
declare held no scroll cursor with hold for select put(i, 60) from generate_series(0, 3) i;
fetch 1 from held;
commit;
fetch all from held;
close held;
select * from seen() s where s like '%,60%';

-- a procedure that commits and rolls back
create procedure put_in_steps() language plpgsql as $$
begin
    perform put(0, 70), put(1, 70);
    commit;
    perform put(0, 71), put(1, 71);
    rollback;
    perform put(1, 72);
end;
$$;
call put_in_steps();
select * from items() limit 2;

-- a call within a call cannot use the connection of the outer one
create domain put_before as int4 check (put(value % 4, value) is not null);
create function numbers(i_n int4) returns setof put_before language plproxy as $$
    cluster 'four'; run on 1; select * from generate_series(80, i_n);
$$;
begin;
select count(*) from numbers(80);
select count(*) from numbers(81);
rollback;
select count(*) from seen() s where s ~ ',8[0-9]';

-- each login has a transaction of its own; all of them end together
create role plproxy_tied login;
select count(*) from everywhere('grant all on tied_item to plproxy_tied');
create function put_definer(i_part int4, i_id int4) returns text language plproxy security definer as $$
    cluster 'four'; run on i_part; select tied_who() || put(i_id);
$$;
grant usage on schema plproxy to plproxy_tied;
grant select on all tables in schema plproxy to plproxy_tied;
alter function put_definer owner to plproxy_tied;
begin;
select put(0, 90), put_definer(0, 91), put_definer(1, 91);
select * from items() limit 2;
rollback;
begin;
select put(0, 92), put_definer(0, 93), put_definer(1, 93);
commit;
select * from seen() s where s like '%,9%';

-- CONNECT; a cluster with the same connect string uses the same transaction
create function put_connect(i_connstr text, i_id int4) returns int4 language plproxy as $$ connect i_connstr; select put(i_id); $$;
begin;
select put(0, 94), put_connect(connstr('plproxy_part0'), 95);
select * from items() limit 1;
select count(*) from plproxy_connections where state = 'idle in transaction' and dbname = 'plproxy_part0';
rollback;
select put_connect(connstr('plproxy_part0'), 96);
select * from seen() limit 1;

-- the cluster changes meanwhile: its connections stay until the end
begin;
select pid(0) as pid0 \gset
update plproxy.cluster set version = version + 1 where name = 'four';
select pid(0) = :pid0, put(0, 97);
commit;
select pid(0) <> :pid0;
select * from seen() limit 1;

-- a connection that breaks takes its work with it, so nothing can be committed
\set VERBOSITY terse
begin;
select put(0, 200), put(1, 200);
select pg_terminate_backend(pid(1), 10000);
commit;
\echo :LAST_ERROR_SQLSTATE
begin;
select put(1, 201);
select pg_terminate_backend(pid(1), 10000);
commit;
\echo :LAST_ERROR_SQLSTATE
-- not even if the error of the call is caught
create function lose(i_part int4) returns text language plpgsql as $$
begin
    perform pg_terminate_backend(pid(i_part), 10000);
    perform pid(i_part);
    return 'still there';
exception when others then
    return 'lost';
end;
$$;
begin;
select put(0, 202), put(1, 202);
select lose(1);
select put(0, 203);
select put(1, 203);
commit;
begin;
select put(0, 202), put(1, 202);
select lose(1);
commit;
\echo :LAST_ERROR_SQLSTATE
select count(*) from seen() s where s ~ ',20[0-9](,|$)';
-- but if all of its work is undone anyway, nothing is lost
begin;
select put(0, 204);
select lose(1);
select put(1, 205);
commit;
select count(*) from seen() s where s ~ ',20[45]';

-- what fails in a tied transaction is not left out
select count(*) from everywhere($q$
    create function put_most(i_id int4) returns int4 language plpgsql as $f$
    begin
        return put(case when current_database() = 'plproxy_part2' then 0 else i_id end);
    end;
    $f$;
$q$);
create function put_most(i_id int4) returns setof int4 language plproxy as $$ cluster 'four'; run on all; $$;
insert into plproxy.config values ('four', 'on_partition_error', 'skip');
update plproxy.cluster set version = version + 1 where name = 'four';
select put_most(206);
delete from plproxy.config where key = 'on_partition_error';
update plproxy.cluster set version = version + 1 where name = 'four';
select count(*) from seen() s where s ~ ',206';

-- cancelled in the midst: undone, the connections are good
select count(*) from everywhere('create function put_slowly(i_id int4) returns int4 language sql as ''select put(i_id); select 1 from pg_sleep(600)''');
create function put_slowly(i_id int4) returns setof int4 language plproxy as $$ cluster 'four'; run on all; $$;
select count(distinct pid(i)) from generate_series(0, 3) i;
create temp table pids as select pid(i) as pid from generate_series(0, 3) i;
set statement_timeout = '200ms';
select put_slowly(300);
reset statement_timeout;
select count(*) from pids join (select pid(i) as pid from generate_series(0, 3) i) now using (pid);
create function try_slowly(i_id int4) returns text language plpgsql as $$
begin
    perform put_slowly(i_id);
    return 'ok';
exception when query_canceled then
    return sqlerrm;
end;
$$;
begin;
select put_all(301);
set local statement_timeout = '200ms';
select try_slowly(302);
set local statement_timeout = 0;
commit;
select count(*) from seen() s where s ~ ',301' and s !~ ',30[02](,|$)';
-- the cluster's timeout counts for the commit too
select count(*) from everywhere($$
    create function sleep_in_the_end() returns trigger language plpgsql as 'begin perform pg_sleep(600); return null; end';
    create table slow (id int4);
    create constraint trigger slow after insert on slow deferrable initially deferred
        for each row execute function sleep_in_the_end();
    create function put_slow(i_id int4) returns int4 language sql as 'insert into slow values (i_id) returning id';
$$);
create function put_slow(i_part int4, i_id int4) returns int4 language plproxy as $$ cluster 'four'; run on i_part; select put_slow(i_id); $$;
insert into plproxy.config values ('four', 'query_timeout', '2000 ms');
update plproxy.cluster set version = version + 1 where name = 'four';
begin;
select put(0, 303), put_slow(1, 1);
commit;
\echo :LAST_ERROR_SQLSTATE
select put_slow(1, 1);
\echo :LAST_ERROR_SQLSTATE
delete from plproxy.config where key = 'query_timeout';
update plproxy.cluster set version = version + 1 where name = 'four';
select count(*) from seen() s where s ~ ',303';
\set VERBOSITY default

-- what a constraint trigger says in the end
select count(*) from everywhere($$
    create or replace function sleep_in_the_end() returns trigger language plpgsql as
        'begin raise notice ''% is checked'', new.id; return null; end';
$$);
select put_slow(1, 2);

-- one whose server hangs up in the end is lost, and that is not our session's end
select count(*) from everywhere($$
    create or replace function sleep_in_the_end() returns trigger language plpgsql as
        'begin perform pg_terminate_backend(pg_backend_pid()), pg_sleep(60); return null; end';
$$);
\set VERBOSITY terse
begin;
select put(0, 304), put_slow(1, 3);
commit;
\echo :LAST_ERROR_SQLSTATE
begin;
select put_slow(1, 3);
commit;
\echo :LAST_ERROR_SQLSTATE
select count(*) from seen() s where s ~ ',304';
\set VERBOSITY default

-- a parallel worker's calls could not be tied to the leader's transaction
create function put_safe(i_id int4) returns int4 language plproxy parallel safe as $$ cluster 'four'; run on 0; target put; $$;
create table numbers as select i from generate_series(500, 501) i;
alter table numbers set (parallel_workers = 2);
analyze numbers;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
set parallel_leader_participation = off;
select count(put_safe(i)) from numbers;
set plproxy.transactions = autocommit;
select count(put_safe(i)) from numbers;

drop table pids, numbers;
drop function put_definer;
drop owned by plproxy_tied;
select count(*) from everywhere('drop owned by plproxy_tied');
drop role plproxy_tied;
drop function numbers;
drop domain put_before;
drop function put, put_all, items, pid, modes, seen, states, put_tied, try_put, put_many, try_all, put_connect,
    lose, put_most, put_slowly, try_slowly, put_slow, put_safe;
drop procedure put_in_steps;
