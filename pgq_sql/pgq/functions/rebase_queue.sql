create or replace function pgq._advance_seq(i_seq_name text, i_value bigint, i_spare bigint) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets a sequence go on behind a value that is in use, if it does not already.
--
-- Parameters: i_seq_name - [schema.]name; i_value - null for nothing in use;
--     i_spare - how much further to go then, where others may draw from it at
--     the same time.
declare
    v_last bigint;
    v_called boolean;
begin
    execute 'select last_value, is_called from ' || pgq.quote_fqname(i_seq_name) into v_last, v_called;
    if i_value > v_last or i_value = v_last and not v_called then
        perform pg_catalog.setval(pgq.quote_fqname(i_seq_name)::regclass, i_value + i_spare);
    end if;
end;
$$;

create or replace function pgq._full_txid(i_xid xid, i_now bigint) returns bigint
language sql immutable parallel safe
as $$
    -- The latest transaction up to i_now whose short id is i_xid.
    select i_now operator(pg_catalog.-)
           (((i_now operator(pg_catalog.&) 4294967295) operator(pg_catalog.-) i_xid::pg_catalog.text::bigint)
            operator(pg_catalog.&) 4294967295);
$$;

create or replace function pgq._is_foreign(i_queue pgq.queue) returns boolean
language plpgsql volatile parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Whether a queue knows transaction ids that this server has not given yet.
declare
    v_txid bigint;
begin
    if i_queue.queue_switch_step1 > pgq._next_txid() or i_queue.queue_switch_step2 > pgq._next_txid() then
        return true;
    end if;
    select max(pg_catalog.txid_snapshot_xmax(t.tick_snapshot)) into v_txid
    from pgq.tick t
    where t.tick_queue = i_queue.queue_id;
    if v_txid > pgq._next_txid() then
        return true;
    end if;
    for i in i_queue.queue_ntables - 1 .. i_queue.queue_ntables loop
        execute pg_catalog.format('select max(ev_txid) from %s', pgq.quote_fqname(
                    i_queue.queue_data_pfx || '_' || (i_queue.queue_cur_table + i) % i_queue.queue_ntables))
            into v_txid;
        if v_txid >= pgq._next_txid() then
            return true;
        end if;
    end loop;
    return false;
end;
$$;

