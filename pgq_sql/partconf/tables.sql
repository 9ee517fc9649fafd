-- tables.sql: the database's place in its cluster.

create schema partconf;

-- One row at most: none in a database that is not configured, for instance a proxy.
-- Sessions keep it, so it is changed by the functions, or by any other statement
-- that fires the trigger of functions/conf_changed.sql.
create table partconf.conf (
    only_row        boolean     not null default true,
    part_nr         integer     not null,   -- which partition this is
    max_part        integer     not null,   -- the last partition: number of partitions less one
    db_code         integer     not null,   -- what global ids of this database end in
    hash_function   text,                   -- schema.name(text); null: hashtext(lower(key))
    probes          integer[]   not null,   -- what the hash gave for probes when it was set
    fenced_at       timestamptz,            -- since when nobody may write; null: everybody may
    fenced_by       text,
    set_at          timestamptz not null default now(),

    constraint conf_pkey primary key (only_row),
    constraint conf_one_row check (only_row),
    constraint conf_max_part check (max_part between 0 and 1073741823 and max_part & (max_part + 1) = 0),
    constraint conf_part_nr check (part_nr between 0 and max_part),
    constraint conf_db_code check (db_code between 0 and 16383),
    constraint conf_hash_function check (hash_function like '_%._%(text)'),
    constraint conf_probes check (array_position(probes, null) is null),
    constraint conf_fence check (fenced_by is null or fenced_at is not null)
)
-- One row needs no vacuum, whose lock would stand in a fence's way.
with (autovacuum_enabled = off);

-- numbers of global ids, see functions/global_id.sql
create sequence partconf.global_id_seq;

-- A dump without them would let ids come twice, and take rows of other partitions.
select pg_catalog.pg_extension_config_dump('partconf.conf', '');
select pg_catalog.pg_extension_config_dump('partconf.global_id_seq', '');
