-- Tells which slot of a split consumer gets the events of a key: a hash of the key's
-- bytes as the database stores them, modulo the number of slots. Which slot that is
-- never changes, on no server: see pgq_sql/pgq/lowlevel/slot_of.c.
--
-- Parameters: i_key; i_slots - how many there are.
-- Returns: 0 .. i_slots - 1; 0 for a null key, null for null slots.
-- Raises: 22023 i_slots is not positive.
create or replace function pgq.slot_of(i_key text, i_slots integer) returns integer
language c immutable parallel safe
as '$libdir/pgq_lowlevel', 'pgq_slot_of';
