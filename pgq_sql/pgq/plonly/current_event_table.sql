create or replace function pgq.current_event_table(x_queue_name text) returns text
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Names the event table to COPY into, good until the end of the transaction. Runs as
-- the owner, since it may have to lock the queue's row.
--
-- Returns: name of the table.
-- Raises: PGQ01 queue not found; PGQ06 inserts are disabled; 25006; 40001.
-- Calls: _queue_to_write
declare
    v_to record := pgq._queue_to_write(x_queue_name, 'pgq.current_event_table', 'Event queue not found',
                                       'Writing to queue disabled');
begin
    return (v_to.queue).queue_data_pfx || '_' || (v_to.queue).queue_cur_table;
end;
$$;
