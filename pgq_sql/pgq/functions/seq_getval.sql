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
    execute 'select last_value from ' || pgq.quote_fqname(i_seq_name) into v_last;
    return v_last;
end;
$$;
