-- Triggers that guard tables; see pgq_sql/partconf/hash/triggers.c.
--
-- create trigger NAME before insert or update on TABLE
--     for each row execute function partconf.validate_hash('COLUMN' [, 'error' | 'skip']);
-- Raises: PX001 a row of another partition, in mode skip only for updates; 23502 null key;
--         and what check_hash() raises.
create or replace function partconf.validate_hash() returns trigger
language c
as '$libdir/partconf', 'partconf_validate_hash';

-- create trigger NAME before insert or update or delete or truncate on TABLE
--     for each statement execute function partconf.deny_fenced();
-- Raises: PX002 fenced; PX004 not configured.
create or replace function partconf.deny_fenced() returns trigger
language c
as '$libdir/partconf', 'partconf_deny_fenced';
