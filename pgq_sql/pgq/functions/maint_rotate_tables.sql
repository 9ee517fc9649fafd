-- The id that the next transaction will get; given i_after, first waits until
-- everybody can know what that transaction has changed. See
-- pgq_sql/pgq/lowlevel/queue.c.
create or replace function pgq._next_txid(i_after bigint default null) returns bigint
language c volatile parallel unsafe
as '$libdir/pgq_lowlevel', 'pgq_next_txid';

create or replace function pgq.maint_rotate_tables_step1(i_queue_name text) returns integer
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Makes the next event table of a queue the current one, after emptying it.
-- Does nothing before the rotation period is over, before the rotation before
-- is finished by step2, or while a consumer or an open transaction may still
-- need the table. Old ticks go too, so a consumer can always be moved back by
-- one rotation period at least, and by queue_retention where that is set.
--
-- Returns: 0.
-- Raises: PGQ09 the queue's state makes no sense; 25001 unless the transaction
--     is READ COMMITTED.
-- Calls: _tick_at
-- Tables written: pgq.queue, pgq.tick; the next event table is truncated.
-- Locks taken: the queue's row for no key update, the next event table in
--     access exclusive mode; both without waiting.
declare
    v_queue pgq.queue;
    v_first bigint;
    v_xmin  bigint;
    v_xmax  bigint;
    v_next  integer;
    v_table text;
begin
    -- A frozen snapshot would not show who has registered since.
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'queue % maint failure: rotation needs a READ COMMITTED transaction', i_queue_name
            using errcode = '25001';
    end if;

    select q.* into v_queue
    from pgq.queue q
    where q.queue_name = i_queue_name
      and q.queue_rotation_period is not null
      and q.queue_switch_step2 is not null
      and q.queue_rotation_period < pgq._age(q.queue_switch_time)
    for no key update skip locked;
    if not found then
        return 0;
    end if;

    if pg_catalog.txid_current() < v_queue.queue_switch_step1 then
        raise exception 'queue % maint failure: step1=%, current=%', i_queue_name, v_queue.queue_switch_step1,
                pg_catalog.txid_current()
            using errcode = 'PGQ09',
                  detail = 'The queue was rotated by a server whose transaction ids were ahead of this one''s.',
                  hint = 'After a restore into another server, call pgq.rebase_queue().';
    end if;

    select pg_catalog.txid_snapshot_xmax(t.tick_snapshot) into v_xmax
    from pgq.tick t
    where t.tick_queue = v_queue.queue_id
    order by t.tick_id desc
    limit 1;
    if v_xmax > pgq._next_txid() then
        raise exception 'queue % maint failure: last tick=%, next=%', i_queue_name, v_xmax, pgq._next_txid()
            using errcode = 'PGQ09',
                  detail = 'The queue was ticked by a server whose transaction ids were ahead of this one''s.',
                  hint = 'After a restore into another server, call pgq.rebase_queue().';
    end if;

    -- Nobody may need the table that is about to go: neither a consumer ...
    select min(s.sub_last_tick) into v_first from pgq.subscription s where s.sub_queue = v_queue.queue_id;
    if v_first is not null then
        select pg_catalog.txid_snapshot_xmin(t.tick_snapshot) into v_xmin
        from pgq.tick t
        where t.tick_queue = v_queue.queue_id
          and t.tick_id = v_first;
        if not found then
            raise exception 'queue % maint failure: tick % not found', i_queue_name, v_first
                using errcode = 'PGQ09', detail = 'A consumer stands at this tick.',
                      hint = 'Move it to a tick that exists with pgq.register_consumer_at(), or unregister it.';
        end if;
        if v_xmin <= v_queue.queue_switch_step2 then
            return 0;
        end if;
    end if;
    -- ... nor one who is moved back within the retention; it would begin at this
    -- tick ...
    if v_queue.queue_retention is not null then
        select pg_catalog.txid_snapshot_xmin(t.tick_snapshot) into v_xmin
        from pgq.tick t
        where t.tick_queue = v_queue.queue_id
          and t.tick_id = pgq._tick_at(v_queue.queue_id, v_queue.queue_retention);
        if not found or v_xmin <= v_queue.queue_switch_step2 then
            return 0;
        end if;
    end if;
    -- ... nor a writer who has seen it as the current one.
    if pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) <= v_queue.queue_switch_step2 then
        return 0;
    end if;

    v_next := (v_queue.queue_cur_table + 1) % v_queue.queue_ntables;
    v_table := pgq.quote_fqname(v_queue.queue_data_pfx || '_' || v_next);
    begin
        execute pg_catalog.format('lock table %s in access exclusive mode nowait', v_table);
        execute pg_catalog.format('truncate %s', v_table);
    exception
        when lock_not_available then
            -- pg_dump reads it: later
            return 0;
    end;

    update pgq.queue q
    set queue_cur_table = v_next,
        queue_switch_time = pg_catalog.now(),
        queue_switch_step1 = pg_catalog.txid_current(),
        queue_switch_step2 = null
    where q.queue_id = v_queue.queue_id;

    -- A batch that began at one of these would need the emptied table.
    delete from pgq.tick t
    where t.tick_queue = v_queue.queue_id
      and pg_catalog.txid_snapshot_xmin(t.tick_snapshot) < v_queue.queue_switch_step2;
    return 0;
end;
$$;

create or replace function pgq.maint_rotate_tables_step2() returns integer
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Finishes the rotations whose step1 everybody can see now: writers that get
-- their transaction id from here on use the new table. Belongs into a later
-- transaction than step1; rotations begun in this one are left for the next.
--
-- Returns: 0.
-- Tables written: pgq.queue
-- Locks taken: the rows; step1's transaction is waited for until it is all over.
begin
    -- Not our own id: it may be older than step1's commit.
    update pgq.queue q
    set queue_switch_step2 = pgq._next_txid(q.queue_switch_step1)
    where q.queue_switch_step2 is null
      and q.queue_switch_step1 is distinct from pg_catalog.txid_current_if_assigned();
    return 0;
end;
$$;
