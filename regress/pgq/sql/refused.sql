--
-- What is refused in plain words, and what goes away without a trace.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\set VERBOSITY verbose
\pset null NULL
create function pg_temp.told(i_sql text) returns text
language plpgsql as $$
declare
    v_text text;
begin
    execute i_sql into v_text;
    return v_text;
exception
    when others then
        return sqlstate || ' ' || sqlerrm;
end;
$$;
select pgq.create_queue('given'), pgq.create_queue('q'), pgq.register_consumer('q', 'c');

-- ticks from elsewhere: their ids grow
update pgq.queue set queue_external_ticker = true where queue_name = 'given';
select pg_temp.told(format('select pgq.ticker(''given'', %s)', a))
from unnest('{"100, now(), 10", "50, now(), 10", "100, now(), 10", "101, now(), 10", "null, now(), 10", "102, null, 10", "102, now(), null"}'::text[]) a;
select tick_id from pgq.tick join pgq.queue on queue_id = tick_queue where queue_name = 'given' order by 1;

-- events that are put aside: the time is needed
select pgq.insert_event('q', 't', 'd') from generate_series(1, 2);
update pgq.queue set queue_ticker_max_lag = '0' where queue_name = 'q';
select pgq.ticker('q') > 0 as ticked;
select pgq.next_batch('q', 'c') as batch \gset
select f.f, pg_temp.told(replace(s.f, 'BATCH', :'batch'))
from unnest(array['pgq.event_retry(BATCH, 1, null::int)', 'pgq.event_retry(BATCH, 1, null::timestamptz)',
                  'pgq.event_retry(BATCH, array[1, 2], null::int)', 'pgq.event_retry(BATCH, array[1], null::timestamptz, ''r'')',
                  'pgq.batch_retry(BATCH, null)', 'pgq.batch_retry(null, 1) is null',
                  'pgq.event_retry_raw(''q'', ''c'', null, 9, now(), 0, ''t'', ''d'', null, null, null, null)',
                  'pgq.event_retry_raw(''q'', ''c'', now(), 9, null, 0, ''t'', ''d'', null, null, null, null)',
                  'count(*) from pgq.failed_event_list(''q'', ''c'', -1)',
                  'count(*) from pgq.failed_event_list(''q'', ''c'', 1, -1)',
                  'pgq.rebase_queue(null)', 'pgq.maint_rotate_tables_step1(null)', 'pgq.unregister_consumer(null, null)'])
     with ordinality f (f, n), lateral (select 'select ' || f.f) s (f) order by n;
select ev_id, ev_time = now() from pgq.retry_queue where ev_time <= now() order by 1;
delete from pgq.retry_queue;

-- an event that was put aside and has gone back comes again, though it is dead now
select pgq.event_retry(:batch, 1, 0);
select pgq.maint_retry_events();
select pgq.event_failed(:batch, 1, 'no'), pgq.finish_batch(:batch);
select pgq.ticker('q') > 0 as ticked;
select pgq.next_batch('q', 'c') as batch \gset
select ev_id, ev_retry from pgq.get_batch_events(:batch);
select ev_id, reason from pgq.dead_letter;

-- names that nobody uses any more
select pgq.register_consumer('q', 'x'), pgq.register_consumer('q', 'x.1'), pgq.register_consumer('q', 'a');
update pgq.subscription set sub_id = (select sub_id from pgq.subscription join pgq.consumer on co_id = sub_consumer where co_name = 'x'),
                            sub_last_tick = null
where sub_consumer = (select co_id from pgq.consumer where co_name = 'x.1');
select pgq.create_queue('r'), pgq.register_consumer('r', 'a');
select pgq.unregister_consumer('q', 'x');
select co_name from pgq.consumer order by 1;
select pgq.register_consumer('q', 'x'), pgq.register_consumer('q', 'a.1');
update pgq.subscription set sub_id = (select sub_id from pgq.subscription join pgq.consumer on co_id = sub_consumer
                                      join pgq.queue on queue_id = sub_queue where co_name = 'x' and queue_name = 'q'),
                            sub_last_tick = null
where sub_consumer = (select co_id from pgq.consumer where co_name = 'a.1');
select pgq.drop_queue('q', true);
select co_name from pgq.consumer order by 1;

-- a rotation that only retention holds up
select pgq.unregister_consumer('r', 'a');
update pgq.queue set queue_rotation_period = '0', queue_retention = '1 hour' where queue_name = 'r';
select queue_name, rotation_due_since <= now() as due, blocker_kind, blocker, detail from pgq.rotation_blockers;
update pgq.queue set queue_switch_time = now() - interval '61 minutes' where queue_name = 'r';
select pgq.force_tick('r') > 0 as forced, pgq.ticker('r') > 0 as ticked;
select queue_name, blocker_kind, blocker from pgq.rotation_blockers where blocker_kind <> 'transaction';

select pgq.drop_queue(queue_name, true) from pgq.queue order by queue_name;
select count(*) from pgq.consumer;
