create or replace function pgq_ext.set_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- Records, in the transaction that applies it, that one event is applied here.
-- The first new event of another batch forgets the events of the batch before.
--
-- Parameters:
--      a_consumer      - consumer name
--      a_subconsumer   - name of the worker inside the consumer, '' if alone
--      a_batch_id      - id of the batch
--      a_event_id      - id of the event in it
--
-- Returns:
--      true    - the event was new; it counts as done once we commit
--      false   - the event is done already: do not apply it
--
-- Tables written:
--      pgq_ext.completed_event, pgq_ext.partial_batch
--
-- Locks taken:
--      the event's key, so that of two that apply the same event at the same
--      time the second waits, and is told false when the first commits; on a
--      change of batch the consumer's row in partial_batch
-- ----------------------------------------------------------------------
declare
    v_cur_batch_id  bigint;
begin
    if a_consumer is null or a_subconsumer is null or a_batch_id is null or a_event_id is null then
        raise exception 'consumer, subconsumer, batch id and event id must not be NULL'
            using errcode = 'null_value_not_allowed';
    end if;

    insert into pgq_ext.completed_event (consumer_id, subconsumer_id, batch_id, event_id)
    values (a_consumer, a_subconsumer, a_batch_id, a_event_id)
        on conflict do nothing;
    if not found then
        return false;
    end if;

    select p.cur_batch_id
      into v_cur_batch_id
      from pgq_ext.partial_batch p
     where p.consumer_id = a_consumer
       and p.subconsumer_id = a_subconsumer;

    if v_cur_batch_id is distinct from a_batch_id then
        insert into pgq_ext.partial_batch (consumer_id, subconsumer_id, cur_batch_id)
        values (a_consumer, a_subconsumer, a_batch_id)
            on conflict (consumer_id, subconsumer_id) do update
           set cur_batch_id = excluded.cur_batch_id;

        delete from pgq_ext.completed_event e
         where e.consumer_id = a_consumer
           and e.subconsumer_id = a_subconsumer
           and e.batch_id <> a_batch_id;
    end if;
    return true;
end;
$$ language plpgsql security definer set search_path = pg_catalog, pg_temp;

create or replace function pgq_ext.set_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint)
returns boolean as $$
-- ----------------------------------------------------------------------
-- The same for a consumer that works alone.
-- ----------------------------------------------------------------------
    select pgq_ext.set_event_done(a_consumer, '', a_batch_id, a_event_id);
$$ language sql;
