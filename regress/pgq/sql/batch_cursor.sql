--
-- A batch through a cursor.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('cursor');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
select pgq.register_consumer('cursor', 'c');
select count(pgq.insert_event('cursor', 't', 'data' || i, case when i % 2 = 0 then 'even' else 'odd' end, null, null, null))
from generate_series(1, 6) i;
select pgq.ticker('cursor');
select pgq.next_batch('cursor', 'c') as batch \gset

-- the first ones at once, the others by fetch
begin;
select ev_id, ev_data, ev_extra1 from pgq.get_batch_cursor(:batch, 'My "cur"', 2);
\pset format unaligned
select count(*) from pg_cursors where name = 'My "cur"' and not is_scrollable;
do $$
declare
    v_cursor refcursor := 'My "cur"';
    v_row record;
begin
    loop
        fetch v_cursor into v_row;
        exit when not found;
        raise warning 'fetched % %', v_row.ev_id, v_row.ev_data;
    end loop;
end;
$$;
close "My ""cur""";
\pset format aligned

-- more than there are; none
select count(*) from pgq.get_batch_cursor(:batch, 'c1', 100);
select count(*) from pgq.get_batch_cursor(:batch, 'c2', 0);
select count(*) from pgq.get_batch_cursor(:batch, 'c3', -1);

-- a condition
select ev_id, ev_data from pgq.get_batch_cursor(:batch, 'c4', 2, 'ev_extra1 in (''even'')');
move all from c4;
select ev_id, ev_data from pgq.get_batch_cursor(:batch, 'c5', 10, 'ev_id = 1 or ev_id = 5');
select ev_id, ev_data from pgq.get_batch_cursor(:batch, 'c6', 1, null);
select ev_id, ev_data from pgq.get_batch_cursor(:batch, 'c8', 1, 'ev_id = 1 -- the first');
close c8;

-- null
select * from pgq.get_batch_cursor(null, 'c7', 1);
select * from pgq.get_batch_cursor(:batch, null, 1);
select * from pgq.get_batch_cursor(:batch, 'c7', null);
select * from pgq.get_batch_cursor(null, 'c7', 1, 'true');
select name from pg_cursors where name like 'c%' order by 1;
commit;

-- what makes no sense
select * from pgq.get_batch_cursor(-1, 'c', 1);
\echo :SQLSTATE
\set VERBOSITY sqlstate
select * from pgq.get_batch_cursor(:batch, 'c', 1, 'no_such_column = 1');
\set VERBOSITY default
select pgq.batch_event_sql(-1);
\echo :SQLSTATE
select * from pgq.batch_event_tables(-1);
\echo :SQLSTATE

-- the query behind it
select count(*) from pgq.batch_event_tables(:batch);
select pgq.batch_event_sql(:batch) as sql \gset
select count(*) from (:sql) b;

select pgq.drop_queue('cursor', true);
