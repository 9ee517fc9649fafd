create or replace function pgq.event_retry(
    x_batch_id bigint,
    x_event_id bigint,
    x_retry_time timestamptz)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts an event of an open batch aside: its consumer gets it again later.
--
-- Parameters: x_batch_id; x_event_id; x_retry_time - not before this.
-- Returns: 1 put aside, 0 was so already.
-- Raises: PGQ03 batch not found; PGQ04 event not in the batch.
-- Calls: _batch_sql
-- Tables written: pgq.retry_queue
declare
    v_sub pgq.subscription;
    v_event record;
begin
    select s.* into v_sub from pgq.subscription s where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'event not found'
            using errcode = 'PGQ03', detail = format('Batch %s is not open.', coalesce(x_batch_id::text, 'NULL'));
    end if;
    execute pgq._batch_sql(x_batch_id, format('ev_id = %L::bigint', x_event_id)) into v_event;
    if v_event.ev_id is null then
        raise exception 'event not found'
            using errcode = 'PGQ04', detail = format('Batch %s has no event %s.', x_batch_id, x_event_id);
    end if;

    insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_txid, ev_owner, ev_retry,
                                 ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (x_retry_time, v_sub.sub_queue, v_event.ev_id, v_event.ev_time, null, v_sub.sub_id,
            coalesce(v_event.ev_retry, 0) + 1, v_event.ev_type, v_event.ev_data,
            v_event.ev_extra1, v_event.ev_extra2, v_event.ev_extra3, v_event.ev_extra4)
    on conflict (ev_owner, ev_id) do nothing;
    return found::integer;
end;
$$;

create or replace function pgq.event_retry(
    x_batch_id bigint,
    x_event_id bigint,
    x_retry_seconds integer)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts an event of an open batch aside for some seconds.
--
-- Returns, raises, calls: event_retry with a time
begin
    return pgq.event_retry(x_batch_id, x_event_id, now() + make_interval(secs => x_retry_seconds));
end;
$$;
