--
-- One damaged queue never stops the others, and can be dropped.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select count(pgq.create_queue(q)), count(pgq.register_consumer(q, 'c'))
from (values ('a good'), ('b no sequence'), ('c no table'), ('d corrupt tick'), ('e absurd'), ('f no ticks'), ('g good')) v (q);
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0';
select count(pgq.insert_event(queue_name, 't', 'd')) from pgq.queue;
create function pg_temp.break(i_queue text, i_sql text) returns void
language plpgsql as $$
declare
    v_queue pgq.queue;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue;
    execute format(i_sql, v_queue.queue_data_pfx, v_queue.queue_event_seq, v_queue.queue_tick_seq, v_queue.queue_id);
end;
$$;
select pg_temp.break('b no sequence', 'drop sequence %2$s cascade');
select pg_temp.break('c no table', 'drop table %s cascade');
select pg_temp.break('d corrupt tick', 'update pgq.tick set tick_time = ''infinity'', tick_event_seq = -9223372036854775808,
    tick_snapshot = ''9000000000:9000000001:'' where tick_queue = %4$s');
update pgq.queue set queue_ticker_max_count = -1, queue_ticker_max_lag = '-10000000 years', queue_rotation_period = '-10000000 years',
    queue_ticker_idle_period = '10000000 years', queue_retention = '10000000 years', queue_consumer_expiry = '-10000000 years',
    queue_ticker_min_lag = '-10000000 years', queue_per_tx_limit = -1, queue_extra_maint = '{NULL,nowhere.nothing}'
where queue_name = 'e absurd';
select pg_temp.break('f no ticks', 'delete from pgq.tick where tick_queue = %4$s');
-- texts with numbers and oids are not the same everywhere
create function pg_temp.told(i_sql text) returns text
language plpgsql as $$
declare
    v_result text;
begin
    execute i_sql into v_result;
    return v_result;
exception
    when others then
        return sqlstate;
end;
$$;
set client_min_messages = error;

-- the ticker: all that can be ticked
select pgq.ticker();
select pgq.ticker() from generate_series(1, 2);
select queue_name, max(tick_id) from pgq.queue left join pgq.tick on tick_queue = queue_id group by 1 order by 1;
select pgq.force_tick('e absurd');

-- status; before 17 a distance from infinity is an error
select queue_name, coalesce(isfinite(ticker_lag), false) as ticker_lag, ev_new, last_tick_id from pgq.get_queue_info();
select queue_name, coalesce(isfinite(lag), false) as lag, last_seen is not null as last_seen, last_tick, pending_events from pgq.get_consumer_info();

-- upkeep: each in a transaction of its own
select func_name, func_arg,
       pg_temp.told(case when func_name = 'vacuum' then 'select 0'
                         else format('select %s(%s)', func_name, quote_literal(func_arg)) end)
from pgq.maint_operations();
select queue_name, queue_cur_table from pgq.queue order by 1;
select pgq.maint_rotate_tables_step2();
select queue_name, blocker_kind, blocker from pgq.rotation_blockers where blocker_kind <> 'transaction' order by 1, 2, 3;

-- consumers and writers of the good ones go on, those of the others are told
select queue_name, pg_temp.told(format('select pgq.insert_event(%L, ''t'', ''d'')', queue_name)) from pgq.queue order by 1;
select queue_name, pg_temp.told(format('select count(*) from pgq.get_batch_events(pgq.next_batch(%L, ''c''))', queue_name))
from pgq.queue order by 1;

-- retried events: what can go back goes
select queue_name, pg_temp.told(format('select pgq.event_retry_raw(%L, ''c'', now(), 1, now(), 0, ''t'', ''again'','
                                       ' null, null, null, null)', queue_name))
from pgq.queue order by 1;
select pgq.maint_retry_events();
select q.queue_name from pgq.retry_queue join pgq.queue q on queue_id = ev_queue order by 1;

-- all can go
select pgq.drop_queue(queue_name, true) from pgq.queue order by queue_name;
select count(*) from pg_class where relnamespace = 'pgq'::regnamespace and relname ~ '^event_\d';
