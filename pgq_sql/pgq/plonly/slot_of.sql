create or replace function pgq.slot_of(i_key text, i_slots integer) returns integer
language plpgsql immutable parallel safe
as $$
-- Tells which slot of a split consumer gets the events of a key: the first four bytes of
-- SHA-256 over the key as the database stores it, taken as a number, high byte first,
-- modulo the number of slots. Which slot that is never changes.
--
-- Parameters: i_key; i_slots - how many there are.
-- Returns: 0 .. i_slots - 1; 0 for a null key, null for null slots.
-- Raises: 22023 i_slots is not positive.
begin
    if i_slots < 1 then
        raise exception 'number of slots must be positive' using errcode = '22023';
    end if;
    return case
        when i_key is not null or i_slots is null then
            ('x' || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(
                pg_catalog.convert_to(i_key, pg_catalog.getdatabaseencoding())), 'hex'), 8))::bit(32)::bigint % i_slots
        else 0
    end;
end;
$$;
