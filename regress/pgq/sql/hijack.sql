--
-- Whoever may create in a schema that others have in their search_path gets nothing
-- run by them: neither operators nor functions nor types are taken from there, even
-- where that schema stands before pg_catalog.
--
set client_min_messages = error;
\set SHOW_CONTEXT never
create schema evil;
do $$
declare
    v_types text[] := '{text, name, integer, bigint, boolean, interval, timestamptz, numeric, float8, oid, xid, jsonb,
                        bytea, regclass, txid_snapshot, text[], bigint[], integer[], boolean[]}';
    v_body constant text := 'language plpgsql as $e$ begin raise exception ''hijacked: %''; end; $e$';
    v_left  text;
    v_right text;
    v_func  record;
begin
    -- operators for every pair of types, and for one
    foreach v_left in array v_types loop
        foreach v_right in array v_types loop
            execute format('create function evil.op(%s, %s) returns boolean %s', v_left, v_right,
                           replace(v_body, '%', 'operator'));
            for v_func in
                select unnest('{||,=,<>,<,>,<=,>=,+,-,*,/,%,&,#,>>,<<,^,~,~~,!~,->>}'::text[]) as op
            loop
                execute format('create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.op)',
                               v_func.op, v_left, v_right);
            end loop;
        end loop;
    end loop;
    foreach v_right in array '{integer, bigint, numeric, float8, interval}'::text[] loop
        execute format('create function evil.op(%s) returns boolean %s', v_right, replace(v_body, '%', 'prefix operator'));
        execute format('create operator evil.- (rightarg = %s, function = evil.op)', v_right);
    end loop;
    -- all functions, and with exact types those that the server has for any
    for v_func in
        select p.proname, oidvectortypes(p.proargtypes) as args
        from pg_catalog.pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace
          and not exists (
              select
              from pg_catalog.pg_type t
              where t.oid = any (p.proargtypes)
                and t.typtype = 'p')
        union
        select f.name, a.type::regtype::text
        from unnest('{count, min, max, sum, array_agg, unnest, cardinality, array_length, array_ndims, format,
                      concat, quote_literal, quote_nullable, pg_typeof, to_json, to_jsonb, row_to_json}'::text[]) f (name),
             unnest(v_types) a (type)
        union
        select f.name, a.type::regtype || ', ' || b.type::regtype
        from unnest('{format, concat, concat_ws, array_append, array_cat, array_to_string, array_length, array_lower,
                      array_upper, array_position, array_fill}'::text[]) f (name),
             unnest(v_types) a (type), unnest(v_types) b (type)
    loop
        execute format('create function evil.%I(%s) returns boolean %s', v_func.proname, v_func.args,
                       replace(v_body, '%', v_func.proname));
    end loop;
    -- types
    create function evil.type() returns boolean language plpgsql as $e$ begin raise exception 'hijacked: type'; end; $e$;
    foreach v_left in array '{text, name, int4, int8, bool, interval, timestamptz, numeric, float8, oid, xid, jsonb,
                              bytea, regclass, regrole, regproc, regprocedure, regnamespace, txid_snapshot}'::text[] loop
        execute format('create domain evil.%I as pg_catalog.%I check (evil.type())', v_left, v_left);
    end loop;
    create type evil.a_record as (batch_id bigint);
    create domain evil.record as evil.a_record check (evil.type());
end;
$$;
-- a new session: what PL/pgSQL has compiled before keeps its names
\c -
set client_min_messages = error;
\set SHOW_CONTEXT never
set search_path = evil, pg_catalog;
-- it does what it says
select 1 = 1;

select pgq.create_queue('hijack');
select pgq.set_queue_config('hijack', 'ticker_max_lag', '0');
select pgq.set_queue_config('hijack', 'ticker_idle_period', '0');
select pgq.tune_storage('hijack');
select pgq.grant_perms('hijack');
select pgq.register_consumer('hijack', 'c');
select pgq.register_consumer('hijack', 'gone');
select pgq.register_slots('hijack', 's', 2);
select pgq.insert_event('hijack', 't', 'd');
select pgq.insert_event('hijack', 't', 'd', '1', '2', '3', '4');
select pgq.insert_event('hijack', 't', '{"a": 1}'::pg_catalog.jsonb);
select pgq.insert_event('hijack', 't', '{"a": 2}'::pg_catalog.jsonb, '1', '2', '3', '4');
select pgq.insert_event_raw('hijack', null, null, null, null, 't', 'raw', null, null, null, null);
select pgq.insert_events('hijack', array['t'::pg_catalog.text], array['d1'::pg_catalog.text, 'd2']);
select pgq.insert_events('hijack', array['t'::pg_catalog.text], array['1'::pg_catalog.jsonb, '2']);
select pgq.insert_event_at('hijack', pg_catalog.now(), 't', 'at');
select pgq.current_event_table('hijack') is not null;
-- triggers; their expressions are the owner's SQL
create table public.hijack (id integer primary key, data pg_catalog.text, at pg_catalog.timestamptz);
create trigger json after insert or update or delete on public.hijack
    for each row execute function pgq.jsontriga('hijack', 'ignore=at', 'ev_extra4=pg_catalog.upper(data)');
create trigger url after insert or update or delete on public.hijack
    for each row execute function pgq.logutriga('hijack', 'backup', 'when=id operator(pg_catalog.>) 0');
create trigger sql after insert or update or delete on public.hijack
    for each row execute function pgq.sqltriga('hijack', 'pkey=id');
