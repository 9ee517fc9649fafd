create or replace function pgq_coop.register_subconsumer(
    i_queue_name text,
    i_consumer_name text,
    i_subconsumer_name text)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Lets a worker share the batches of a consumer, which is registered too if it
-- is not yet. next_batch() does this by itself.
--
-- Parameters: i_queue_name; i_consumer_name - the main consumer;
--     i_subconsumer_name - the worker's own name, without the consumer's.
-- Returns: 1 newly registered, 0 registered already.
-- Raises: PGQ01 queue not found; 22004 a null name; 22023 the names do not make a
--     group.
-- Calls: pgq.register_consumer, _lock_main, _get_sub, _register
-- Locks taken: the main consumer's subscription for update.
declare
    v_name text := i_consumer_name || '.' || i_subconsumer_name;
    v_main pgq.subscription;
    v_sub pgq.subscription;
begin
    if v_name is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The name of the consumer or of the subconsumer is NULL.';
    end if;
    perform pgq.register_consumer(i_queue_name, i_consumer_name);
    v_main := pgq_coop._lock_main(i_queue_name, i_consumer_name);
    v_sub := pgq_coop._get_sub(v_main, v_name);
    if v_sub.sub_id is not null then
        return 0;
    end if;
    perform pgq_coop._register(i_queue_name, v_main, v_name);
    return 1;
end;
$$;
