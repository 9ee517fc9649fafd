create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint,
    in i_cursor_name text,
    in i_quick_limit int4,
    in i_extra_where text,
    out ev_id bigint,
    out ev_time timestamptz,
    out ev_txid bigint,
    out ev_retry int4,
    out ev_type text,
    out ev_data text,
    out ev_extra1 text,
    out ev_extra2 text,
    out ev_extra3 text,
    out ev_extra4 text)
returns setof record
language plpgsql volatile parallel unsafe
set jit = off
as $$
-- Opens a cursor over the events of a batch, ordered by ev_id, and returns the
-- first of them. The caller fetches on, and closes it.
--
-- Parameters: i_batch_id; i_cursor_name; i_quick_limit - how many to return at
--     once, 0 for none; i_extra_where - SQL condition over the ev_ columns, null
--     for none. It runs with the caller's rights.
-- Returns: up to i_quick_limit events; none, and no cursor is opened, if one of
--     the first three parameters is null.
-- Raises: PGQ03 batch not found.
-- Calls: _batch_sql
begin
    if i_batch_id is null or i_cursor_name is null or i_quick_limit is null then
        return;
    end if;
    execute pg_catalog.format('declare %I no scroll cursor for %s', i_cursor_name,
                              pgq._batch_sql(i_batch_id, i_extra_where));
    if i_quick_limit operator(pg_catalog.>) 0 then
        return query execute pg_catalog.format('fetch %s from %I', i_quick_limit, i_cursor_name);
    end if;
end;
$$;

create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint,
    in i_cursor_name text,
    in i_quick_limit int4,
    out ev_id bigint,
    out ev_time timestamptz,
    out ev_txid bigint,
    out ev_retry int4,
    out ev_type text,
    out ev_data text,
    out ev_extra1 text,
    out ev_extra2 text,
    out ev_extra3 text,
    out ev_extra4 text)
returns setof record
language plpgsql volatile strict parallel unsafe
as $$
-- Opens a cursor over all events of a batch and returns the first of them.
--
-- Returns, raises, calls: get_batch_cursor with four parameters
begin
    return query
        select c.ev_id, c.ev_time, c.ev_txid, c.ev_retry, c.ev_type, c.ev_data,
               c.ev_extra1, c.ev_extra2, c.ev_extra3, c.ev_extra4
        from pgq.get_batch_cursor(i_batch_id, i_cursor_name, i_quick_limit, null) c;
end;
$$;
