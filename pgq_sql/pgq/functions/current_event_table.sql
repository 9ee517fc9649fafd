-- Name of the event table to COPY into, good until the end of the transaction;
-- see pgq_sql/pgq/lowlevel/insert_event.c.
create or replace function pgq.current_event_table(x_queue_name text) returns text
language c volatile parallel unsafe
as '$libdir/pgq_lowlevel', 'pgq_current_event_table';
