create or replace function partconf.check_list(i_list partconf.info[]) returns boolean
language plpgsql stable parallel safe
set search_path = pg_catalog, pg_temp
as $$
-- Checks that databases make up a cluster: the list is that of a proxy, each entry what
-- get_info() says there. The hash of the database that is asked, a proxy as a rule, must
-- be theirs, too.
--
-- Parameters: i_list - all partitions, in the order in which the proxy has them.
-- Returns: true. Fences are told of in notices.
-- Raises: PX005 if they do not; the detail has all that is wrong, a line each.
-- Calls: get_info
declare
    v_count   integer := coalesce(cardinality(i_list), 0);
    v_own     partconf.info := partconf.get_info();
    v_first   partconf.info;
    v_item    partconf.info;
    v_where   text;
    v_wrong   text[] := '{}';
begin
    if v_count = 0 then
        raise exception 'list of partitions is empty'
            using errcode = 'PX005', hint = 'Give what partconf.get_info() says on each partition of the cluster.';
    end if;
    if v_count & (v_count - 1) <> 0 then
        v_wrong := v_wrong || format('There are %s partitions: their number must be a power of two.', v_count);
    end if;

    for i in 1 .. v_count loop
        v_item := i_list[array_lower(i_list, 1) + i - 1];
        v_where := format('Entry %s', i - 1) || case when v_item.database is null then '' else format(', database "%s"', v_item.database) end;
        if v_item.part_nr is null then
            v_wrong := v_wrong || format('%s: not configured.', v_where);
            continue;
        end if;
        if v_item.part_nr <> i - 1 then
            v_wrong := v_wrong || format('%s: part_nr is %s, in this place of the list it must be %s.',
                                         v_where, v_item.part_nr, i - 1);
        end if;
        if v_item.max_part <> v_count - 1 then
            v_wrong := v_wrong || format('%s: max_part is %s, with %s partitions it must be %s.',
                                         v_where, v_item.max_part, v_count, v_count - 1);
        end if;
        if v_item.hash_problem is not null then
            v_wrong := v_wrong || format('%s: the hash has changed since it was configured. %s', v_where, v_item.hash_problem);
        end if;
        if v_first.part_nr is null then
            v_first := v_item;
        end if;
        if v_item.hash_function is distinct from v_first.hash_function then
            v_wrong := v_wrong || format('%s: the hash is %s, in database "%s" %s.', v_where,
                                         coalesce(v_item.hash_function, 'the default'), v_first.database,
                                         coalesce(v_first.hash_function, 'the default'));
        elsif v_item.encoding <> v_first.encoding then
            v_wrong := v_wrong || format('%s: the encoding is %s, in database "%s" %s: keys have other hashes.', v_where,
                                         v_item.encoding, v_first.database, v_first.encoding);
        elsif v_item.probes <> v_first.probes then
            v_wrong := v_wrong || format('%s: the hash gives other values for the same keys than in database "%s", '
                                         'server %s here, %s there.', v_where, v_first.database,
                                         v_item.server_version, v_first.server_version);
        end if;
        if v_item.fenced_at is not null then
            raise notice 'database "%" (partition %) is fenced', v_item.database, v_item.part_nr
                using detail = format('%s has fenced it at %s.', coalesce(v_item.fenced_by, 'Somebody'), v_item.fenced_at);
        end if;
    end loop;

    if v_first.hash_function is distinct from v_own.hash_function then
        v_wrong := v_wrong || format('Here, in database "%s", the hash is %s, in database "%s" %s: get_hash() of here leads calls astray.',
                                     v_own.database, coalesce(v_own.hash_function, 'the default'),
                                     v_first.database, coalesce(v_first.hash_function, 'the default'));
    elsif v_first.encoding = v_own.encoding and v_first.probes <> v_own.probes then
        v_wrong := v_wrong || format('Here, in database "%s", the hash gives other values for the same keys than in database "%s", '
                                     'server %s here, %s there: get_hash() of here leads calls astray.',
                                     v_own.database, v_first.database, v_own.server_version, v_first.server_version);
    end if;

    v_wrong := v_wrong
        || array(select format('part_nr %s is that of entries %s.', e.part_nr, string_agg((e.n - 1)::text, ', ' order by e.n))
                   from unnest(i_list) with ordinality e (database, part_nr, max_part, db_code, hash_function, hash_problem,
                        probes, encoding, fenced_at, fenced_by, set_at, server_version, version, n)
                  where e.part_nr is not null
                  group by e.part_nr
                 having count(*) > 1
                  order by e.part_nr)
        || array(select format('part_nr %s is missing.', s.n)
                   from generate_series(0, v_count - 1) s (n)
                  where not exists (select from unnest(i_list) e where e.part_nr = s.n)
                  order by s.n)
        || array(select format('db_code %s is that of entries %s.', e.db_code, string_agg((e.n - 1)::text, ', ' order by e.n))
                   from unnest(i_list) with ordinality e (database, part_nr, max_part, db_code, hash_function, hash_problem,
                        probes, encoding, fenced_at, fenced_by, set_at, server_version, version, n)
                  where e.db_code is not null
                  group by e.db_code
                 having count(*) > 1
                  order by e.db_code);
    if v_wrong <> '{}' then
        raise exception 'the partitions do not make up a cluster'
            using errcode = 'PX005',
                  detail = array_to_string(v_wrong, E'\n'),
                  hint = 'Call partconf.set_conf() and set_hash() in the databases that are wrong, or mend the proxy''s list.';
    end if;
    return true;
end;
$$;
