--
-- A queue whose transaction ids are ahead of the server's, as after a restore, is
-- rebased: every consumer gets what it had not finished, once.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset null NULL
select pgq.create_queue('rebase');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0';
create table consumed (consumer text, ev_data text);
create procedure pg_temp.read(i_queue text, i_consumer text)
language plpgsql as $$
declare
    v_batch bigint;
begin
    loop
        v_batch := pgq.next_batch(i_queue, i_consumer);
        exit when v_batch is null;
        insert into consumed select i_consumer, e.ev_data from pgq.get_batch_events(v_batch) e;
        perform pgq.finish_batch(v_batch);
    end loop;
end;
$$;
create view pg_temp.seen as
select consumer, string_agg(ev_data, ' ' order by ev_data collate "C") as events from consumed group by 1 order by 1;
-- What a restore makes of a queue: all of its ids are others.
create function pg_temp.shift(i_by bigint) returns void
language plpgsql as $$
declare
    v_queue pgq.queue;
begin
    for v_queue in select q.* from pgq.queue q loop
        for i in 0 .. 2 loop
            execute format('update %s_%s set ev_txid = ev_txid + %s', v_queue.queue_data_pfx, i, i_by);
        end loop;
    end loop;
    update pgq.queue set queue_switch_step1 = queue_switch_step1 + i_by, queue_switch_step2 = queue_switch_step2 + i_by;
    update pgq.tick t
    set tick_snapshot = format('%s:%s:%s', txid_snapshot_xmin(t.tick_snapshot) + i_by, txid_snapshot_xmax(t.tick_snapshot) + i_by,
                               (select string_agg((x + i_by)::text, ',' order by x) from txid_snapshot_xip(t.tick_snapshot) x))::txid_snapshot;
end;
$$;
create function pg_temp.refused(i_sql text) returns text
language plpgsql as $$
begin
    execute i_sql;
    return 'accepted';
exception
    when sqlstate 'PGQ09' then
        return 'PGQ09 ' || regexp_replace(sqlerrm, '\d+', 'N', 'g');
end;
$$;

-- a healthy queue is left alone
select pgq.rebase_queue('rebase');
begin;
select pgq.insert_event('rebase', 't', 'own') > 0 as written;
select pgq.rebase_queue('rebase');
rollback;
select pgq.rebase_queue('nowhere');
\echo :SQLSTATE
select pgq.rebase_queue(null);
\echo :SQLSTATE
begin isolation level repeatable read;
select pgq.rebase_queue('rebase');
\echo :SQLSTATE
rollback;

-- consumers at different places; events in two tables; one open batch, one retried
-- event, one that only its consumer may see, one not ticked yet
select count(pgq.register_consumer('rebase', c)) from unnest('{done,half,open,start,still}'::text[]) c;
select pgq.register_consumer('rebase', 'far');
insert into consumed select 'far', '00';
select pgq.insert_event('rebase', 't', '01');
select pgq.ticker('rebase');
begin;
select pgq.insert_event('rebase', 't', '02');
savepoint s;
select pgq.insert_event('rebase', 't', 'undone');
rollback to s;
select pgq.insert_event('rebase', 't', '03');
commit;
select pgq.ticker('rebase');
call pg_temp.read('rebase', 'done');
call pg_temp.read('rebase', 'half');
call pg_temp.read('rebase', 'open');
call pg_temp.read('rebase', 'start');
call pg_temp.read('rebase', 'still');
call pg_temp.read('rebase', 'far');
select pgq.maint_rotate_tables_step1('rebase');
select pgq.maint_rotate_tables_step2();
select pgq.insert_event('rebase', 't', '04');
select pgq.ticker('rebase');
call pg_temp.read('rebase', 'half');
call pg_temp.read('rebase', 'open');
select pgq.next_batch('rebase', 'still') as batch \gset
select ev_data, pgq.event_retry(:batch, ev_id, 0) from pgq.get_batch_events(:batch);
select pgq.insert_event('rebase', 't', '05');
select pgq.ticker('rebase');
select pgq.next_batch('rebase', 'open') as open \gset
select ev_data from pgq.get_batch_events(:open);
select pgq.insert_event('rebase', 't', '06');
select pgq.ticker('rebase');
call pg_temp.read('rebase', 'done');
select pgq.insert_event('rebase', 't', '07');
select pgq.next_batch('rebase', 'half') as half \gset
select * from pg_temp.seen;

-- the restore: everything that would lose events stops
create table ticks_before as select tick_id, tick_time, tick_event_seq from pgq.tick;
create table events_before as select ev_id, ev_owner, ev_data from pgq.event_template;
select pg_temp.shift(5000000000);
select pg_temp.refused($$select pgq.ticker('rebase')$$);
select pg_temp.refused($$select pgq.maint_rotate_tables_step1('rebase')$$);
-- what is written by then is not lost either
select pgq.insert_event('rebase', 't', '08');
select pgq.maint_retry_events();
update pgq.queue set queue_switch_step1 = 1, queue_switch_step2 = 1;
select pg_temp.refused($$select pgq.maint_rotate_tables_step1('rebase')$$);

