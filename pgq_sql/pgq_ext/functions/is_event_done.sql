create or replace function pgq_ext.is_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- Tells whether one event of the batch is already applied here.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--      a_batch_id      - id of the batch
--      a_event_id      - id of the event in it
--
-- Returns:
--      true if set_event_done() recorded it and no later batch was begun, else
--      false
-- ----------------------------------------------------------------------
    select exists (
        select
          from pgq_ext.completed_event e
         where e.consumer_id = a_consumer
           and e.subconsumer_id = a_subconsumer
           and e.batch_id = a_batch_id
           and e.event_id = a_event_id);
$$ language sql stable security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.is_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select pgq_ext.is_event_done(a_consumer, '', a_batch_id, a_event_id);
$$ language sql stable;
