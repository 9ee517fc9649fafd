create or replace function pgq_ext.get_last_tick(a_consumer text, a_subconsumer text)
returns bigint as $$
-- ----------------------------------------------------------------------
-- Tells up to which tick everything is applied here.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--
-- Returns:
--      the tick that set_last_tick() recorded, NULL if none
-- ----------------------------------------------------------------------
    select c.last_tick_id
      from pgq_ext.completed_tick c
     where c.consumer_id = a_consumer
       and c.subconsumer_id = a_subconsumer;
$$ language sql stable security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.get_last_tick(a_consumer text)
returns bigint as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select pgq_ext.get_last_tick(a_consumer, '');
$$ language sql stable;
