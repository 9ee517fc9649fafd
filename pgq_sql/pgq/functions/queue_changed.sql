-- Backends that write keep the rows of pgq.queue. This tells them when one has
-- changed, whoever changed it and in whatever session_replication_role; see
-- pgq_sql/pgq/lowlevel/queue.c.
create or replace function pgq._queue_changed() returns trigger
language c volatile parallel unsafe
as '$libdir/pgq_lowlevel', 'pgq_queue_changed';

revoke execute on function pgq._queue_changed() from public;

create or replace trigger queue_changed
    after insert or update or delete or truncate on pgq.queue
    for each statement execute function pgq._queue_changed();

alter table pgq.queue enable always trigger queue_changed;
