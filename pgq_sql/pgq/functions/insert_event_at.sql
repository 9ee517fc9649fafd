create or replace function pgq.insert_event_at(
    queue_name text,
    ev_at timestamptz,
    ev_type text,
    ev_data text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text)
returns int8
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
#variable_conflict use_column
-- Writes an event that all consumers get from a given time on, those too that are
-- registered until then. It waits in the retry queue; maint_retry_events moves it,
-- and its ev_time is ev_at.
--
-- Returns: event id.
-- Raises: 22004 null queue or time; 22023 the time is infinite; PGQ01 queue not
--     found; PGQ06 inserts are disabled.
-- Tables written: pgq.retry_queue
declare
    v_queue pgq.queue;
    v_id bigint;
begin
    if $1 is null then
        raise exception 'Queue name must not be NULL' using errcode = '22004';
    end if;
    if $2 is null then
        raise exception 'Invalid NULL value' using errcode = '22004', detail = 'The time of the event is NULL.';
    end if;
    if not isfinite($2) then
        raise exception 'time of an event must be finite' using errcode = '22023';
    end if;
    select q.* into v_queue from pgq.queue q where q.queue_name = $1;
    if not found then
        raise exception 'No such queue'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', $1),
                  hint = 'Create it with pgq.create_queue().';
    end if;
    if v_queue.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'Insert into queue disallowed'
            using errcode = 'PGQ06', detail = format('Queue "%s" has queue_disable_insert set.', $1);
    end if;
    v_id := nextval(pgq.quote_fqname(v_queue.queue_event_seq)::regclass);
    -- Its owner is the queue: ids are not unique over queues.
    insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_owner,
                                 ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values ($2, v_queue.queue_id, v_id, now(), -v_queue.queue_id, $3, $4, $5, $6, $7, $8);
    return v_id;
end;
$$;

-- The short form.
create or replace function pgq.insert_event_at(
    queue_name text,
    ev_at timestamptz,
    ev_type text,
    ev_data text)
returns int8
language sql volatile parallel unsafe
as $$
    select pgq.insert_event_at($1, $2, $3, $4, null::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.text);
$$;
