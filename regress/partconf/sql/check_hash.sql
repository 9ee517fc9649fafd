-- check_hash() insists that a key belongs here, valid_hash() tells.
\set SHOW_CONTEXT never
\pset null NULL
delete from partconf.conf;

-- a proxy: no configuration, and a hash
select partconf.get_hash('Alice') = hashtext('alice') as hash, partconf.get_hash(null);
select partconf.check_hash('alice');
\echo :SQLSTATE
select partconf.valid_hash('alice');
\echo :SQLSTATE
select partconf.valid_hash(null);
\echo :SQLSTATE

-- every key belongs to one partition, negative hashes too
create table keys as select 'user' || i as key from generate_series(1, 1000) i;
select count(*) filter (where partconf.get_hash(key) < 0) > 300 as some_are_negative from keys;
create function belongs(i_part integer, i_max integer) returns bigint language plpgsql as $$
begin
    perform partconf.set_conf(i_part, i_max, 1);
    return (select count(*) from keys
             where partconf.valid_hash(key) <> ((hashtext(lower(key)) & i_max) = i_part));
end;
$$;
select m.max_part, sum(belongs(n, m.max_part)) as wrong
  from (values (0), (1), (3), (7), (63)) m (max_part), generate_series(0, m.max_part) n
 group by 1 order by 1;
drop function belongs(integer, integer);

select partconf.set_conf(1, 3, 1);
select partconf.check_hash('alice'), partconf.check_hash('ALICE'), partconf.check_hash('aLiCe'), partconf.check_hash('bob');
select partconf.check_hash('carol');
\echo :SQLSTATE
select partconf.check_hash(repeat('long ', 1000));
select partconf.check_hash('日本語日本語日本語日本語日本語日本語日本語日本語日本語日本語');
select partconf.check_hash('');
select partconf.check_hash(null);
\echo :SQLSTATE
select partconf.valid_hash('alice'), partconf.valid_hash('carol'), partconf.valid_hash(null), partconf.valid_hash('');
-- long keys and stored ones
create table long (key text);
alter table long alter key set storage external;
insert into long select string_agg(repeat(md5(i::text), 100), '') from generate_series(1, 10) i;
insert into long select upper(key) from long;
select count(distinct partconf.get_hash(key)), bool_and(partconf.get_hash(key) = hashtext(lower(key))) from long;
drop table long;

-- an array of which each partition takes its own
select array_agg(key) from (select unnest('{alice,bob,carol,dave,NULL,frank}'::text[]) as key) k where partconf.valid_hash(key);

-- not evaluated ahead, not kept in plans
prepare checked(text) as select partconf.check_hash($1), partconf.valid_hash('alice'), partconf.check_hash('alice');
set plan_cache_mode = force_generic_plan;
execute checked('bob');
select partconf.set_conf(0, 3, 1);
execute checked('bob');
\echo :SQLSTATE
select partconf.set_conf(1, 3, 1);
execute checked('bob');
reset plan_cache_mode;
deallocate checked;
explain (costs off) select from keys where partconf.check_hash('carol');

-- in functions of either language, and after their errors
create function in_plpgsql(i_key text) returns text language plpgsql as $$
begin
    perform partconf.check_hash(i_key);
    return 'here';
exception when sqlstate 'PX001' then
    return 'elsewhere';
end;
$$;
create function in_sql(i_key text) returns boolean language sql as $$ select partconf.check_hash(i_key) $$;
select k, in_plpgsql(k) from unnest('{alice,bob,carol}'::text[]) k;
select in_sql('alice');
select in_sql('carol');
drop function in_plpgsql(text);
drop function in_sql(text);

-- in parallel workers keys can be filtered; they cannot be checked for writing there
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
set max_parallel_workers_per_gather = 2;
explain (costs off) select count(*) from keys where partconf.valid_hash(key);
select count(*) filter (where partconf.valid_hash(key)) = count(*) filter (where (hashtext(key) & 3) = 1) as same from keys;
explain (costs off) select count(*) from keys where partconf.check_hash(key);
create function mislabelled(text) returns boolean language plpgsql parallel safe as $$ begin return partconf.check_hash($1); end $$;
set parallel_leader_participation = off;
\set VERBOSITY terse
select count(*) from keys where mislabelled(key);
\echo :SQLSTATE
\set VERBOSITY default
-- a change in the same transaction is seen there
begin;
select partconf.set_conf(2, 3, 1);
select count(*) filter (where partconf.valid_hash(key)) = count(*) filter (where (hashtext(key) & 3) = 2) as same from keys;
rollback;
reset parallel_leader_participation;
reset parallel_setup_cost;
reset parallel_tuple_cost;
reset min_parallel_table_scan_size;
reset max_parallel_workers_per_gather;
drop function mislabelled(text);
drop table keys;
delete from partconf.conf;
