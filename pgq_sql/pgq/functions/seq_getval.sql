create or replace function pgq.seq_getval(i_seq_name text) returns bigint
language plpgsql volatile strict parallel safe
as $$
-- Reads a sequence without moving it.
--
-- Parameters: i_seq_name - [schema.]name.
-- Returns: its last_value (which is the start value before the first nextval);
--     null for null.
declare
    v_last bigint;
begin
    execute pg_catalog.format('select last_value from %s', pgq.quote_fqname(i_seq_name)) into v_last;
    return v_last;
end;
$$;

create or replace function pgq._event_count(i_queue pgq.queue) returns bigint
language plpgsql volatile strict parallel safe
as $$
-- Counts the event ids that a queue has given, by which its ticker sees that
-- events came. last_value alone is the same before the first id and after it.
--
-- Returns: the newest id, 0 before the first.
declare
    v_count bigint;
begin
    execute pg_catalog.format(
        'select case when is_called then last_value else last_value operator(pg_catalog.-) 1 end from %s',
        pgq.quote_fqname(i_queue.queue_event_seq))
        into v_count;
    return v_count;
end;
$$;
