-- What a hash gives for the probes, keys that tell one hash from another; in a database
-- of encoding UTF8 there are more of them.
--
-- Parameters: i_hash_function - schema.name(text), null for the default.
-- Returns: their hashes.
-- Raises: PX005 no such function, or one that gives NULL.
create or replace function partconf._probes(i_hash_function text) returns integer[]
language c stable parallel safe
as '$libdir/partconf', 'partconf_probes';

-- In what the hash differs from what it was when it was configured.
--
-- Returns: a sentence; null if it does not, and where nothing is configured.
create or replace function partconf._hash_problem() returns text
language c stable parallel safe
as '$libdir/partconf', 'partconf_hash_problem';
