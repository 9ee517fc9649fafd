create or replace function pgq_ext.set_events_aside(
    a_consumer text,
    a_subconsumer text,
    a_batch_id bigint,
    a_event_ids bigint[],
    a_retry_seconds integer[],
    a_reasons text[])
returns integer as $$
-- ----------------------------------------------------------------------
-- Records, in the transaction that applies the rest of the batch and behind its
-- set_batch_done() or set_last_tick(), which of its events are not done here, and
-- what shall become of them at the queue.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--      a_batch_id      - id of the batch; of a consumer that tracks ticks, the
--                        tick that it records
--      a_event_ids     - ids of the events; of several entries for one the last
--                        counts
--      a_retry_seconds - for each event, after how long it shall come again;
--                        NULL: it is given up
--      a_reasons       - for each event, why; NULL: nobody says
--
-- Returns:
--      the number of entries
--
-- Tables written:
--      pgq_ext.event_aside
-- ----------------------------------------------------------------------
begin
    if a_consumer is null or a_subconsumer is null or a_batch_id is null
        or a_event_ids is null or a_retry_seconds is null or a_reasons is null
        or array_position(a_event_ids, null) is not null
    then
        raise exception 'consumer, subconsumer, batch id, the arrays and event ids must not be NULL'
            using errcode = 'null_value_not_allowed';
    end if;
    if cardinality(a_retry_seconds) <> cardinality(a_event_ids) or cardinality(a_reasons) <> cardinality(a_event_ids) then
        raise exception 'each event needs one entry in each array'
            using errcode = 'invalid_parameter_value',
                  detail = format('There are %s events, %s times and %s reasons.', cardinality(a_event_ids),
                                  cardinality(a_retry_seconds), cardinality(a_reasons));
    end if;

    insert into pgq_ext.event_aside (consumer_id, subconsumer_id, batch_id, event_id, retry_seconds, reason)
    select distinct on (e.event_id) a_consumer, a_subconsumer, a_batch_id, e.event_id, e.retry_seconds, e.reason
      from unnest(a_event_ids, a_retry_seconds, a_reasons) with ordinality e (event_id, retry_seconds, reason, n)
     order by e.event_id, e.n desc
        on conflict (consumer_id, subconsumer_id, batch_id, event_id) do update
       set retry_seconds = excluded.retry_seconds, reason = excluded.reason;
    return cardinality(a_event_ids);
end;
$$ language plpgsql security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.set_events_aside(
    a_consumer text,
    a_batch_id bigint,
    a_event_ids bigint[],
    a_retry_seconds integer[],
    a_reasons text[])
returns integer as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select pgq_ext.set_events_aside(a_consumer, '', a_batch_id, a_event_ids, a_retry_seconds, a_reasons);
$$ language sql;
