-- Writes one event; see pgq_sql/pgq/lowlevel/insert_event.c.
create or replace function pgq.insert_event_raw(
    queue_name text,
    ev_id bigint,
    ev_time timestamptz,
    ev_owner integer,
    ev_retry integer,
    ev_type text,
    ev_data text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text)
returns int8
language c volatile parallel unsafe
as '$libdir/pgq_lowlevel', 'pgq_insert_event_raw';
