create or replace function pgq._lock_ticks(i_queue pgq.queue, i_wait boolean) returns boolean
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets nobody else tick a queue until the transaction ends.
--
-- Parameters: i_queue - the queue's row; i_wait - wait for another session.
-- Returns: whether the lock is held; never false with i_wait.
-- Locks taken: the parent of the event tables, which neither writers nor
--     readers touch, in share update exclusive mode. An advisory lock would be
--     anybody's to take.
declare
    v_lock text := pg_catalog.format('lock table only %s in share update exclusive mode',
                                     pgq.quote_fqname(i_queue.queue_data_pfx));
begin
    if i_wait then
        execute v_lock;
        return true;
    end if;
    begin
        execute v_lock || ' nowait';
        return true;
    exception
        when lock_not_available then
            return false;
    end;
end;
$$;

create or replace function pgq._notify_tick(i_queue pgq.queue, i_tick_id bigint) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Wakes the consumers of a queue when the transaction that ticks commits, if
-- the queue has queue_notify set.
--
-- Parameters: i_queue - the queue's row; i_tick_id - what they are told.
begin
    if i_queue.queue_notify then
        perform pg_catalog.pg_notify('pgq_tick_' || i_queue.queue_id, i_tick_id::text);
    end if;
end;
$$;

create or replace function pgq._check_txids(i_queue pgq.queue, i_last pgq.tick) returns void
language plpgsql volatile parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Refuses to go on from a tick whose snapshot knows transaction ids that this
-- server has not given yet: events that get them now would count as seen.
--
-- Parameters: i_queue - the queue's row; i_last - its last tick.
-- Raises: PGQ09.
declare
    v_xmax bigint := pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot());
begin
    if pg_catalog.txid_snapshot_xmax(i_last.tick_snapshot) > v_xmax then
        raise exception 'Invalid PgQ state: old xmin=%, old xmax=%, cur txid=%',
                pg_catalog.txid_snapshot_xmin(i_last.tick_snapshot),
                pg_catalog.txid_snapshot_xmax(i_last.tick_snapshot), v_xmax
            using errcode = 'PGQ09',
                  detail = pg_catalog.format('Tick %s of queue "%s" was made by a server whose transaction '
                                             'ids were ahead of this one''s.',
                                             i_last.tick_id, i_queue.queue_name),
                  hint = 'After a restore into another server, call pgq.rebase_queue().';
    end if;
end;
$$;

create or replace function pgq._tick(
    in i_queue pgq.queue,
    in i_wait boolean,
    in i_woken boolean,
    out tick_id bigint,
    out again interval)
returns record
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Makes a tick if one is due.
--
-- Parameters: i_queue - the queue's row; i_wait - if another session is ticking
--     this queue: wait for it (true), or leave it to that one (false); i_woken -
--     a writer has sent word: a tick is due as soon as it can show something.
-- Returns: tick id, null when none was made; if woken: when to look again, null
--     for not before the next word.
-- Raises: PGQ09 transaction ids run backwards; 40001.
-- Tables written: pgq.tick
-- Calls: _check_txids, _event_count, _lock_ticks, _notify_tick
-- Locks taken: that of _lock_ticks, only when a tick is due. It makes snapshots
--     grow with tick ids.
declare
    -- Writers send word at most once in 20 ms; what follows unannounced is
    -- found by looking on for a while.
    v_watch constant interval := '100 milliseconds';
    v_last  pgq.tick;
    v_prev  timestamptz;
    v_now   txid_snapshot;
    v_seq   bigint;
    v_new   bigint;
    v_seen  boolean;
    v_lag   interval;
