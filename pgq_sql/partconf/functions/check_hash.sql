-- Insists that a key belongs to this partition, and that the database is not fenced; see
-- pgq_sql/partconf/hash/check.c and fence.c.
--
-- Parameters: key.
-- Returns: true.
-- Raises: PX001 the key is another partition's; PX002 fenced; PX003 the hash is not what
--         it was when it was configured; PX004 not configured; 22004 null key.
-- Locks taken: partconf.conf in ROW EXCLUSIVE mode, unless the transaction is read-only.
create or replace function partconf.check_hash(key text) returns boolean
language c volatile parallel restricted
as '$libdir/partconf', 'partconf_check_hash';

-- Tells whether a key belongs to this partition. Knows of no fence.
--
-- Parameters: key.
-- Returns: true if it does, false if not, and for a null key.
-- Raises: PX003 the hash is not what it was when it was configured; PX004 not configured.
create or replace function partconf.valid_hash(key text) returns boolean
language c stable parallel safe
as '$libdir/partconf', 'partconf_valid_hash';
