-- Writes an event for each element of the arrays, in their order and with ids in
-- that order, as if insert_event were called for each, only faster; see
-- pgq_sql/pgq/lowlevel/insert_event.c.
--
-- Parameters: queue_name; ev_type, ev_data, ev_extra1 .. ev_extra4 - arrays of the
--     same length, null for nulls. ev_type may have one element, for all.
-- Returns: the ids.
create or replace function pgq.insert_events(
    queue_name text,
    ev_type text[],
    ev_data text[],
    ev_extra1 text[] default null,
    ev_extra2 text[] default null,
    ev_extra3 text[] default null,
    ev_extra4 text[] default null)
returns bigint[]
language c volatile parallel unsafe security definer
as '$libdir/pgq_lowlevel', 'pgq_insert_events';

-- The same with JSON. The queue's name is of another type so that parameters and
-- literals without a type, which fit both, mean the one above.
create or replace function pgq.insert_events(
    queue_name varchar,
    ev_type text[],
    ev_data jsonb[],
    ev_extra1 text[] default null,
    ev_extra2 text[] default null,
    ev_extra3 text[] default null,
    ev_extra4 text[] default null)
returns bigint[]
language sql volatile parallel unsafe
as $$
    select pgq.insert_events($1::pg_catalog.text, $2, $3::pg_catalog.text[], $4, $5, $6, $7);
$$;
