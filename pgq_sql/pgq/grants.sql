-- grants.sql: the three roles and what each may do. The grants of pgq.event_template
-- are copied to the event tables of each queue.

select pgq.upgrade_schema();

grant usage on schema pgq to public;

-- Tables
grant select on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription to public;
grant select on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription to pgq_reader;
grant select, insert, update, delete on pgq.consumer, pgq.queue, pgq.tick, pgq.subscription to pgq_admin;
grant select on pgq.event_template to pgq_reader;
grant select, insert, truncate on pgq.event_template to pgq_admin;
grant select, insert, update, delete on pgq.retry_queue to pgq_admin;

-- Everybody: seq_getval, get_queue_info, get_consumer_info, quote_fqname and
-- version keep the default.

-- The others belong to one role each.
do $$
declare
    v_grant record;
begin
    for v_grant in
        select g.role, p.oid::regprocedure as func
        from (values
            ('pgq_reader', '{_batch_sql, batch_event_sql, batch_event_tables, find_tick_helper,
                register_consumer, register_consumer_at, unregister_consumer,
                next_batch, next_batch_info, next_batch_custom,
                get_batch_events, get_batch_info, get_batch_cursor,
                event_retry, batch_retry, force_tick, finish_batch}'::text[]),
            ('pgq_writer', '{insert_event, current_event_table}'),
            ('pgq_admin', '{_next_txid, _lock_ticks, _tick, _grant_perms_from, ticker, maint_operations,
                maint_retry_events, maint_rotate_tables_step1, maint_rotate_tables_step2,
                maint_tables_to_vacuum, upgrade_schema, grant_perms, tune_storage, seq_setval,
                create_queue, drop_queue, set_queue_config, insert_event_raw, event_retry_raw}')
        ) g (role, funcs)
        cross join unnest(g.funcs) f (name)
        left join pg_catalog.pg_proc p
            on p.proname = f.name and p.pronamespace = 'pgq'::regnamespace
    loop
        execute pg_catalog.format('revoke execute on function %s from public', v_grant.func);
        execute pg_catalog.format('grant execute on function %s to %I', v_grant.func, v_grant.role);
    end loop;
end;
$$;
