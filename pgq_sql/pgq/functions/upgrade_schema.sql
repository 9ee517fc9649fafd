create or replace function pgq.upgrade_schema() returns integer
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Adds what an older schema lacks: columns of its tables, and the roles
-- pgq_reader, pgq_writer and pgq_admin (member of both).
--
-- Returns: number of things added, 0 when nothing was missing.
-- Locks taken: a table in access exclusive mode if it lacks a column.
declare
    v_added integer := 0;
    v_role  text;
    v_table text;
    v_col   text;
    v_type  text;
begin
    for v_table, v_col, v_type in
        values ('pgq.queue', 'queue_extra_maint', 'text[]'),
               ('pgq.queue', 'queue_per_tx_limit', 'integer'),
               ('pgq.queue', 'queue_disable_insert', 'boolean not null default false'),
               ('pgq.queue', 'queue_ticker_paused', 'boolean not null default false'),
               ('pgq.queue', 'queue_notify', 'boolean not null default false'),
               ('pgq.queue', 'queue_ticker_min_lag', 'interval not null default ''25 milliseconds'''),
               ('pgq.queue', 'queue_retention', 'interval'),
               ('pgq.queue', 'queue_consumer_expiry', 'interval'),
               ('pgq.subscription', 'sub_paused', 'boolean not null default false'),
               ('pgq.subscription', 'sub_max_retries', 'integer'),
               ('pgq.subscription', 'sub_retry_delay', 'interval'),
               ('pgq.subscription', 'sub_retry_max_delay', 'interval not null default ''1 hour'''),
               ('pgq.subscription', 'sub_slot', 'integer'),
               ('pgq.subscription', 'sub_slots', 'integer'),
               ('pgq.subscription', 'sub_slot_key', 'text'),
               ('pgq.subscription', 'sub_worker', 'text'),
               ('pgq.retry_queue', 'ev_dead_time', 'timestamptz'),
               ('pgq.retry_queue', 'ev_reason', 'text')
    loop
        perform 1
        from pg_catalog.pg_attribute a
        where a.attrelid = v_table::regclass
          and a.attname = v_col
          and not a.attisdropped;
        if not found then
            execute pg_catalog.format('alter table %s add column %I %s', v_table, v_col, v_type);
            v_added := v_added + 1;
        end if;
    end loop;

    -- Roles belong to the whole cluster: another database may be making the
    -- same ones at this moment, which is as good.
    foreach v_role in array array['pgq_reader', 'pgq_writer', 'pgq_admin'] loop
        perform 1 from pg_catalog.pg_roles r where r.rolname = v_role;
        if not found then
            begin
                execute pg_catalog.format('create role %I nologin', v_role);
                v_added := v_added + 1;
            exception
                when duplicate_object or unique_violation then
                    null;
            end;
        end if;
    end loop;
    foreach v_role in array array['pgq_reader', 'pgq_writer'] loop
        perform 1
        from pg_catalog.pg_auth_members m
        where m.roleid = v_role::regrole
          and m.member = 'pgq_admin'::regrole;
        if not found then
            begin
                execute pg_catalog.format('grant %I to pgq_admin', v_role);
                v_added := v_added + 1;
            exception
                when unique_violation then
                    null;
            end;
        end if;
    end loop;
    return v_added;
end;
$$;