create trigger gone after truncate on public.hijack execute function pgq.jsontriga('hijack');
insert into public.hijack values (1, 'a b', null);
update public.hijack set data = 'c&d';
update public.hijack set at = '2000-01-01';
delete from public.hijack;
truncate public.hijack;
select pgq.force_tick('hijack');
select pgq.ticker('hijack');
select pgq.ticker();
select pgq.tick_channel('hijack') is not null;
select pgq.ticker_wake('hijack');
select pgq.set_queue_config('hijack', 'notify', 'true');
select pgq.insert_event('hijack', 't', 'noisy');
select pg_catalog.count(*) from pgq.ticker_wake('hijack');
select pgq.tick_channel('hijack') is not null;

select pgq.next_batch('hijack', 'c') as batch \gset
select cur_tick_id, prev_tick_id from pgq.next_batch_info('hijack', 'c');
select cur_tick_id, prev_tick_id from pgq.next_batch_custom('hijack', 'gone', null, 1, null);
select queue_name, consumer_name from pgq.get_batch_info(:batch);
select ev_id, ev_type, ev_data from pgq.get_batch_events(:batch);
begin;
select ev_id, ev_data from pgq.get_batch_cursor(:batch, 'cur', 2);
select ev_id, ev_data from pgq.get_batch_cursor(:batch, 'cur2', 9, 'ev_id operator(pg_catalog.=) 3');
move 1 from cur;
rollback;
select pg_catalog.count(*) from pgq.batch_event_tables(:batch);
select pg_catalog.length(pgq.batch_event_sql(:batch)) is not null;
select pgq.event_retry(:batch, 1, 0);
select pgq.event_retry(:batch, 2, pg_catalog.now());
select pgq.event_retry(:batch, array[3::bigint, 4], 0);
select pgq.event_retry(:batch, array[5::bigint], pg_catalog.now(), null);
select pgq.set_consumer_config('hijack', 'c', 'max_retries', '5');
select pgq.set_consumer_config('hijack', 'c', 'retry_delay', '1 second');
select pgq.batch_retry(:batch, 0) is not null;
select pgq._backoff('1 second', '1 hour', 3);
select pgq.event_failed(:batch, 6, 'bad');
select pgq.finish_batch(:batch);
select pgq.failed_event_count('hijack', 'c');
select ev_id from pgq.failed_event_list('hijack', 'c', 1, 0);
select ev_id, dead_time is not null from pgq.dead_letter;
select pgq.failed_event_retry('hijack', 'c', 6);
select pgq.failed_event_retry('hijack', 'c');
select pgq.failed_event_delete('hijack', 'c');
select pgq.failed_event_delete('hijack', 'c', 6);
select pgq.event_retry_raw('hijack', 'c', pg_catalog.now(), 100, pg_catalog.now(), 1, 't', 'r', null, null, null, null);
select pgq.maint_retry_events() is not null;

select batch_id is not null as got, slot from pgq.next_slot_batch('hijack', 's', 'w', '1 hour');
select batch_id from pgq.next_slot_batch('hijack', 's', 'w') \gset
select ev_id from pgq.get_batch_events(:batch_id);
select ev_id from pgq.get_batch_cursor(:batch_id, 'slots', 0);
select pgq.touch_batch(:batch_id);
select pgq.finish_batch(:batch_id);
select pgq.slot_of('key', 7);
select pgq.unregister_slots('hijack', 's');

select pgq.pause_consumer('hijack', 'c');
select pgq.resume_consumer('hijack', 'c');
select pgq.seek_consumer('hijack', 'c', pg_catalog.now()) is not null;
select pgq.register_consumer_at('hijack', 'c', 1);
select queue_name, ticker_lag is null from pgq.get_queue_info();
select queue_name, ev_new is not null from pgq.get_queue_info('hijack');
select consumer_name from pgq.get_consumer_info();
select consumer_name from pgq.get_consumer_info('hijack');
select consumer_name from pgq.get_consumer_info('hijack', 'c');

update pgq.queue set queue_switch_time = '2000-01-01', queue_consumer_expiry = '1 second', queue_retention = '1 second';
update pgq.subscription set sub_active = '2000-01-01';
select func_name, func_arg from pgq.maint_operations();
select queue_name, blocker_kind from pgq.rotation_blockers;
select pgq.maint_expire_consumers('hijack');
select pgq.ticker('hijack') is not null;
select pgq.maint_rotate_tables_step2();
update pgq.queue set queue_retention = null;
select pgq.maint_rotate_tables_step1('hijack');
select queue_cur_table from pgq.queue;
select pgq.maint_rotate_tables_step2();
select pgq.maint_tables_to_vacuum();
select pgq.rebase_queue('hijack');
select pgq._full_txid('7'::pg_catalog.xid, 1000000000);
select pgq._next_txid() is not null;
select pgq.upgrade_schema();
select queue_tick_seq from pgq.queue \gset
select pgq.seq_getval(:'queue_tick_seq') is not null;
select pgq.seq_setval(:'queue_tick_seq', 100);
select pgq.quote_fqname('a.b');
select pgq.quote_fqname('B');
select pgq.version() is not null;

select pgq.set_queue_config('hijack', 'external_ticker', 'true');
select pgq.ticker('hijack', 200, pg_catalog.now(), 200);
select pgq.register_consumer('hijack', 'last');
select pgq.unregister_consumer('hijack', 'last');
select pgq.drop_queue('hijack', true);
select pgq.create_queue('hijack');
select pgq.drop_queue('hijack');
drop table public.hijack;
reset search_path;
drop schema evil cascade;