create or replace function pgq.rebase_queue(i_queue_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
set client_min_messages = warning
as $$
-- Repairs a queue that came from a server whose transaction ids were ahead of this
-- one's: writes its ticks and events anew with ids of this server. Each consumer
-- gets what it had not finished, whatever was written since the restore included.
-- Sequences that lag behind the rows are advanced in any case.
--
-- It works because nothing of an old server is in progress any more: of an event
-- counts only which ticks show it. So each event gets an id for the first tick
-- that shows it, and each tick a snapshot that shows the ids up to its own; all of
-- them below the oldest transaction that runs now. Whatever is written from here
-- on has a higher one.
--
-- Open batches go on under another id: whoever is reading one at this moment may
-- see half of it, and must not be able to finish it. Batch ids leap, lest they
-- meet those that were given between dump and restore.
--
-- Returns: 1 repaired; 0 there was no need.
-- Raises: PGQ01 queue not found; 25001 unless the transaction is READ COMMITTED, or
--     it has rotated the queue; 55000 the server has given too few ids.
-- Calls: _is_foreign, _full_txid, _advance_seq
-- Tables written: pgq.tick, queue, subscription, the event tables
-- Locks taken: as a ticker. Only if there is need, the queue's row for update, its
--     subscriptions, and its event tables in access exclusive mode: writers wait.
declare
    v_queue   pgq.queue;
    v_parent  text;
    v_table   text;
    v_foreign bigint;
    v_now     bigint;
    v_top     bigint;
    v_max     bigint;
    v_max_id  bigint;
    v_keep    bigint;
    v_spare   bigint;
    v_room    bigint;
    v_first   bigint;
    v_none    constant bigint := 9223372036854775807;
begin
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        raise exception 'queue % cannot be rebased: that needs a READ COMMITTED transaction', i_queue_name
            using errcode = '25001';
    end if;
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    if not found then
        raise exception 'Queue not found'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', i_queue_name);
    end if;

    -- Sequences, which a restore of data alone leaves behind.
    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('select max(ev_id) from %s', pgq.quote_fqname(v_queue.queue_data_pfx || '_' || i)) into v_max;
        v_max_id := greatest(v_max_id, v_max);
    end loop;
    select greatest(v_max_id, max(r.ev_id)) into v_max_id from pgq.retry_queue r where r.ev_queue = v_queue.queue_id;
    perform pgq._lock_ticks(v_queue, true);
    -- A tick counts one for a sequence that was not used yet.
    select greatest(v_max_id, max(t.tick_event_seq) - 1), max(t.tick_id) into v_max_id, v_max
    from pgq.tick t
    where t.tick_queue = v_queue.queue_id;
    perform pgq._advance_seq(v_queue.queue_event_seq, v_max_id, 1000);
    perform pgq._advance_seq(v_queue.queue_tick_seq, v_max, 0);
    select max(s.sub_batch) into v_max from pgq.subscription s;
    perform pgq._advance_seq('pgq.batch_id_seq', v_max, 1000);

    if not pgq._is_foreign(v_queue) then
        return 0;
    end if;
    v_parent := pgq.quote_fqname(v_queue.queue_data_pfx);
    execute format('lock table only %s in access exclusive mode', v_parent);
    select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name for update;
    if not found or not pgq._is_foreign(v_queue) then
        return 0;
    end if;
    perform 1 from pgq.subscription s where s.sub_queue = v_queue.queue_id order by s.sub_consumer for update;
    execute format('lock table %s in access exclusive mode', v_parent);
    if v_queue.queue_switch_step1 = txid_current() then
        raise exception 'queue % cannot be rebased by the transaction that rotates it', i_queue_name
            using errcode = '25001';
    end if;

    -- All below this are done, and the writers' among them visible.
    v_top := txid_snapshot_xmin(txid_current_snapshot()) - 1;
    v_now := pgq._next_txid();

    -- Ticks up to this one are the old server's, later ones may have been made here.
    select coalesce(max(t.tick_id), 0) into v_foreign
    from pgq.tick t
    where t.tick_queue = v_queue.queue_id
      and txid_snapshot_xmax(t.tick_snapshot) > v_now;

    -- A young server has given few ids. Then keep where somebody stands, the ends,
    -- and as many of the others as there are ids for.
    drop table if exists pg_temp.pgq_rebase_tick, pg_temp.pgq_rebase_txid;
    create temporary table pgq_rebase_tick on commit drop as
        select t.tick_id, t.tick_snapshot, txid_snapshot_xmax(t.tick_snapshot) as tick_xmax,
               t.tick_id <= v_foreign as foreign_tick,
               exists (select 1
                       from pgq.subscription s
                       where s.sub_queue = v_queue.queue_id
                         and t.tick_id in (s.sub_last_tick, s.sub_next_tick))
               or t.tick_id in (min(t.tick_id) over (), max(t.tick_id) over ()) as needed
        from pgq.tick t
        where t.tick_queue = v_queue.queue_id;
    select count(*) filter (where r.needed), count(*) filter (where not r.needed) into v_keep, v_spare
    from pg_temp.pgq_rebase_tick r;
    v_room := v_top - 2 - v_keep;
    if v_room < 0 then
        raise exception 'queue % cannot be rebased: the server has given % transaction ids, it takes %',
                i_queue_name, v_top, v_keep + 2
            using errcode = '55000', hint = 'Run as many transactions that write something, then try again.';
    end if;
    if v_spare > v_room then
        delete from pg_temp.pgq_rebase_tick r
        using (select s.tick_id, row_number() over (order by s.tick_id) as nr
               from pg_temp.pgq_rebase_tick s
               where not s.needed) n
        where r.tick_id = n.tick_id
          and (v_room = 0 or n.nr % ((v_spare + v_room - 1) / v_room) <> 0);
        delete from pgq.tick t
        where t.tick_queue = v_queue.queue_id
          and not exists (select 1 from pg_temp.pgq_rebase_tick r where r.tick_id = t.tick_id);
    end if;
    create index on pg_temp.pgq_rebase_tick (foreign_tick, tick_xmax, tick_id);
    select min(r.tick_id) into v_first from pg_temp.pgq_rebase_tick r where not r.foreign_tick;

    -- Which tick shows a transaction first. Written here is what its row says: no
    -- earlier transaction than the event's id wrote it. An old tick that shows it
    -- says nothing then; but who read on from there to the first tick made here has
    -- missed it.
    create temporary table pgq_rebase_txid (
        ev_txid bigint not null, is_foreign boolean not null, tick_id bigint, new_txid bigint) on commit drop;
    for i in v_queue.queue_ntables - 1 .. v_queue.queue_ntables loop
        v_table := pgq.quote_fqname(
            v_queue.queue_data_pfx || '_' || (v_queue.queue_cur_table + i) % v_queue.queue_ntables);
        execute format('insert into pg_temp.pgq_rebase_txid (ev_txid, is_foreign)'
                       ' select distinct e.ev_txid, e.ev_txid > pgq._full_txid(e.xmin, $1) from %s e', v_table)
            using v_now;
    end loop;
    analyze pg_temp.pgq_rebase_tick;
    update pg_temp.pgq_rebase_txid x
    set tick_id = coalesce(case when x.is_foreign then coalesce(o.tick_id, l.tick_id)
                                when o.tick_id is null or l.tick_id > v_first then l.tick_id end, v_none)
    from pg_temp.pgq_rebase_txid y
    left join lateral (
        select r.tick_id
        from pg_temp.pgq_rebase_tick r
        where r.foreign_tick
          and r.tick_xmax > y.ev_txid
          and txid_visible_in_snapshot(y.ev_txid, r.tick_snapshot)
        order by r.tick_xmax, r.tick_id
        limit 1) o on true
    left join lateral (
        select r.tick_id
        from pg_temp.pgq_rebase_tick r
        where not r.foreign_tick
          and r.tick_xmax > y.ev_txid
          and txid_visible_in_snapshot(y.ev_txid, r.tick_snapshot)
        order by r.tick_xmax, r.tick_id
        limit 1) l on true
    where x.ctid = y.ctid;

    -- New ids, in the order of ticks; the last one for what no tick shows.
    update pg_temp.pgq_rebase_txid x
    set new_txid = v_top - n.nr
    from (select t.tick_id, row_number() over (order by t.tick_id desc) - case when v_none = max(t.tick_id) over ()
                                                                              then 1 else 0 end as nr
          from (select distinct y.tick_id from pg_temp.pgq_rebase_txid y) t) n
    where x.tick_id = n.tick_id;
    create index on pg_temp.pgq_rebase_txid (ev_txid);
    analyze pg_temp.pgq_rebase_txid;

    for i in v_queue.queue_ntables - 1 .. v_queue.queue_ntables loop
        v_table := pgq.quote_fqname(
            v_queue.queue_data_pfx || '_' || (v_queue.queue_cur_table + i) % v_queue.queue_ntables);
        execute format('update %s e set ev_txid = x.new_txid from (select distinct * from pg_temp.pgq_rebase_txid) x'
                       ' where x.ev_txid = e.ev_txid and x.is_foreign = (e.ev_txid > pgq._full_txid(e.xmin, $1))',
                       v_table)
            using v_now;
    end loop;

    -- Ticks show the ids up to their own; those before the first one show none.
    select count(distinct x.tick_id) into v_spare from pg_temp.pgq_rebase_txid x where x.tick_id <> v_none;
    update pgq.tick t
    set tick_snapshot = format('%s:%1$s:', n.new_xmax)::txid_snapshot
    from (select r.tick_id, coalesce(max(x.new_txid) over (order by r.tick_id) + 1, v_top - v_spare) as new_xmax
          from pg_temp.pgq_rebase_tick r
          left join (select distinct y.tick_id, y.new_txid from pg_temp.pgq_rebase_txid y) x on x.tick_id = r.tick_id) n
    where t.tick_queue = v_queue.queue_id
      and t.tick_id = n.tick_id;

    -- Old ticks look into both tables. So do all those that still have to show what
    -- runs now.
    update pgq.queue q
    set queue_switch_step1 = 1, queue_switch_step2 = pgq._next_txid()
    where q.queue_id = v_queue.queue_id;

    perform setval('pgq.batch_id_seq', nextval('pgq.batch_id_seq') + 1000000);
    update pgq.subscription s
    set sub_batch = nextval('pgq.batch_id_seq')
    where s.sub_queue = v_queue.queue_id
      and s.sub_batch is not null;
    drop table pg_temp.pgq_rebase_tick, pg_temp.pgq_rebase_txid;
    return 1;
end;
$$;
