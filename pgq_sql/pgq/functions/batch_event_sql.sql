create or replace function pgq._batch_sql(i_batch_id bigint, i_where text) returns text
language plpgsql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Builds the query that reads a batch, ordered by ev_id.
--
-- Parameters: i_batch_id; i_where - a further condition over the ev_ columns,
--     null for none.
-- Returns: SQL text; its columns are ev_id, ev_time, ev_txid, ev_retry,
--     ev_type, ev_data, ev_extra1 .. ev_extra4.
-- Raises: PGQ03 batch not found.
-- Calls: batch_event_tables, slot_of
declare
    v_sub_id integer;
    v_slot   text;
    v_s1     txid_snapshot;
    v_s2     txid_snapshot;
    v_low    bigint;
    v_txid   bigint;
    v_late   bigint[] := '{}';
    v_cols   text := 'ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4';
    v_table  text;
    v_parts  text[] := '{}';
begin
    select s.sub_id, p.tick_snapshot, n.tick_snapshot,
           case when s.sub_slots is null then ''
                else pg_catalog.format(' and pgq.slot_of(%I, %s) operator(pg_catalog.=) %s', s.sub_slot_key, s.sub_slots, s.sub_slot) end
    into v_sub_id, v_s1, v_s2, v_slot
    from pgq.subscription s
    join pgq.tick p on p.tick_queue = s.sub_queue and p.tick_id = s.sub_last_tick
    join pgq.tick n on n.tick_queue = s.sub_queue and n.tick_id = s.sub_next_tick
    where s.sub_batch = i_batch_id;
    if not found then
        raise exception 'batch not found'
            using errcode = 'PGQ03', detail = pg_catalog.format('Batch %s is not open.', coalesce(i_batch_id::text, 'NULL'));
    end if;

    -- Wanted is what the second snapshot sees and the first does not. Most of
    -- it lies between their ends; what was running at the first one and is done
    -- at the second one lies below. Take near ones into the range, look far
    -- ones up singly: one old transaction must not widen the range over all
    -- that came after it.
    v_low := pg_catalog.txid_snapshot_xmax(v_s1);
    for v_txid in
        select x.txid
        from pg_catalog.txid_snapshot_xip(v_s1) x (txid)
        except
        select y.txid
        from pg_catalog.txid_snapshot_xip(v_s2) y (txid)
        order by 1 desc
    loop
        if v_txid >= v_low - 100 then
            v_low := v_txid;
        else
            v_late := v_late || v_txid;
        end if;
    end loop;

    for v_table in select t.name from pgq.batch_event_tables(i_batch_id) t (name) loop
        v_table := pgq.quote_fqname(v_table);
        v_parts := v_parts || pg_catalog.format(
            'select %s from %s where ev_txid operator(pg_catalog.>=) %s and ev_txid operator(pg_catalog.<) %s'
            ' and pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
            ' and not pg_catalog.txid_visible_in_snapshot(ev_txid, %L::pg_catalog.txid_snapshot)'
            ' and (ev_owner is null or ev_owner operator(pg_catalog.=) %s)%s',
            v_cols, v_table, v_low, pg_catalog.txid_snapshot_xmax(v_s2), v_s2, v_s1, v_sub_id, v_slot);
        if v_late <> '{}' then
            v_parts := v_parts || pg_catalog.format(
                'select %s from %s where ev_txid operator(pg_catalog.=) any (%L::bigint[]) and (ev_owner is null or ev_owner operator(pg_catalog.=) %s)%s',
                v_cols, v_table, v_late, v_sub_id, v_slot);
        end if;
    end loop;

    return pg_catalog.format('select %s from (%s) ev%s order by ev_id', v_cols,
                             pg_catalog.array_to_string(v_parts, ' union all '),
                             ' where (' || i_where || E'\n)');  -- it may end with a comment
end;
$$;

create or replace function pgq.batch_event_sql(x_batch_id bigint) returns text
language plpgsql volatile parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Shows the query that reads a batch.
--
-- Raises: PGQ03 batch not found.
-- Calls: _batch_sql
begin
    return pgq._batch_sql(x_batch_id, null);
end;
$$;
