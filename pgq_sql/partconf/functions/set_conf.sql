create or replace function partconf.set_conf(i_part_nr integer, i_max_part integer, i_db_code integer) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
-- Says which partition this database is; when it is called again, says it anew. The hash
-- stays as it is set, and so does a fence.
--
-- Parameters: i_part_nr - number of the partition, 0 is the first; i_max_part - number of
--      the last one, hence a power of two less one; a database that is not partitioned has
--      0 for both; i_db_code - 0 to 16383, no other database has the same, be it a
--      partition or a replica.
-- Returns: 1 configured for the first time, 0 configured anew.
-- Raises: PX005 values that make no sense; PX003 the hash is not what it was when it was
--      configured; 55P03 there were writers for 5 seconds.
-- Calls: _lock_conf, _probes, _hash_problem
-- Tables written: partconf.conf
-- Locks taken: as _lock_conf: no writer follows the old configuration when it returns.
declare
    v_hint text := 'Partitions are numbered from 0 to max_part, and their number is a power of two: '
        'max_part is 0, 1, 3, 7, 15 and so on, 1073741823 at most.';
    v_problem text;
begin
    if i_part_nr is null or i_max_part is null or i_db_code is null then
        raise exception 'part_nr, max_part and db_code must not be NULL'
            using errcode = 'PX005', hint = 'A database that is not partitioned has part_nr 0 and max_part 0.';
    end if;
    if i_max_part < 0 or i_max_part & (i_max_part::bigint + 1) <> 0 or i_max_part > 1073741823 then
        raise exception 'max_part is no power of two less one, or too large: %', i_max_part
            using errcode = 'PX005', hint = v_hint;
    end if;
    if i_part_nr < 0 or i_part_nr > i_max_part then
        raise exception 'part_nr is out of range: %', i_part_nr
            using errcode = 'PX005',
                  detail = format('With max_part %s it is from 0 to %1$s.', i_max_part),
                  hint = v_hint;
    end if;
    if i_db_code < 0 or i_db_code > 16383 then
        raise exception 'db_code is out of range: %', i_db_code
            using errcode = 'PX005',
                  hint = 'It is from 0 to 16383, and every database, replicas too, has one of its own.';
    end if;

    perform partconf._lock_conf('5 seconds');
    v_problem := partconf._hash_problem();
    if v_problem is not null then
        raise exception 'hash of keys has changed since it was configured in database "%"', current_database()
            using errcode = 'PX003',
                  detail = v_problem,
                  hint = 'If the data here and the proxies follow the new hash, call partconf.accept_hash() first.';
    end if;

    update partconf.conf
       set part_nr = i_part_nr, max_part = i_max_part, db_code = i_db_code, set_at = now();
    if found then
        return 0;
    end if;
    insert into partconf.conf (part_nr, max_part, db_code, probes)
    values (i_part_nr, i_max_part, i_db_code, partconf._probes(null));
    return 1;
end;
$$;
