-- Reads a batch; see pgq_sql/pgq/lowlevel/batch_events.c. Where no library may be
-- installed, pgq_sql/pgq/plonly has it in PL/pgSQL.
--
-- Returns: all events of the batch, ordered by ev_id; the same as the query of
--     batch_event_sql. With the rights of the caller.
-- Raises: PGQ03 batch not found.
create or replace function pgq.get_batch_events(
    in x_batch_id bigint,
    out ev_id bigint,
    out ev_time timestamptz,
    out ev_txid bigint,
    out ev_retry int4,
    out ev_type text,
    out ev_data text,
    out ev_extra1 text,
    out ev_extra2 text,
    out ev_extra3 text,
    out ev_extra4 text)
returns setof record
language c volatile parallel unsafe
as '$libdir/pgq_lowlevel', 'pgq_get_batch_events';
