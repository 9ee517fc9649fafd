create or replace function pgq.create_queue(i_queue_name text) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Creates a queue: its row, sequences, event tables and first tick.
--
-- Returns: 1 created, 0 existed already.
-- Raises: 22004 null name.
-- Calls: grant_perms, ticker, tune_storage
-- Tables written: pgq.queue, pgq.tick; creates pgq.event_N, pgq.event_N_0 ...
declare
    v_id   integer;
    v_base text;
    v_queue pgq.queue;
begin
    if i_queue_name is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The name of the queue is NULL.';
    end if;
    perform 1 from pgq.queue q where q.queue_name = i_queue_name;
    if found then
        return 0;
    end if;

    -- A restored dump has the rows but not the position of this sequence.
    loop
        v_id := nextval('pgq.queue_queue_id_seq');
        exit when not exists (select 1 from pgq.queue q where q.queue_id = v_id);
    end loop;
    v_base := 'pgq.event_' || v_id;

    insert into pgq.queue (queue_id, queue_name, queue_data_pfx, queue_event_seq, queue_tick_seq)
    values (v_id, i_queue_name, v_base, v_base || '_id_seq', v_base || '_tick_seq')
    on conflict (queue_name) do nothing
    returning * into v_queue;
    if not found then
        return 0;
    end if;

    execute format('create sequence %s', v_queue.queue_event_seq);
    execute format('create sequence %s', v_queue.queue_tick_seq);
    execute format('create table %s () inherits (pgq.event_template)', v_base);
    for i in 0 .. v_queue.queue_ntables - 1 loop
        execute format('create table %s_%s () inherits (%1$s)', v_base, i);
        execute format('alter table %s_%s alter column ev_id set default nextval(%L)',
                       v_base, i, v_queue.queue_event_seq);
        execute format('create index %I on %s_%s (ev_txid)', format('event_%s_%s_txid_idx', v_id, i), v_base, i);
    end loop;

    perform pgq.grant_perms(i_queue_name);
    perform pgq.ticker(i_queue_name);
    perform pgq.tune_storage(i_queue_name);
    return 1;
end;
$$;
