--
-- Events that are delivered when their time has come.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
set timezone = 'UTC';
select pgq.create_queue('at'), pgq.create_queue('at_2');
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
select pgq.register_consumer('at', 'a');
create function pg_temp.read(i_consumer text) returns table (id bigint, "time" timestamptz, retry int, type text, data text, extras text)
language plpgsql as $$
declare
    v_batch bigint;
begin
    perform pgq.ticker('at');
    loop
        v_batch := pgq.next_batch('at', i_consumer);
        exit when v_batch is null;
        return query
            select e.ev_id, e.ev_time, e.ev_retry, e.ev_type, e.ev_data,
                   concat_ws(',', e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4)
            from pgq.get_batch_events(v_batch) e;
        perform pgq.finish_batch(v_batch);
    end loop;
end;
$$;

select pgq.insert_event_at('at', '2001-01-01', 't', 'long due');
select pgq.insert_event_at('at', now() + interval '1 hour', 't', 'in an hour', 'e1', 'e2', 'e3', 'e4');
select pgq.insert_event('at', 't', 'now');
-- ids of another queue are other ids
select pgq.insert_event_at('at_2', now() + interval '1 hour', 't', 'in an hour');
select pgq.insert_event_at('at_2', now() + interval '1 hour', 't', 'in an hour');
-- not before maintenance has moved it
select id, retry, data from pg_temp.read('a');
select pgq.maint_retry_events();
select * from pg_temp.read('a');
select pgq.maint_retry_events();

-- all consumers get it, also those registered since; unregistering takes none away
select pgq.register_consumer('at', 'b'), pgq.register_consumer('at', 'c');
update pgq.retry_queue set ev_retry_after = '2002-02-02' where ev_id = 2;
select pgq.unregister_consumer('at', 'c');
select pgq.maint_retry_events();
select * from pg_temp.read('a');
select * from pg_temp.read('b');
select count(*) from pgq.retry_queue;

-- taken back with its transaction
begin;
select pgq.insert_event_at('at', '2001-01-01', 't', 'never');
rollback;
select pgq.maint_retry_events();

-- put aside by one consumer, like any event
select pgq.insert_event_at('at', '2001-01-01', 't', 'twice for a');
select pgq.maint_retry_events();
select pgq.ticker('at') > 0 as ticked;
select pgq.next_batch('at', 'a') as batch \gset
select pgq.batch_retry(:batch, 0);
select pgq.finish_batch(:batch);
select pgq.maint_retry_events();
select * from pg_temp.read('a');
select * from pg_temp.read('b');

-- refused
select pgq.insert_event_at(null, now(), 't', 'd');
\echo :SQLSTATE
select pgq.insert_event_at('at', null, 't', 'd');
\echo :SQLSTATE
select pgq.insert_event_at('at', 'infinity', 't', 'd');
\echo :SQLSTATE
select pgq.insert_event_at('nowhere', now(), 't', 'd');
\echo :SQLSTATE
update pgq.queue set queue_disable_insert = true;
select pgq.insert_event_at('at', '2003-03-03', 't', 'd');
\echo :SQLSTATE
set session_replication_role = replica;
select pgq.insert_event_at('at', '2003-03-03', 't', 'replicated') > 0 as inserted;
reset session_replication_role;
select pgq.maint_retry_events();
update pgq.queue set queue_disable_insert = false;
select pgq.maint_retry_events();
select data from pg_temp.read('a');

-- writers may
create role regress_pgq_reader in role pgq_reader;
create role regress_pgq_writer in role pgq_writer;
set role regress_pgq_writer;
select pgq.insert_event_at('at', '2004-04-04', 't', 'd') > 0 as inserted;
set role regress_pgq_reader;
select pgq.insert_event_at('at', '2004-04-04', 't', 'd');
reset role;
drop role regress_pgq_reader, regress_pgq_writer;

-- what is not due goes with the queue
select pgq.drop_queue('at', true), pgq.drop_queue('at_2');
select count(*) from pgq.retry_queue;
