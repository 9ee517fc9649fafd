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
language plpgsql volatile parallel unsafe
as $$
-- Writes one event; all columns are the caller's. A null id and a null time are
-- filled in.
--
-- Returns: event id.
-- Raises: 22004 null queue; PGQ01 queue not found; PGQ06 inserts are disabled;
--     PGQ07 too many events in this transaction; 25006; 40001.
-- Calls: _queue_to_write, _count_events
-- Tables written: the current event table
declare
    v_to  pg_catalog.record;
    v_new bigint;
begin
    if $1 is null then
        raise exception 'Queue name must not be NULL' using errcode = '22004';
    end if;
    v_to := pgq._queue_to_write($1, 'pgq.insert_event', 'No such queue', 'Insert into queue disallowed');
    -- What one consumer gets again was counted when it came.
    if $4 is null then
        perform pgq._count_events(v_to.queue, 1);
    end if;
    -- The ticker sees by the sequence that something came, so it moves always.
    v_new := pg_catalog.nextval(v_to.event_seq);
    v_new := coalesce($2, v_new);
    execute pg_catalog.format(
        'insert into %s (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)',
        v_to.table_name)
        using v_new, coalesce($3, pg_catalog.now()), $4, $5, $6, $7, $8, $9, $10, $11;
    return v_new;
end;
$$;
