create or replace function pgq._rotation_blockers(
    out queue_name text,
    out rotation_due_since timestamptz,
    out blocker_kind text,
    out blocker text,
    out since timestamptz,
    out detail text)
returns setof record
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Tells what keeps queues from rotating that are due; see view rotation_blockers.
-- A damaged queue gives a warning. Shows of other sessions what pg_stat_activity
-- shows everybody, and since when their transactions are open.
--
-- Returns: rows by queue, kind and age.
-- Calls: _tick_at
declare
    v_queue pgq.queue;
    v_first bigint;
    v_last  pgq.tick;
    v_found boolean;
    v_now   bigint := txid_snapshot_xmax(txid_current_snapshot());
begin
    for v_queue in
        select q.*
        from pgq.queue q
        where q.queue_rotation_period < pgq._age(q.queue_switch_time)
        order by q.queue_name
    loop
        begin
            queue_name := v_queue.queue_name;
            rotation_due_since := v_queue.queue_switch_time + greatest(v_queue.queue_rotation_period, '0');
            v_found := false;
            if v_queue.queue_switch_step2 is null then
                blocker_kind := 'maintenance';
                blocker := 'maint_rotate_tables_step2';
                since := v_queue.queue_switch_time;
                detail := 'the last rotation is not finished';
                return next;
                continue;
            end if;

            select t.* into v_last
            from pgq.tick t
            where t.tick_queue = v_queue.queue_id
            order by t.tick_id desc
            limit 1;

            if v_queue.queue_switch_step1 > v_now or txid_snapshot_xmax(v_last.tick_snapshot) > v_now then
                blocker_kind := 'maintenance';
                blocker := 'rebase_queue';
                since := v_last.tick_time;
                detail := 'the queue was restored from a server whose transaction ids were ahead';
                return next;
                continue;
            end if;

            if v_queue.queue_retention >= pgq._age(v_queue.queue_switch_time) then
                -- Whatever else stands in the way does not matter yet.
                blocker_kind := 'retention';
                blocker := 'queue_retention';
                since := rotation_due_since;
                detail := format('events of the last %s are kept', v_queue.queue_retention);
                return next;
                continue;
            end if;
            rotation_due_since := greatest(rotation_due_since, v_queue.queue_switch_time + v_queue.queue_retention);

            -- Consumers that could go on.
            blocker_kind := 'consumer';
            for blocker, since, detail in
                select c.co_name, coalesce(t.tick_time, s.sub_active),
                       format('%s tick %s of %s%s, last heard of %s',
                              case when t.tick_id is null then 'stands at the missing' else 'stands at' end,
                              s.sub_last_tick, v_last.tick_id,
                              case when s.sub_paused then ', paused' when s.sub_batch is not null
                                   then ', batch ' || s.sub_batch || ' open' else '' end,
                              date_trunc('second', s.sub_active))
                from pgq.subscription s
                join pgq.consumer c on c.co_id = s.sub_consumer
                left join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
                where s.sub_queue = v_queue.queue_id
                  and s.sub_last_tick is distinct from v_last.tick_id
                  and s.sub_last_tick is not null
                  and (t.tick_id is null or txid_snapshot_xmin(t.tick_snapshot) <= v_queue.queue_switch_step2)
                order by 2, 1
            loop
                v_found := true;
                return next;
            end loop;

            -- Those who may have seen the old table as the current one, in whatever
            -- database. Ids are shown with 32 bits.
            blocker_kind := 'transaction';
            for blocker, since, detail in
                select 'pid ' || a.pid, a.xact_start,
                       format('database %s, user %s, application %s, %s', a.datname, a.usename,
                              quote_literal(a.application_name), a.state)
                from pg_stat_activity a
                where v_now - (((v_now & 4294967295) - a.backend_xid::text::bigint) & 4294967295)
                      <= v_queue.queue_switch_step2
                order by 2, 1
            loop
                v_found := true;
                return next;
            end loop;
            blocker_kind := 'prepared transaction';
            for blocker, since, detail in
                select p.gid, p.prepared, format('database %s, user %s', p.database, p.owner)
                from pg_prepared_xacts p
                where v_now - (((v_now & 4294967295) - p.transaction::text::bigint) & 4294967295)
                      <= v_queue.queue_switch_step2
                order by 2, 1
            loop
                v_found := true;
                return next;
            end loop;

            -- pg_dump and others who use the table that is to be emptied.
            blocker_kind := 'lock';
            for blocker, since, detail in
                select coalesce('pid ' || l.pid, p.gid), coalesce(min(a.xact_start), min(p.prepared)),
                       format('%s on %s%s', string_agg(l.mode, ', ' order by l.mode), l.relation::regclass,
                              min(format(', user %s, application %s', a.usename, quote_literal(a.application_name))))
                from pg_locks l
                left join pg_stat_activity a on a.pid = l.pid
                left join pg_prepared_xacts p on l.pid is null and l.virtualtransaction = '-1/' || p.transaction
                where l.locktype = 'relation'
                  and l.granted
                  and l.pid is distinct from pg_backend_pid()
                  and l.database = (select d.oid from pg_database d where d.datname = current_database())
                  and l.relation = to_regclass(pgq.quote_fqname(
                          v_queue.queue_data_pfx || '_' || (v_queue.queue_cur_table + 1) % v_queue.queue_ntables))
                group by l.pid, p.gid, l.relation
                order by 2, 1
            loop
                v_found := true;
                return next;
            end loop;

            -- Nobody can go on without a new tick.
            select min(s.sub_last_tick) into v_first from pgq.subscription s where s.sub_queue = v_queue.queue_id;
            if not v_found
               and (v_first is not null or v_queue.queue_retention is not null)
               and (v_last.tick_id is null or txid_snapshot_xmin(v_last.tick_snapshot) <= v_queue.queue_switch_step2)
            then
                v_found := true;
                blocker_kind := 'ticker';
                blocker := case when v_queue.queue_ticker_paused then 'ticker_paused'
                                when v_queue.queue_external_ticker then 'external_ticker'
                                else 'ticker' end;
                since := v_last.tick_time;
                detail := 'no tick since the last rotation';
                return next;
            end if;
            -- Retention counts from the tick before its time.
            if not v_found then
                since := rotation_due_since;
                if v_queue.queue_retention is null
                   or exists (select 1
                              from pgq.tick t
                              where t.tick_queue = v_queue.queue_id
                                and t.tick_id = pgq._tick_at(v_queue.queue_id, v_queue.queue_retention)
                                and txid_snapshot_xmin(t.tick_snapshot) > v_queue.queue_switch_step2)
                then
                    blocker_kind := 'maintenance';
                    blocker := 'maint_rotate_tables_step1';
                    detail := 'nothing else stands in the way';
                else
                    blocker_kind := 'retention';
                    blocker := 'queue_retention';
                    detail := format('events of the last %s are kept', v_queue.queue_retention);
                end if;
                return next;
            end if;
        exception
            when others then
                raise warning 'queue %: %', v_queue.queue_name, sqlerrm using errcode = sqlstate;
        end;
    end loop;
end;
$$;

-- Who keeps which queue from rotating, and since when. No row: no rotation is due.
create or replace view pgq.rotation_blockers as
    select b.queue_name, b.rotation_due_since, b.blocker_kind, b.blocker, b.since, b.detail
    from pgq._rotation_blockers() b;
