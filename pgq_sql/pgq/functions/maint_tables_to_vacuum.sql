create or replace function pgq.maint_tables_to_vacuum() returns setof text
language plpgsql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Names the small tables that change often and want a vacuum from us because
-- autovacuum is off. In the order of the list.
begin
    if pg_catalog.current_setting('autovacuum') = 'on' then
        return;
    end if;
    return query
        select t.name
        from unnest(array['pgq.subscription', 'pgq.consumer', 'pgq.queue', 'pgq.tick', 'pgq.retry_queue',
                          'pgq_ext.completed_tick', 'pgq_ext.completed_batch', 'pgq_ext.completed_event',
                          'pgq_ext.partial_batch', 'pgq_node.local_state', 'londiste.seq_info',
                          'londiste.completed', 'txid.epoch']) with ordinality t (name, nr)
        where pg_catalog.to_regclass(t.name) is not null
        order by t.nr;
end;
$$;
