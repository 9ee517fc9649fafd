--
-- Event tables are emptied and used again when nobody needs them.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('rotation');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0';
create function pg_temp.read(i_consumer text) returns setof text
language plpgsql as $$
declare
    v_batch bigint;
begin
    loop
        v_batch := pgq.next_batch('rotation', i_consumer);
        exit when v_batch is null;
        return query select e.ev_data from pgq.get_batch_events(v_batch) e;
        perform pgq.finish_batch(v_batch);
    end loop;
end;
$$;
create view pg_temp.state as
select queue_cur_table as cur, queue_switch_step2 is not null as finished,
       (select count(*) from pgq.event_template) as kept, (select count(*) from pgq.tick) as ticks
from pgq.queue;

-- a consumer holds up the second rotation until it has read on
select pgq.register_consumer('rotation', 'fast'), pgq.register_consumer('rotation', 'slow');
select pgq.ticker('rotation');
select * from pg_temp.read('fast');
select * from pg_temp.read('slow');
select pgq.insert_event('rotation', 't', 'one');
select pgq.ticker('rotation');
select pgq.maint_rotate_tables_step1('rotation');
select * from pg_temp.state;
-- not before step2
select pgq.maint_rotate_tables_step1('rotation');
select * from pg_temp.state;
select pgq.maint_rotate_tables_step2();
select * from pg_temp.state;
select pgq.insert_event('rotation', 't', 'two');
select pgq.ticker('rotation');
select * from pg_temp.read('fast');
select pgq.maint_rotate_tables_step1('rotation');
select * from pg_temp.state;
-- an open batch counts from its beginning
select pgq.next_batch('rotation', 'slow') as batch \gset
select pgq.maint_rotate_tables_step1('rotation');
select * from pg_temp.state;
select ev_data from pgq.get_batch_events(:batch);
select pgq.finish_batch(:batch);
select * from pg_temp.read('slow');
select pgq.maint_rotate_tables_step1('rotation');
select pgq.maint_rotate_tables_step2();
select * from pg_temp.state;
-- old ticks are gone, those of the last period are there
select pgq.register_consumer_at('rotation', 'slow', 1);
select pgq.register_consumer_at('rotation', 'slow', (select min(tick_id) from pgq.tick));
select * from pg_temp.read('slow');

-- round: the first table is emptied, the event of the second kept
select pgq.insert_event('rotation', 't', 'three');
select pgq.ticker('rotation');
select * from pg_temp.read('fast');
select * from pg_temp.read('slow');
select pgq.maint_rotate_tables_step1('rotation');
select pgq.maint_rotate_tables_step2();
select * from pg_temp.state;
select ev_data from pgq.event_template order by ev_id;

-- a batch looks where its events can be: before, across, after
select pgq.insert_event('rotation', 't', 'four');
select pgq.ticker('rotation');
select pgq.next_batch('rotation', 'fast') as batch \gset
select count(*) from pgq.batch_event_tables(:batch);
select ev_data from pgq.get_batch_events(:batch);
select pgq.finish_batch(:batch);
select pgq.insert_event('rotation', 't', 'five');
select pgq.ticker('rotation');
select pgq.next_batch('rotation', 'fast') as batch \gset
select count(*), min(t) = (select queue_data_pfx || '_' || queue_cur_table from pgq.queue) as current
from pgq.batch_event_tables(:batch) t;
select pgq.insert_event('rotation', 't', 'six');
select pgq.ticker('rotation');
select * from pg_temp.read('slow');
select pgq.maint_rotate_tables_step1('rotation');
select count(*), min(t) = (select queue_data_pfx || '_' || queue_cur_table from pgq.queue) as current
from pgq.batch_event_tables(:batch) t;
select ev_data from pgq.get_batch_events(:batch);

-- not before its time, not at all without a period, not in a missing queue
select pgq.maint_rotate_tables_step2();
select * from pg_temp.read('fast');
update pgq.queue set queue_rotation_period = '1 hour';
select pgq.maint_rotate_tables_step1('rotation');
select cur from pg_temp.state;
select pgq.maint_rotate_tables_step1('nowhere'), pgq.maint_rotate_tables_step1(null);
update pgq.queue set queue_rotation_period = '0';

-- a state that makes no sense is told
begin;
update pgq.queue set queue_switch_step1 = 9000000000000;
do $$
begin
    perform pgq.maint_rotate_tables_step1('rotation');
exception
    when sqlstate 'PGQ09' then
        raise warning '%', regexp_replace(sqlerrm, 'current=\d+', 'current=N');
end;
$$;
rollback;
begin;
update pgq.subscription set sub_last_tick = 1;
select pgq.maint_rotate_tables_step1('rotation');
\echo :SQLSTATE
rollback;

select pgq.drop_queue('rotation', true);
