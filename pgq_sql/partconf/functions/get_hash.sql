-- The hash of a key: hashtext(lower(key)) with lower() of the database's collation, or
-- what set_hash() has set. Also where nothing is configured, for RUN ON on a proxy.
--
-- Parameters: key.
-- Returns: the hash; null for a null key.
-- Raises: PX003 the hash is not what it was when it was configured; 55000 a hash
--         function that calls this one.
create or replace function partconf.get_hash(key text) returns integer
language c stable strict parallel safe
as '$libdir/partconf', 'partconf_get_hash';
