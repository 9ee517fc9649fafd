create or replace function partconf._lock_conf(i_timeout interval) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
-- Waits until every transaction has ended that writes behind check_hash() or one of the
-- triggers; later ones wait for ours, and see what it has changed.
--
-- Parameters: i_timeout - how long at most; 0: not at all.
-- Raises: 55P03 somebody was still writing; nothing is changed then. 22004, 22023 timeouts
--         that make no sense. 40P01 of two that write and wait in this way, one.
-- Locks taken: partconf.conf in SHARE ROW EXCLUSIVE mode.
declare
    v_ms     numeric;
    v_detail text;
begin
    if i_timeout is null then
        raise exception 'timeout must not be NULL'
            using errcode = '22004';
    end if;
    v_ms := ceil(extract(epoch from i_timeout) * 1000);
    if v_ms < 0 or v_ms > 2147483647 then
        raise exception 'timeout out of range: %', i_timeout
            using errcode = '22023', hint = 'It is from 0 to 24 days.';
    end if;

    -- undone with the function, which has a setting of its own; 0 would be for ever
    perform set_config('lock_timeout', greatest(v_ms, 1)::text, true);
    begin
        lock table partconf.conf in share row exclusive mode;
    exception when lock_not_available then
        select string_agg(case when l.pid is null
                               then format('prepared transaction "%s", user %s, since %s', x.gid, x.owner, x.prepared)
                               else format('process %s, application "%s", user %s, since %s', l.pid,
                                           a.application_name, a.usename, a.xact_start)
                          end, E'\n' order by coalesce(a.xact_start, x.prepared), l.pid)
          into v_detail
          from pg_locks l
          left join pg_stat_activity a on a.pid = l.pid
          left join pg_locks i on l.pid is null and i.pid is null and i.locktype = 'transactionid'
                and i.virtualtransaction = l.virtualtransaction
          left join pg_prepared_xacts x on x.transaction = i.transactionid
         where l.locktype = 'relation'
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
           and l.relation = 'partconf.conf'::regclass
           and l.granted
           and l.mode not in ('AccessShareLock', 'RowShareLock')
           and l.pid is distinct from pg_backend_pid()
           and (l.pid is not null or x.gid is not null);
        raise exception 'database "%" still has writers after %', current_database(), i_timeout
            using errcode = '55P03',
                  detail = coalesce(v_detail, 'They have ended in the meantime.'),
                  hint = 'Nothing was changed. Let them end, or end them, and call again.';
    end;
end;
$$;
