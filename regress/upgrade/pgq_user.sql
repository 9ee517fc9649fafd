-- What a user of PgQ has: queues in use, tables with triggers, grants of his own.
set client_min_messages = warning;
select pgq.create_queue('live');
select pgq.create_queue('copied');
update pgq.queue set queue_external_ticker = true, queue_disable_insert = true where queue_name = 'copied';
update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0', queue_rotation_period = '0'
where queue_name = 'live';
select pgq.ticker('copied', 17, '2026-01-01', 1000);
select pgq.register_consumer('copied', 'reader');

create table account (id int4 primary key, name text, note text);
create trigger to_queue_url after insert or update or delete on account
    for each row execute function pgq.logutriga('live', 'backup');
create trigger to_queue_json after insert or update on account
    for each row execute function pgq.jsontriga('live', 'ignore=note');
create trigger to_queue_sql before delete on account
    for each row execute function pgq.sqltriga('live');

grant execute on function pgq.insert_event(text, text, text), pgq.ticker(text) to pgq_upgrade_app;
grant execute on function pgq.maint_operations() to public;
grant select on pgq.retry_queue to pgq_upgrade_app;
grant update on pgq.queue to pgq_upgrade_app with grant option;
grant usage on schema pgq to pgq_upgrade_app;
grant pgq_writer to pgq_upgrade_app;
create view app_queue as select queue_name, queue_ticker_paused from pgq.queue;
create view app_lag as select queue_name, ticker_lag from pgq.get_queue_info();
create function drain(i_consumer text) returns text language plpgsql as $$
declare
    v_batch bigint;
    v_all text[] := '{}';
begin
    loop
        v_batch := pgq.next_batch('live', i_consumer);
        exit when v_batch is null;
        v_all := v_all || array(select concat_ws(' ', e.ev_id, e.ev_retry, e.ev_type, e.ev_data, e.ev_extra1, e.ev_extra2)
                                from pgq.get_batch_events(v_batch) e);
        perform pgq.finish_batch(v_batch);
    end loop;
    return array_to_string(v_all, E'\n', '');
end;
$$;

-- one consumer has a batch open, one an event to see again, one nothing yet
select pgq.register_consumer('live', c) from unnest('{reader,again,slow}'::text[]) c;
select pgq.insert_event('live', 'note', 'first'), pgq.insert_event('live', 'note', 'second', 'x', null, null, null);
select pgq.ticker('live');
select pgq.next_batch('live', 'reader') as batch \gset
select count(*) from pgq.get_batch_events(:batch);
select pgq.event_retry(:batch, 1, 0);
select pgq.next_batch('live', 'again') as batch \gset
select pgq.event_retry(:batch, 2, 0), pgq.finish_batch(:batch);
-- changes that no tick has seen
insert into account values (1, 'one', 'n'), (2, 'zwei', null);
update account set name = 'two' where id = 2;
select pgq.maint_rotate_tables_step1('live');
select pgq.maint_rotate_tables_step2();
delete from account where id = 1;
