create or replace function pgq.seq_setval(i_seq_name text, i_new_value bigint) returns bigint
language plpgsql volatile strict parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Moves a sequence forward, never back.
--
-- Parameters: i_seq_name - [schema.]name; i_new_value - the value it should
--     have reached.
-- Returns: the value it has afterwards; null if a parameter is null.
-- Calls: seq_getval
declare
    v_last bigint := pgq.seq_getval(i_seq_name);
begin
    if i_new_value > v_last then
        return pg_catalog.setval(pgq.quote_fqname(i_seq_name)::regclass, i_new_value);
    end if;
    return v_last;
end;
$$;
