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
-- Puts an event aside that is not read from a batch, by the rules of event_retry.
--
-- Parameters: x_queue, x_consumer - who shall get it; x_retry_after - not before
--     this; x_ev_id - null for a new one; x_ev_time - null for now; x_ev_retry - this will be its so many-th
--     retry; the other columns of the event.
-- Returns: event id.
-- Raises: 22004 null x_retry_after; PGQ02 consumer not registered; 23505 the event is put aside already.
-- Calls: _retry_config, _backoff
-- Tables written: pgq.retry_queue
declare
    v_sub pgq.subscription;
    v_seq text;
    v_config record;
    v_dead boolean;
    v_id bigint := x_ev_id;
begin
    if x_retry_after is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The time of the retry is NULL.';
    end if;
    select s.* into v_sub
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
        select q.queue_event_seq into v_seq from pgq.queue q where q.queue_id = v_sub.sub_queue;
        v_id := nextval(pgq.quote_fqname(v_seq)::regclass);
    end if;
    v_config := pgq._retry_config(v_sub);
    v_dead := coalesce(x_ev_retry > v_config.max_retries, false);

    delete from pgq.retry_queue r
    where r.ev_owner = v_sub.sub_id
      and r.ev_id = v_id
      and r.ev_dead_time is not null;
    insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_txid, ev_owner, ev_retry,
                                 ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4,
                                 ev_dead_time, ev_reason)
    values (case when v_dead then 'infinity'
                 else greatest(x_retry_after, now() + pgq._backoff(v_config.delay, v_config.max_delay, x_ev_retry - 1)) end,
            v_sub.sub_queue, v_id, coalesce(x_ev_time, now()), null, v_sub.sub_id, case when v_dead then x_ev_retry - 1 else x_ev_retry end,
            x_ev_type, x_ev_data, x_ev_extra1, x_ev_extra2, x_ev_extra3, x_ev_extra4,
            case when v_dead then now() end,
            case when v_dead then format('max_retries (%s) reached', v_config.max_retries) end);
    return v_id;
end;
$$;
