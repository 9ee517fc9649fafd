create function pgq.upgrade_schema() returns integer
language plpgsql volatile parallel unsafe
as $$
-- Adds what an older schema lacks: columns of the queue, and the roles
-- pgq_reader, pgq_writer and pgq_admin (member of both).
--
-- Returns: number of things added, 0 when nothing was missing.
-- Locks taken: pgq.queue in access exclusive mode if a column is missing.
declare
    v_added integer := 0;
    v_role  text;
    v_col   text;
    v_type  text;
begin
    for v_col, v_type in
        values ('queue_extra_maint', 'text[]'),
               ('queue_per_tx_limit', 'integer'),
               ('queue_disable_insert', 'boolean not null default false'),
               ('queue_ticker_paused', 'boolean not null default false')
    loop
        perform 1
        from pg_catalog.pg_attribute a
        where a.attrelid = 'pgq.queue'::regclass
          and a.attname = v_col
          and not a.attisdropped;
        if not found then
            execute pg_catalog.format('alter table pgq.queue add column %I %s', v_col, v_type);
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
