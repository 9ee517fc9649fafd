create or replace function pgq_ext.is_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- Tells whether the batch is already applied here.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--      a_batch_id      - id of the batch
--
-- Returns:
--      true if it is the last batch that set_batch_done() recorded, else false
--      (also when nothing is recorded)
-- ----------------------------------------------------------------------
    select exists (
        select
          from pgq_ext.completed_batch c
         where c.consumer_id = a_consumer
           and c.subconsumer_id = a_subconsumer
           and c.last_batch_id = a_batch_id);
$$ language sql stable security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.is_batch_done(a_consumer text, a_batch_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select pgq_ext.is_batch_done(a_consumer, '', a_batch_id);
$$ language sql stable;
