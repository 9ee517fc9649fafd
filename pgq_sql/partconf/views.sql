-- views.sql: the configuration, for everybody to see.

-- One row, also where nothing is configured.
create view partconf.status as
select i.database, i.part_nr is not null as configured, i.part_nr, i.max_part, i.max_part + 1 as partitions, i.db_code,
       coalesce(i.hash_function, 'hashtext(lower(key))') as hash_function,
       i.hash_problem is null as hash_ok, i.hash_problem,
       i.fenced_at is not null as fenced, i.fenced_at, i.fenced_by, i.set_at
  from partconf.get_info() i;

-- The same under the names that were in use for it once. No row where nothing is configured.
create view partconf.shard_conf as
select i.part_nr as shard_nr, i.max_part as shard_mask, i.max_part + 1 as shard_count
  from partconf.get_info() i
 where i.part_nr is not null;
