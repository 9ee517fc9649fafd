create or replace function pgq.event_retry_raw(
    x_queue text,
    x_consumer text,
    x_retry_after timestamptz,
    x_ev_id bigint,
    x_ev_time timestamptz,
    x_ev_retry integer,
    x_ev_type text,
    x_ev_data text,
    x_ev_extra1 text,
    x_ev_extra2 text,
    x_ev_extra3 text,
    x_ev_extra4 text)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts an event aside that is not read from a batch.
--
-- Parameters: x_queue, x_consumer - who shall get it; x_retry_after - not before
--     this; x_ev_id - null for a new one; the other columns of the event.
-- Returns: event id.
-- Raises: PGQ02 consumer not registered.
-- Tables written: pgq.retry_queue
declare
    v_sub record;
    v_id bigint := x_ev_id;
begin
    select q.queue_id, q.queue_event_seq, s.sub_id into v_sub
    from pgq.queue q
    join pgq.subscription s on s.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = s.sub_consumer
    where q.queue_name = x_queue
      and c.co_name = x_consumer;
    if not found then
        raise exception 'consumer not registered'
            using errcode = 'PGQ02', detail = format('Consumer "%s" does not read queue "%s".', x_consumer, x_queue),
                  hint = 'Register it with pgq.register_consumer().';
    end if;
    if v_id is null then
        v_id := nextval(pgq.quote_fqname(v_sub.queue_event_seq)::regclass);
    end if;
    insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_txid, ev_owner, ev_retry,
                                 ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (x_retry_after, v_sub.queue_id, v_id, x_ev_time, null, v_sub.sub_id, x_ev_retry,
            x_ev_type, x_ev_data, x_ev_extra1, x_ev_extra2, x_ev_extra3, x_ev_extra4);
    return v_id;
end;
$$;
