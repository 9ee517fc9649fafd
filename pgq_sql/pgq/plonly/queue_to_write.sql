create or replace function pgq._queue_to_write(
    in i_queue_name text,
    in i_caller text,
    in i_missing text,
    in i_disabled text,
    out queue pgq.queue,
    out table_name text,
    out event_seq regclass)
returns record
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Finds the queue that an event is to be written into, and makes sure that the
-- table it says is current still is one that batches look at.
--
-- A batch looks into the table before the current one only for transactions up to
-- queue_switch_step2, an id that was new when everybody could see the switch. So a
-- writer takes its id first and then reads the queue's row as it is at that moment:
-- "saw the old table" then means "has an id from before step2". Under READ COMMITTED
-- each statement here sees the present. A frozen snapshot does not; there the row is
-- locked, which fails if it was changed since (40001: run the transaction again),
-- and keeps it from being changed until the transaction ends.
--
-- The search_path is set here, not in those who write: what users have put on an event
-- table, triggers say, runs with the one it expects.
--
-- Parameters: i_queue_name; i_caller - the function, for messages; i_missing,
--     i_disabled - messages if there is no such queue, if it is closed.
-- Returns: the row, the current table's name in SQL, the sequence of ids.
-- Raises: 25006 read only transaction; PGQ01 queue not found; PGQ06 inserts are
--     disabled; 40001.
-- Locks taken: under REPEATABLE READ and SERIALIZABLE the queue's row for share.
declare
    v_queue pgq.queue;
begin
    if pg_catalog.current_setting('transaction_read_only')::boolean then
        raise exception 'cannot execute %() in a read-only transaction', i_caller using errcode = '25006';
    end if;
    perform pg_catalog.txid_current();
    if pg_catalog.current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
        select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name for share;
    else
        select q.* into v_queue from pgq.queue q where q.queue_name = i_queue_name;
    end if;
    if v_queue.queue_id is null then
        raise exception '%', i_missing
            using errcode = 'PGQ01',
                  detail = coalesce('There is no queue "' || i_queue_name || '".', 'The name of the queue is NULL.'),
                  hint = 'Create it with pgq.create_queue().';
    end if;
    if v_queue.queue_disable_insert and pg_catalog.current_setting('session_replication_role') <> 'replica' then
        raise exception '%', i_disabled
            using errcode = 'PGQ06',
                  detail = pg_catalog.format('Queue "%s" has queue_disable_insert set.', i_queue_name);
    end if;
    if v_queue.queue_notify then
        -- The server sends it once a transaction.
        perform pg_catalog.pg_notify('pgq_insert', i_queue_name)
        where pg_catalog.octet_length(i_queue_name) < 8000;
    end if;
    queue := v_queue;
    table_name := pgq.quote_fqname(v_queue.queue_data_pfx || '_' || v_queue.queue_cur_table);
    event_seq := pgq.quote_fqname(v_queue.queue_event_seq)::regclass;
end;
$$;

create or replace function pgq._count_events(i_queue pgq.queue, i_count integer) returns void
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Counts events that are about to be written, and refuses them beyond the queue's
-- limit for one transaction. What a savepoint takes back has counted: nothing that is
-- kept in the transaction could tell, but the server's statistics do, which also
-- know of rows that came by COPY.
--
-- Parameters: i_queue - the queue's row; i_count - how many.
-- Raises: PGQ07 too many.
declare
    v_name text := 'pgq.counted_' || i_queue.queue_id;
    v_xid  text := pg_catalog.txid_current()::text;
    v_kept text[] := pg_catalog.string_to_array(pg_catalog.current_setting(v_name, true), ':');
    v_rows bigint;
    v_from bigint;
    v_used bigint;
begin
    if i_queue.queue_per_tx_limit is null then
        return;
    end if;
    select coalesce(sum(pg_catalog.pg_stat_get_xact_tuples_inserted(i.inhrelid)), 0) into v_rows
    from pg_catalog.pg_inherits i
    where i.inhparent = pgq.quote_fqname(i_queue.queue_data_pfx)::regclass;

    -- xid : rows that were there before the first event : events
    if v_kept[1] = v_xid then
        v_from := v_kept[2];
        v_used := greatest(v_rows - v_from, v_kept[3]::bigint);
    else
        v_from := v_rows;
        v_used := 0;
    end if;
    v_used := v_used + i_count;
    perform pg_catalog.set_config(v_name, pg_catalog.concat_ws(':', v_xid, v_from, v_used), true);
    if v_used > i_queue.queue_per_tx_limit then
        raise exception 'Queue ''%'' allows max % events from one TX', i_queue.queue_name, i_queue.queue_per_tx_limit
            using errcode = 'PGQ07', hint = 'The limit is column queue_per_tx_limit of pgq.queue.';
    end if;
end;
$$;
