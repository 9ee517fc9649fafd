create or replace function pgq.slot_of(i_key text, i_slots integer) returns integer
language plpgsql immutable parallel safe
as $$
-- Tells which slot of a split consumer gets the events of a key: a hash of the key's
-- bytes as the database stores them, modulo the number of slots. Which slot that is
-- never changes, on no server: see pgq_sql/pgq/lowlevel/slot_of.c.
--
-- Parameters: i_key; i_slots - how many there are.
-- Returns: 0 .. i_slots - 1; 0 for a null key, null for null slots.
-- Raises: 22023 i_slots is not positive.
declare
    v_key  pg_catalog.bytea;
    v_hash bigint := 2166136261;
begin
    if i_slots operator(pg_catalog.<) 1 then
        raise exception 'number of slots must be positive' using errcode = '22023';
    end if;
    if i_key is null then
        return case when i_slots is not null then 0 end;
    end if;
    v_key := pg_catalog.convert_to(i_key, pg_catalog.getdatabaseencoding());
    for v_at in 0 .. pg_catalog.length(v_key) operator(pg_catalog.-) 1 loop
        v_hash := (v_hash operator(pg_catalog.#) pg_catalog.get_byte(v_key, v_at)) operator(pg_catalog.*) 16777619
            operator(pg_catalog.&) 4294967295;
    end loop;
    v_hash := (v_hash operator(pg_catalog.#) (v_hash operator(pg_catalog.>>) 15)) operator(pg_catalog.*) 16777619
        operator(pg_catalog.&) 4294967295;
    return (v_hash operator(pg_catalog.#) (v_hash operator(pg_catalog.>>) 13)) operator(pg_catalog.%) i_slots;
end;
$$;
