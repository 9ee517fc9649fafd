create or replace function pgq.insert_event(
    queue_name text,
    ev_type text,
    ev_data text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text)
returns int8
language plpgsql volatile parallel unsafe security definer
as $$
-- Writes an event as the queue's owner, with a new id and the time of now(). Nothing
-- here and in what it calls is looked up by search_path.
--
-- Returns: event id.
-- Calls: insert_event_raw
begin
    return pgq.insert_event_raw($1, null, null, null, null, $2, $3, $4, $5, $6, $7);
end;
$$;
