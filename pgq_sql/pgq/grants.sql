-- grants.sql: the three roles and what each may do. The grants of pgq.event_template
-- are copied to the event tables of each queue.
--
-- An update runs this too. What the extension has granted once is left as it is then:
-- else a dump would take the grants that users have made for the extension's own, and
-- leave them out.

select pgq.upgrade_schema();

-- Schema and tables
do $$
declare
    v_grant record;
begin
    if not exists (
        select from pg_catalog.pg_init_privs i
        where i.classoid = 'pg_namespace'::regclass
          and i.objoid = 'pgq'::regnamespace
    ) then
        grant usage on schema pgq to public;
    end if;
    for v_grant in
        select g.role, g.privileges, c.oid::regclass as name
        from (values
            ('public', 'select', '{consumer, queue, tick, subscription, rotation_blockers}'::text[]),
            ('pgq_reader', 'select', '{consumer, queue, tick, subscription, event_template, dead_letter}'),
            ('pgq_admin', 'select, insert, update, delete', '{consumer, queue, tick, subscription, retry_queue}'),
            ('pgq_admin', 'select, insert, truncate', '{event_template}')
        ) g (role, privileges, tables)
        join pg_catalog.pg_class c
            on c.relname = any (g.tables) and c.relnamespace = 'pgq'::regnamespace
        where not exists (
            select from pg_catalog.pg_init_privs i
            where i.classoid = 'pg_class'::regclass
              and i.objoid = c.oid)
        order by g.role desc, name
    loop
        execute pg_catalog.format('grant %s on %s to %s', v_grant.privileges, v_grant.name, v_grant.role);
    end loop;
end;
$$;

-- Everybody: seq_getval, get_queue_info, get_consumer_info, quote_fqname,
-- slot_of, tick_channel, version, _age and what rotation_blockers calls keep the default.

-- The others belong to one role each.
do $$
declare
    v_grant record;
begin
    for v_grant in
        select g.role, p.oid::regprocedure as func
        from (values
            ('pgq_reader', '{_batch_sql, batch_event_sql, batch_event_tables, find_tick_helper, _subscriptions, _tick_at,
                seek_consumer, pause_consumer, resume_consumer, set_consumer_config,
                register_consumer, register_consumer_at, unregister_consumer,
                next_batch, next_batch_info, next_batch_custom,
                get_batch_events, get_batch_info, get_batch_cursor,
                event_retry, batch_retry, force_tick, finish_batch, event_failed,
                failed_event_list, failed_event_count, failed_event_retry, failed_event_delete,
                register_slots, unregister_slots, next_slot_batch, touch_batch}'::text[]),
            ('pgq_writer', '{insert_event, insert_event_at, insert_events, current_event_table, logutriga, jsontriga, sqltriga}'),
            ('pgq_admin', '{_check_txids, _advance_seq, _full_txid, _is_foreign, rebase_queue, maint_expire_consumers,
                _next_txid, _lock_ticks, _notify_tick, _tick, _grant_perms_from, ticker, ticker_wake,
                maint_operations, maint_retry_events, maint_rotate_tables_step1, maint_rotate_tables_step2,
                maint_tables_to_vacuum, upgrade_schema, grant_perms, tune_storage, seq_setval,
                create_queue, drop_queue, set_queue_config, insert_event_raw, event_retry_raw, _backoff,
                _retry_config, _put_aside, _sub_id, _slots, _forget_consumers}')
        ) g (role, funcs)
        cross join unnest(g.funcs) f (name)
        left join pg_catalog.pg_proc p
            on p.proname = f.name and p.pronamespace = 'pgq'::regnamespace
        where not exists (
            select from pg_catalog.pg_init_privs i
            where i.classoid = 'pg_proc'::regclass
              and i.objoid = p.oid)
    loop
        execute pg_catalog.format('revoke execute on function %s from public', v_grant.func);
        execute pg_catalog.format('grant execute on function %s to %I', v_grant.func, v_grant.role);
    end loop;
end;
$$;
