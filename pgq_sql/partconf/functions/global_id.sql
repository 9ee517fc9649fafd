-- An id that no other database gives which has another db_code: the next number of
-- partconf.global_id_seq in the upper 49 bits, db_code in the lower 14.
--
-- Returns: the id, positive.
-- Raises: PX004 not configured; 2200H the numbers are used up.
create or replace function partconf.global_id() returns bigint
language c volatile parallel unsafe
as '$libdir/partconf', 'partconf_global_id';
