create or replace function pgq_coop.unregister_subconsumer(
    i_queue_name text,
    i_consumer_name text,
    i_subconsumer_name text,
    i_batch_handling integer)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Ends a worker's part in a group. The batch that it has open is never lost.
--
-- Parameters: i_queue_name; i_consumer_name - the main consumer;
--     i_subconsumer_name; i_batch_handling - what if it has a batch open. 1: the
--     group's next next_batch() gets it; else: refuse.
-- Returns: 1 removed, 0 there was none.
-- Raises: 55006 it has a batch open.
-- Calls: _lock_main, _get_sub, _register, _set_batch, _remove
-- Locks taken: the main consumer's subscription for update.
declare
    v_main pgq.subscription;
    v_sub pgq.subscription;
    v_heir pgq.subscription;
begin
    v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    v_sub := pgq_coop._get_sub(v_main, i_consumer_name || '.' || i_subconsumer_name);
    if v_sub.sub_id is null then
        return 0;
    end if;
    if v_sub.sub_batch is not null and i_batch_handling is distinct from 1 then
        raise exception 'subconsumer has active batch'
            using errcode = '55006',
                  detail = format('Subconsumer "%s" of consumer "%s" has batch %s open.', i_subconsumer_name,
                                  i_consumer_name, v_sub.sub_batch),
                  hint = 'Finish it, or leave it to the others with batch handling 1.';
    end if;
    perform pgq_coop._remove(v_sub);
    if v_sub.sub_batch is not null then
        v_heir := pgq_coop._register(i_queue_name, v_main, format('%s.(batch %s)', i_consumer_name, v_sub.sub_batch));
        perform pgq_coop._set_batch(v_heir, v_sub.sub_batch, v_sub.sub_last_tick, v_sub.sub_next_tick);
    end if;
    return 1;
end;
$$;