select pgq.rebase_queue('rebase');
-- ticks and events are the same, in ids that this server has given
table ticks_before except select tick_id, tick_time, tick_event_seq from pgq.tick;
table events_before except select ev_id, ev_owner, ev_data from pgq.event_template;
select count(*) from pgq.event_template e
where e.ev_txid >= txid_snapshot_xmin(txid_current_snapshot())
  and e.tableoid in (select format('%s_%s', queue_data_pfx, i)::regclass from pgq.queue, generate_series(0, 1) i);
select count(*) from pgq.tick where txid_snapshot_xmax(tick_snapshot) > txid_snapshot_xmin(txid_current_snapshot());
select pgq.rebase_queue('rebase') as again;
-- an open batch has its events, under another id
select sub_batch is distinct from :open as other_id, sub_batch > :open + 1000000 as leaped
from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name = 'open';
select ev_data from pgq.get_batch_events(pgq.next_batch('rebase', 'open'));
set client_min_messages = error;
select pgq.finish_batch(:open);
set client_min_messages = warning;

-- all goes on: everybody has all, once
select pgq.ticker('rebase') > 0 as ticked;
select pgq.insert_event('rebase', 't', '09');
select pgq.ticker('rebase') > 0 as ticked;
call pg_temp.read('rebase', 'done');
call pg_temp.read('rebase', 'half');
call pg_temp.read('rebase', 'open');
call pg_temp.read('rebase', 'start');
call pg_temp.read('rebase', 'still');
call pg_temp.read('rebase', 'far');
select * from pg_temp.seen;
select pgq.maint_rotate_tables_step1('rebase');
select pgq.maint_rotate_tables_step2();
select queue_cur_table from pgq.queue;
select pgq.insert_event('rebase', 't', '10');
select pgq.ticker('rebase') > 0 as ticked;
call pg_temp.read('rebase', 'far');
select * from pg_temp.seen where consumer = 'far';

-- a second restore, from a server that is ahead by little: new ids look like old ones
select pgq.insert_event('rebase', 't', '11');
select pgq.ticker('rebase') > 0 as ticked;
select pgq.insert_event('rebase', 't', '12');
select pg_temp.shift(100);
select pg_temp.refused($$select pgq.ticker('rebase')$$);
select pgq.insert_event('rebase', 't', '13');
select pgq.insert_event('rebase', 't', '14');
select pgq.rebase_queue('rebase');
select pgq.ticker('rebase') > 0 as ticked;
call pg_temp.read('rebase', 'far');
call pg_temp.read('rebase', 'done');
-- none is missing
select ev_data from generate_series(1, 14) i, to_char(i, 'FM00') ev_data
except select ev_data from consumed where consumer = 'far';
select ev_data from generate_series(1, 14) i, to_char(i, 'FM00') ev_data
except select ev_data from consumed where consumer = 'done';

-- sequences that lag behind the rows
select setval(queue_event_seq, 1, false), setval(queue_tick_seq, 1, false), setval('pgq.batch_id_seq', 1, false) from pgq.queue;
select pgq.next_batch('rebase', 'half') is not null as open;
select pgq.rebase_queue('rebase');
select pgq.insert_event('rebase', 't', '15') > (select max(ev_id) from events_before) as id_ahead;
select pgq.ticker('rebase') = max(tick_id) + 1 as tick_ahead from pgq.tick;
select pgq.next_batch('rebase', 'start') > sub_batch as batch_ahead
from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name = 'half';

-- a server that has given fewer ids than there are ticks: those where somebody
-- stands remain, and some of the others
select pgq.drop_queue('rebase', true);
select pgq.create_queue('many'), pgq.register_consumer('many', 'one'), pgq.register_consumer('many', 'two');
select queue_id, queue_data_pfx || '_0' as table from pgq.queue \gset
insert into pgq.tick
select :queue_id, i, now(), format('%s:%1$s:', 5000000000 + i * 10)::txid_snapshot, i from generate_series(2, 20000) i;
insert into :table (ev_id, ev_time, ev_txid, ev_data)
select i, now(), 5000000000 + i * 10 - 5, i from generate_series(2, 20000) i;
select pgq.register_consumer_at('many', 'one', 17000), pgq.register_consumer_at('many', 'two', 19999);
select txid_current() < 20000 as fewer_ids;
select pgq.rebase_queue('many');
select count(*) between 100 and 19999 as some_ticks from pgq.tick;
truncate consumed;
call pg_temp.read('many', 'one');
call pg_temp.read('many', 'two');
select consumer, min(ev_data::integer), max(ev_data::integer), count(*), count(distinct ev_data) from consumed group by 1 order by 1;
select pgq.drop_queue('many', true);
drop table consumed, ticks_before, events_before cascade;
