-- Writes an event as the queue's owner, with a new id and the time of now();
-- see pgq_sql/pgq/lowlevel/insert_event.c. It looks nothing up by search_path,
-- so it does without a SET clause, which would cost as much as the insert.
create or replace function pgq.insert_event(
    queue_name text,
    ev_type text,
    ev_data text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text)
returns int8
language c volatile parallel unsafe security definer
as '$libdir/pgq_lowlevel', 'pgq_insert_event';

-- The short form. SQL, so that the planner replaces it by the long one.
create or replace function pgq.insert_event(
    queue_name text,
    ev_type text,
    ev_data text)
returns int8
language sql volatile parallel unsafe
as $$
    select pgq.insert_event($1, $2, $3, null::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.text);
$$;

-- JSON is stored as its text. Without defaults for the extras, so that calls with
-- untyped literals go on meaning text.
create or replace function pgq.insert_event(
    queue_name text,
    ev_type text,
    ev_data jsonb,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text)
returns int8
language sql volatile parallel unsafe
as $$
    select pgq.insert_event($1, $2, $3::pg_catalog.text, $4, $5, $6, $7);
$$;

create or replace function pgq.insert_event(
    queue_name text,
    ev_type text,
    ev_data jsonb)
returns int8
language sql volatile parallel unsafe
as $$
    select pgq.insert_event($1, $2, $3::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.text, null::pg_catalog.text);
$$;