begin
    -- First without the lock, so that a queue with nothing to do costs no
    -- write; then again under it, since somebody else may have ticked.
    for v_pass in 1 .. 2 loop
        v_seq := pgq._event_count(i_queue);
        select t.* into v_last
        from pgq.tick t
        where t.tick_queue = i_queue.queue_id
        order by t.tick_id desc
        limit 1;
        if found then
            v_now := pg_catalog.txid_current_snapshot();
            v_new := v_seq - v_last.tick_event_seq;
            v_lag := pgq._age(v_last.tick_time, pg_catalog.clock_timestamp());

            perform pgq._check_txids(i_queue, v_last);
            -- Before 4.0 the first tick had 1 where no event had come.
            if v_pass = 1 and v_new < 0 and (v_seq > 0 or v_last.tick_event_seq > 1) then
                raise warning 'Negative new_events?  old=% cur=%', v_last.tick_event_seq,
                    pgq.seq_getval(i_queue.queue_event_seq);
            end if;

            -- A last tick in the future means that the clock was set back.
            if i_woken then
                -- What the last tick does not show has moved the sequence since,
                -- or was counted before it was committed. Its transaction is
                -- then one that this tick lists as running, or a later one; its
                -- bare end proves nothing, for all databases end transactions.
                if v_new <= 0 then
                    execute pg_catalog.format(
                        'select (select max(ev_txid) from %1$s where ev_txid >= $1) is not null'
                        ' or exists (select 1 from %1$s where ev_txid = any ($2))',
                        pgq.quote_fqname(i_queue.queue_data_pfx))
                        into v_seen
                        using pg_catalog.txid_snapshot_xmax(v_last.tick_snapshot),
                              array(select x.txid
                                    from pg_catalog.txid_snapshot_xip(v_last.tick_snapshot) x (txid)
                                    where pg_catalog.txid_visible_in_snapshot(x.txid, v_now));
                    if not v_seen then
                        if v_lag >= interval '0' and v_lag < v_watch then
                            again := v_watch / 2;
                        end if;
                        return;
                    end if;
                end if;
                if v_lag >= interval '0' and v_lag < i_queue.queue_ticker_min_lag then
                    again := i_queue.queue_ticker_min_lag - v_lag;
                    return;
                end if;
            elsif v_lag >= interval '0' then
                if v_new > 0 then
                    if v_new < i_queue.queue_ticker_max_count and v_lag < i_queue.queue_ticker_max_lag then
                        return;
                    end if;
                else
                    -- Nothing new was counted, but what was counted may have
                    -- committed since. Look ever more rarely.
                    select t.tick_time into v_prev
                    from pgq.tick t
                    where t.tick_queue = i_queue.queue_id
                      and t.tick_id < v_last.tick_id
                    order by t.tick_id desc
                    limit 1;
                    if found and (v_lag < i_queue.queue_ticker_max_lag / 2
                                  or (v_lag < pgq._age(v_prev, v_last.tick_time) * 2
                                      and v_lag < i_queue.queue_ticker_idle_period)) then
                        return;
                    end if;
                end if;
            end if;
        end if;

        if v_pass = 1 and not pgq._lock_ticks(i_queue, i_wait) then
            if i_woken then
                again := v_watch / 4;
            end if;
            return;
        end if;
    end loop;

    -- A frozen snapshot cannot show ticks made after it, and may be older than
    -- theirs: a tick with it would send events twice.
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable')
       and v_last.tick_id is distinct from pgq.seq_getval(i_queue.queue_tick_seq)
       and v_last.tick_id is not null then
        raise exception 'could not serialize access: queue % was ticked after this transaction began',
                i_queue.queue_name
            using errcode = '40001', hint = 'Tick in a READ COMMITTED transaction.';
    end if;

    -- v_seq was read before this statement's snapshot: an event that is in the
    -- snapshot and not in the count makes the next tick come sooner, the other
    -- way round it would come late.
    insert into pgq.tick as t (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
    values (i_queue.queue_id, pg_catalog.nextval(pgq.quote_fqname(i_queue.queue_tick_seq)::regclass), default, default,
            v_seq)
    returning t.tick_id into tick_id;
    perform pgq._notify_tick(i_queue, tick_id);
    if i_woken then
        again := greatest(i_queue.queue_ticker_min_lag, v_watch / 4);
    end if;
end;
$$;

create or replace function pgq.tick_channel(i_queue_name text) returns text
language plpgsql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Names the channel that consumers of a queue LISTEN to: each tick sends its id.
--
-- Returns: name of the channel, null while the queue has queue_notify off.
-- Raises: PGQ01 queue not found.
declare
    v_channel text;
begin
    select case when q.queue_notify then 'pgq_tick_' || q.queue_id end into v_channel
    from pgq.queue q
    where q.queue_name = i_queue_name;
    if not found then
        raise exception 'Event queue not found'
            using errcode = 'PGQ01', detail = pg_catalog.format('There is no queue "%s".', i_queue_name),
                  hint = 'Create it with pgq.create_queue().';
    end if;
    return v_channel;
end;
$$;

create or replace function pgq.ticker(
    i_queue_name text,
    i_tick_id bigint,
    i_orig_timestamp timestamptz,
    i_event_seq bigint)
returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Inserts a tick that was made elsewhere: a copy of a queue keeps the tick ids
-- of the original.
--
-- Parameters: i_queue_name; i_tick_id, i_orig_timestamp, i_event_seq - of the
--     original tick.
-- Returns: i_tick_id.
-- Raises: 22004 a null; PGQ06 queue not found, or has not an external ticker, or
--     is paused; PGQ09, also for an id below the last tick's: consumers have read
--     past it, and would get its events twice; 23505 the tick is there.
-- Calls: _lock_ticks, _check_txids, seq_setval, _notify_tick
-- Tables written: pgq.tick
-- Locks taken: as _tick
declare
    v_queue pgq.queue;
    v_last  pgq.tick;
begin
    if i_tick_id is null or i_orig_timestamp is null or i_event_seq is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The id, the time or the event counter of the tick is NULL.';
    end if;
    select q.* into v_queue
    from pgq.queue q
    where q.queue_name = i_queue_name
      and q.queue_external_ticker
      and not q.queue_ticker_paused;
    if not found then
        raise exception 'queue not found or ticker disabled: %', i_queue_name
            using errcode = 'PGQ06',
                  hint = 'Given ticks go into queues with queue_external_ticker set and queue_ticker_paused not set.';
    end if;
    perform pgq._lock_ticks(v_queue, true);
    select t.* into v_last
    from pgq.tick t
    where t.tick_queue = v_queue.queue_id
    order by t.tick_id desc
    limit 1;
    perform pgq._check_txids(v_queue, v_last);
    if i_tick_id < v_last.tick_id then
        raise exception 'tick % comes after tick % of queue %', i_tick_id, v_last.tick_id, i_queue_name
            using errcode = 'PGQ09', detail = 'The ids of ticks have to grow.',
                  hint = 'Is something else ticking this queue?';
    end if;
    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
    values (v_queue.queue_id, i_tick_id, i_orig_timestamp, default, i_event_seq);
    perform pgq.seq_setval(v_queue.queue_tick_seq, i_tick_id);
    perform pgq.seq_setval(v_queue.queue_event_seq, i_event_seq);
    perform pgq._notify_tick(v_queue, i_tick_id);
    return i_tick_id;
end;
$$;

create or replace function pgq.ticker(i_queue_name text) returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Makes a tick in one queue if one is due. Waits if another session is ticking
-- it.
--
-- Returns: tick id, null when no tick was due.
-- Raises: PGQ01 queue not found; PGQ06 external ticker, or paused; what _tick
--     raises.
-- Calls: _tick
declare
    v_queue pgq.queue;
begin
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'no such queue'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', i_queue_name),
                  hint = 'Create it with pgq.create_queue().';
    end if;
    if v_queue.queue_external_ticker then
        raise exception 'This queue has external tick source.'
            using errcode = 'PGQ06', detail = format('Queue "%s" gets its ticks from elsewhere.', i_queue_name);
    end if;
    if v_queue.queue_ticker_paused then
        raise exception 'Ticker has been paused for this queue'
            using errcode = 'PGQ06', detail = format('Queue "%s" is paused.', i_queue_name),
                  hint = 'Set ticker_paused to false with pgq.set_queue_config().';
    end if;
    return (pgq._tick(v_queue, true, false)).tick_id;
end;
$$;

create or replace function pgq.ticker() returns bigint
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Makes a tick in every queue where one is due; not in paused queues, not in
-- those with an external ticker, not where another session is ticking. A queue
-- that fails gives a warning and stops no other.
--
-- Returns: number of queues ticked.
-- Calls: _tick
declare
    v_queue pgq.queue;
    v_count bigint := 0;
begin
    for v_queue in
        select q.*
        from pgq.queue q
        where not q.queue_external_ticker
          and not q.queue_ticker_paused
        order by q.queue_name
    loop
        begin
            if (pgq._tick(v_queue, false, false)).tick_id is not null then
                v_count := v_count + 1;
            end if;
        exception
            when others then
                raise warning 'ticker: queue %: %', v_queue.queue_name, sqlerrm
                    using errcode = sqlstate, table = v_queue.queue_name; -- whole, for programs
        end;
    end loop;
    return v_count;
end;
$$;

create or replace function pgq.ticker_wake(
    in i_queue_name text,
    out tick_id bigint,
    out again interval)
returns record
language plpgsql volatile parallel unsafe security definer
set jit = off
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Ticks a queue after its writers have sent word on channel pgq_insert: at once
-- if an event may have become visible since its last tick, but not sooner than
-- queue_ticker_min_lag after that. The ticker calls it with the payload, and
-- again when told to.
--
-- Parameters: i_queue_name
-- Returns: tick_id - the tick made, null if none was; again - call again after so
--     long, null: nothing is left, wait for the next word. Both null for a queue
--     that does not exist (anybody may send a word), has queue_notify off, is
--     paused or has an external ticker.
-- Raises: what _tick raises.
-- Calls: _tick
declare
    v_queue pgq.queue;
begin
    select q.* into v_queue
    from pgq.queue q
    where q.queue_name = i_queue_name
      and q.queue_notify
      and not q.queue_external_ticker
      and not q.queue_ticker_paused;
    if found then
        select t.tick_id, t.again into tick_id, again from pgq._tick(v_queue, false, true) t;
    end if;
end;
$$;
