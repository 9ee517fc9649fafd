create or replace function pgq_ext.set_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- Records, in the transaction that applies it, that the batch is applied here.
-- The events that the consumer had put aside of the batch before are forgotten.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--      a_batch_id      - id of the batch; one below 1 is never stored
--
-- Returns:
--      true    - the batch was new; it counts as done once we commit
--      false   - the batch is done already: apply nothing
--
-- Tables written:
--      pgq_ext.completed_batch, pgq_ext.event_aside
--
-- Locks taken:
--      the consumer's row, so that of two that apply the same batch at the
--      same time the second waits, and is told false when the first commits
-- ----------------------------------------------------------------------
begin
    if a_consumer is null or a_subconsumer is null or a_batch_id is null then
        raise exception 'consumer, subconsumer and batch id must not be NULL'
            using errcode = 'null_value_not_allowed';
    end if;
    if a_batch_id <= 0 then
        return true;
    end if;

    insert into pgq_ext.completed_batch as c (consumer_id, subconsumer_id, last_batch_id)
    values (a_consumer, a_subconsumer, a_batch_id)
        on conflict (consumer_id, subconsumer_id) do update
       set last_batch_id = excluded.last_batch_id
     where c.last_batch_id <> excluded.last_batch_id;
    if not found then
        return false;
    end if;
    delete from pgq_ext.event_aside a
     where a.consumer_id = a_consumer
       and a.subconsumer_id = a_subconsumer;
    return true;
end;
$$ language plpgsql security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.set_batch_done(a_consumer text, a_batch_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select pgq_ext.set_batch_done(a_consumer, '', a_batch_id);
$$ language sql;
