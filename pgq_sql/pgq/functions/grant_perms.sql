create or replace function pgq._grant_perms_from(
    src_schema text,
    src_table text,
    dst_schema text,
    dst_table text)
returns integer
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Copies the grants of one table to another; the owner's own ones become
-- grantable.
--
-- Parameters: schema and name of the source and of the destination.
-- Returns: 1; null if a parameter is null.
declare
    v_dst text := pg_catalog.format('%I.%I', dst_schema, dst_table);
    v_grant record;
begin
    for v_grant in
        select case a.grantee when 0 then 'public'
                              else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) end as grantee,
               a.privilege_type,
               a.is_grantable or a.grantee = c.relowner as grantable
        from pg_catalog.pg_class c,
             pg_catalog.aclexplode(c.relacl) with ordinality a
        where c.oid = pg_catalog.format('%I.%I', src_schema, src_table)::regclass
        order by a.ordinality
    loop
        execute pg_catalog.format('grant %s on %s to %s%s', v_grant.privilege_type, v_dst, v_grant.grantee,
                                  case when v_grant.grantable then ' with grant option' else '' end);
    end loop;
    return 1;
end;
$$;

create or replace function pgq.grant_perms(x_queue_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Gives a queue's tables the grants of pgq.event_template, and its sequences
-- their own: anybody may read them, pgq_admin may draw event ids.
--
-- Returns: 1.
-- Raises: PGQ01 queue not found.
-- Calls: _grant_perms_from
declare
    v_queue pgq.queue;
    v_base text;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = x_queue_name;
    if not found then
        raise exception 'Queue not found'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', x_queue_name),
                  hint = 'Create it with pgq.create_queue().';
    end if;
    execute format('grant select on %s, %s to public', pgq.quote_fqname(v_queue.queue_event_seq),
                   pgq.quote_fqname(v_queue.queue_tick_seq));
    execute format('grant usage on %s to pgq_admin', pgq.quote_fqname(v_queue.queue_event_seq));

    v_base := substr(v_queue.queue_data_pfx, strpos(v_queue.queue_data_pfx, '.') + 1);
    perform pgq._grant_perms_from('pgq', 'event_template', 'pgq', v_base);
    for i in 0 .. v_queue.queue_ntables - 1 loop
        perform pgq._grant_perms_from('pgq', 'event_template', 'pgq', v_base || '_' || i);
    end loop;
    return 1;
end;
$$;
