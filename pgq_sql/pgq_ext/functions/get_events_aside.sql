create or replace function pgq_ext.get_events_aside(
    in a_consumer text,
    in a_subconsumer text,
    in a_batch_id bigint,
    out event_id bigint,
    out retry_seconds integer,
    out reason text)
returns setof record as $$
-- ----------------------------------------------------------------------
-- Tells which events of the batch applied last were put aside.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--      a_batch_id      - id of the batch, as set_events_aside() had it
--
-- Returns:
--      a row for each, by event_id: after how many seconds it shall come again,
--      NULL if it is given up, and why; none also for other batches
-- ----------------------------------------------------------------------
    select a.event_id, a.retry_seconds, a.reason
      from pgq_ext.event_aside a
     where a.consumer_id = a_consumer
       and a.subconsumer_id = a_subconsumer
       and a.batch_id = a_batch_id
     order by a.event_id;
$$ language sql stable security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.get_events_aside(
    in a_consumer text,
    in a_batch_id bigint,
    out event_id bigint,
    out retry_seconds integer,
    out reason text)
returns setof record as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select a.event_id, a.retry_seconds, a.reason
      from pgq_ext.get_events_aside(a_consumer, '', a_batch_id) a
     order by a.event_id;
$$ language sql stable;
