create or replace function pgq._count_arrays(
    in i_type text[],
    in i_data text[],
    in i_extra1 text[],
    in i_extra2 text[],
    in i_extra3 text[],
    in i_extra4 text[],
    out length integer,
    out types text[])
returns record
language plpgsql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Checks that arrays of events fit together.
--
-- Returns: their length; the types, as many.
-- Raises: 22004 all arrays are null; 2202E they do not fit together.
declare
    v_sizes integer[];
begin
    if array_ndims(i_type) > 1 or array_ndims(i_data) > 1 or array_ndims(i_extra1) > 1
       or array_ndims(i_extra2) > 1 or array_ndims(i_extra3) > 1 or array_ndims(i_extra4) > 1 then
        raise exception 'arrays of events must have one dimension' using errcode = '2202E';
    end if;
    v_sizes := array[cardinality(i_type), cardinality(i_data), cardinality(i_extra1), cardinality(i_extra2),
                     cardinality(i_extra3), cardinality(i_extra4)];
    -- One type may be for all.
    length := coalesce(v_sizes[2], v_sizes[3], v_sizes[4], v_sizes[5], v_sizes[6]);
    if length is null or v_sizes[1] <> 1 then
        length := coalesce(v_sizes[1], length);
    end if;
    if length is null then
        raise exception 'events to insert must not be NULL'
            using errcode = '22004', detail = 'All arrays are NULL.';
    end if;
    for i in 1 .. 6 loop
        if v_sizes[i] <> length and (i > 1 or v_sizes[i] <> 1) then
            raise exception 'arrays of events differ in length'
                using errcode = '2202E',
                      detail = format('Array number %s has %s elements, others have %s.', i, v_sizes[i], length),
                      hint = 'Only the array of types may have one element, for all events.';
        end if;
    end loop;
    types := i_type;
    if v_sizes[1] = 1 then
        types := array_fill(i_type[array_lower(i_type, 1)], array[length]);
    end if;
end;
$$;

create or replace function pgq.insert_events(
    queue_name text,
    ev_type text[],
    ev_data text[],
    ev_extra1 text[] default null,
    ev_extra2 text[] default null,
    ev_extra3 text[] default null,
    ev_extra4 text[] default null)
returns bigint[]
language plpgsql volatile parallel unsafe security definer
as $$
-- Writes an event for each element of the arrays, in their order and with ids in
-- that order. Nothing here and in what it calls is looked up by search_path.
--
-- Parameters: queue_name; ev_type, ev_data, ev_extra1 .. ev_extra4 - arrays of the
--     same length, null for nulls. ev_type may have one element, for all.
-- Returns: the ids.
-- Raises: as insert_event_raw; 22004 all arrays are null; 2202E they do not fit
--     together.
-- Calls: _count_arrays, _queue_to_write, _count_events
-- Tables written: the current event table
declare
    v_events pg_catalog.record := pgq._count_arrays($2, $3, $4, $5, $6, $7);
    v_to     pg_catalog.record;
    v_ids    bigint[];
begin
    if $1 is null then
        raise exception 'Queue name must not be NULL' using errcode = '22004';
    end if;
    v_to := pgq._queue_to_write($1, 'pgq.insert_event', 'No such queue', 'Insert into queue disallowed');
    perform pgq._count_events(v_to.queue, v_events.length);
    select pg_catalog.array_agg(pg_catalog.nextval(v_to.event_seq) order by e.i) into v_ids
    from pg_catalog.generate_series(1, v_events.length) e (i);
    execute pg_catalog.format(
        'insert into %s (ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select e.id, pg_catalog.now(), e.type, e.data, e.extra1, e.extra2, e.extra3, e.extra4'
        ' from unnest($1, $2, $3, $4, $5, $6, $7) with ordinality'
        '     e (id, type, data, extra1, extra2, extra3, extra4, n)'
        ' order by e.n',
        v_to.table_name)
        using v_ids, v_events.types, $3, $4, $5, $6, $7;
    return coalesce(v_ids, '{}');
end;
$$;
