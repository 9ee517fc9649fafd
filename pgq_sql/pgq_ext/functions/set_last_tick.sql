create or replace function pgq_ext.set_last_tick(a_consumer text, a_subconsumer text, a_tick_id bigint)
returns integer as $$
-- ----------------------------------------------------------------------
-- Records, in the transaction that applies the batch, its closing tick. If that is
-- another one than before, the events that the consumer had put aside of the batch
-- before are forgotten.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--      a_tick_id       - the tick up to which all is applied; it may stand
--                        before the recorded one (the position is moved back);
--                        NULL forgets the position
--
-- Returns:
--      1
--
-- Tables written:
--      pgq_ext.completed_tick, pgq_ext.event_aside
--
-- Locks taken:
--      the consumer's row
-- ----------------------------------------------------------------------
begin
    if a_consumer is null or a_subconsumer is null then
        raise exception 'consumer and subconsumer must not be NULL'
            using errcode = 'null_value_not_allowed';
    end if;

    if a_tick_id is null then
        delete from pgq_ext.completed_tick c
         where c.consumer_id = a_consumer
           and c.subconsumer_id = a_subconsumer;
    else
        insert into pgq_ext.completed_tick as c (consumer_id, subconsumer_id, last_tick_id)
        values (a_consumer, a_subconsumer, a_tick_id)
            on conflict (consumer_id, subconsumer_id) do update
           set last_tick_id = excluded.last_tick_id
         where c.last_tick_id <> excluded.last_tick_id;
    end if;
    if found then
        delete from pgq_ext.event_aside a
         where a.consumer_id = a_consumer
           and a.subconsumer_id = a_subconsumer;
    end if;
    return 1;
end;
$$ language plpgsql security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.set_last_tick(a_consumer text, a_tick_id bigint)
returns integer as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select pgq_ext.set_last_tick(a_consumer, '', a_tick_id);
$$ language sql;
