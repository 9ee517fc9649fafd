-- read_only: each call is a read-only transaction on its partitions.
\set SHOW_CONTEXT never
do $$
begin
    execute format('create server reading foreign data wrapper plproxy options (p0 %L, p1 %L, read_only %L)',
        connstr('plproxy_part0'), connstr('plproxy_part1'), 'on');
end;
$$;
create user mapping for current_user server reading;
select count(*) from everywhere($$
    create table read_item (id int4);
    create function read_items() returns int4 language sql as 'select count(*)::int4 from read_item';
    create function read_put(i_id int4) returns int4 language sql as 'insert into read_item values (i_id) returning id';
    create function read_mode() returns text language sql as
        'select current_setting(''transaction_read_only'') || '' '' || current_setting(''transaction_isolation'')';
$$);
create function read_items() returns setof int4 language plproxy as $$ cluster 'reading'; run on all; $$;
create function read_put(i_id int4) returns setof int4 language plproxy as $$ cluster 'reading'; run on all; $$;
create function read_mode() returns text language plproxy as $$ cluster 'reading'; run on 0; $$;
create function read_pid() returns int4 language plproxy as $$ cluster 'reading'; run on 0; target pid; $$;
create function write_put(i_id int4) returns int4 language plproxy as $$ cluster 'four'; run on 0; target read_put; $$;
create function read_fail(i_text text) returns int4 language plproxy as $$ cluster 'reading'; run on 0; select i_text::int4; $$;

select read_items();
select read_mode();
select read_put(1);
-- the connection stays usable, and is not left in a transaction
select read_pid() as pid \gset
select attempt('select read_put(1)');
select attempt('select read_fail(''x'')');
select read_fail('5');
select read_pid() = :pid;
select distinct state from plproxy_connections;

-- prepared statements that are gone are made anew, in a transaction again
select count(*) from read_items();
select count(*) from everywhere('deallocate all');
select count(*) from read_items();
select read_mode();
select distinct state from plproxy_connections;

-- it is the cluster that is read only, not the connection: others may share it
select write_put(1);
select read_items();
begin;
select write_put(2);
select read_mode();
commit;
select read_items();

-- tied: read only too, as one transaction of its own
set plproxy.transactions = tied;
begin isolation level repeatable read;
select read_mode();
select read_items();
select write_put(3);
select read_items();
select read_mode();
commit;
select read_items();
begin;
savepoint a;
select read_put(1);
rollback to a;
select read_items();
commit;
reset plproxy.transactions;

-- ends with what ends the call
select count(*) from everywhere('create function read_sleep() returns int4 language sql as ''select 1 from pg_sleep(600)''');
create function read_sleep() returns setof int4 language plproxy as $$ cluster 'reading'; run on all; $$;
set statement_timeout = '200ms';
select read_sleep();
reset statement_timeout;
select read_pid() = :pid;
select distinct state from plproxy_connections;

-- off again
alter server reading options (set read_only 'off');
select read_mode();
select count(*) from read_put(4);
select read_items();

drop server reading cascade;
drop function read_items, read_put, read_mode, read_pid, write_put, read_fail, read_sleep;
