-- Hashes that stay what they are, and where they lead.

create function plproxy_hash(value text) returns int8
as 'MODULE_PATHNAME', 'plproxy_hash_text'
language c immutable strict parallel safe;
comment on function plproxy_hash(text) is 'XXH64 of the text in UTF-8, the same on every server';

create function plproxy_hash(value bytea) returns int8
as 'MODULE_PATHNAME', 'plproxy_hash_bytea'
language c immutable strict parallel safe;
comment on function plproxy_hash(bytea) is 'XXH64 of the bytes, the same on every server';

create function plproxy_hash(value int8) returns int8
as 'MODULE_PATHNAME', 'plproxy_hash_int8'
language c immutable strict parallel safe;
comment on function plproxy_hash(int8) is 'XXH64 of the eight bytes, lowest first, the same on every server';

create function plproxy_hash(value uuid) returns int8
as 'MODULE_PATHNAME', 'plproxy_hash_uuid'
language c immutable strict parallel safe;
comment on function plproxy_hash(uuid) is 'XXH64 of the sixteen bytes, the same on every server';

create function plproxy_partition_of(cluster text, hash int8) returns int4
as 'MODULE_PATHNAME', 'plproxy_partition_of'
language c volatile strict parallel restricted;
comment on function plproxy_partition_of(text, int8) is 'the partition of the cluster that RUN ON chooses for the hash';

create function plproxy_partitions(
    cluster text, out partition int4, out host text, out port text, out dbname text, out slots int4)
returns setof record
as 'MODULE_PATHNAME', 'plproxy_partitions'
language c volatile strict parallel restricted;
comment on function plproxy_partitions(text) is 'partitions of the cluster by number, and their slots if it has hash_ranges';

revoke execute on function plproxy_partitions(text) from public;
grant execute on function plproxy_partitions(text) to pg_monitor;
