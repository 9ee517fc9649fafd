create or replace function pgq._backoff(i_delay interval, i_max_delay interval, i_retry integer) returns interval
language sql immutable parallel safe
as $$
    -- How long a consumer's settings let an event rest that was retried so many
    -- times before: the delay, doubled each time, up to the maximum. Null without
    -- a delay. Seconds, and a century at most, for intervals would overflow.
    select case when i_delay is not null then pg_catalog.make_interval(secs => least(
        extract(epoch from i_delay)::float operator(pg_catalog.*)
            (2::float operator(pg_catalog.^) least(greatest(coalesce(i_retry, 0), 0), 60)),
        extract(epoch from i_max_delay)::float, 3e9::float)) end;
$$;

create or replace function pgq._retry_config(
    in i_sub pgq.subscription,
    out max_retries integer,
    out delay interval,
    out max_delay interval)
returns record
language sql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
    -- The retry settings of a subscription: its own, else those of its group,
    -- so that it is enough to give them to the main one.
    select s.sub_max_retries, s.sub_retry_delay, s.sub_retry_max_delay
    from pgq.subscription s
    where s.sub_id = i_sub.sub_id
    order by s.sub_max_retries is null and s.sub_retry_delay is null, s.sub_consumer <> i_sub.sub_consumer,
             s.sub_consumer
    limit 1;
$$;

create or replace function pgq._put_aside(
    in i_sub pgq.subscription,
    in i_where text,
    in i_time timestamptz,
    in i_reason text,
    in i_dead boolean,
    out n_found bigint,
    out n_put bigint)
returns record
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
set jit = off
as $$
-- Copies events of an open batch to the retry queue, in one pass over the batch.
-- Those that were retried as often as the consumer allows are dead.
--
-- Parameters: i_sub - whose batch; i_where - condition over the ev_ columns, null
--     for all; i_time - not before this; i_reason - for those that are dead; i_dead
--     - all of them are.
-- Returns: how many events there are, and how many were put aside now: a dead one
--     that is retried, or the other way round, counts again.
-- Raises: 22004 null time.
-- Calls: _batch_sql, _retry_config, _backoff
-- Tables written: pgq.retry_queue
declare
    v_config record;
begin
    if i_time is null and not i_dead then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The time of the retry is NULL.';
    end if;
    v_config := pgq._retry_config(i_sub);
    -- After the consumer was moved back, a batch may hold an event and its retry.
    execute pg_catalog.format($sql$
        with event as materialized (
            select distinct on (e.ev_id) e.*, coalesce(e.ev_retry, 0) as retries,
                   $1 or coalesce(coalesce(e.ev_retry, 0) >= $2, false) as dead
            from (%s) e
            order by e.ev_id, e.ev_retry desc nulls last),
        put as (
            insert into pgq.retry_queue as r (ev_retry_after, ev_queue, ev_id, ev_time, ev_txid, ev_owner, ev_retry,
                                              ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4,
                                              ev_dead_time, ev_reason)
            select case when e.dead then 'infinity'
                        else greatest($3, pg_catalog.now() + pgq._backoff($4, $5, e.retries)) end,
                   $6, e.ev_id, e.ev_time, null, $7, case when e.dead then e.retries else e.retries + 1 end,
                   e.ev_type, e.ev_data, e.ev_extra1, e.ev_extra2, e.ev_extra3, e.ev_extra4,
                   case when e.dead then pg_catalog.now() end,
                   case when not e.dead then null
                        when $1 then $8
                        else coalesce($8, pg_catalog.format('max_retries (%%s) reached', $2)) end
            from event e
            on conflict (ev_owner, ev_id) do update
            set ev_retry_after = excluded.ev_retry_after, ev_retry = excluded.ev_retry,
                ev_dead_time = excluded.ev_dead_time, ev_reason = excluded.ev_reason
            where (r.ev_dead_time is null) <> (excluded.ev_dead_time is null)
            returning 1)
        select (select count(*) from event), (select count(*) from put)
        $sql$, pgq._batch_sql(i_sub.sub_batch, i_where))
        into n_found, n_put
        using i_dead, v_config.max_retries, i_time, v_config.delay, v_config.max_delay,
              i_sub.sub_queue, i_sub.sub_id, i_reason;
end;
$$;

create or replace function pgq._put_aside(
    i_batch_id bigint,
    i_event_ids bigint[],
    i_time timestamptz,
    i_reason text,
    i_dead boolean)
returns integer
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts the named events of an open batch aside.
--
-- Parameters: i_batch_id; i_event_ids; the others as above.
-- Returns: how many were put aside; not those that were so already.
-- Raises: PGQ03 batch not found; PGQ04 event not in the batch.
-- Calls: _put_aside above
declare
    v_sub   pgq.subscription;
    v_put   record;
    v_lacks bigint;
begin
    select s.* into v_sub from pgq.subscription s where s.sub_batch = i_batch_id;
    if not found then
        raise exception 'event not found'
            using errcode = 'PGQ03',
                  detail = pg_catalog.format('Batch %s is not open.', coalesce(i_batch_id::text, 'NULL'));
    end if;
    -- One is often asked for, and = is cheaper to check than any.
    v_put := pgq._put_aside(v_sub,
                            case when pg_catalog.cardinality(i_event_ids) = 1
                                 then pg_catalog.format('ev_id = %L::bigint', i_event_ids[1])
                                 else pg_catalog.format('ev_id = any (%L::bigint[])', i_event_ids) end,
                            i_time, i_reason, i_dead);
    if v_put.n_found < (select count(distinct coalesce(i.id, -1)) from pg_catalog.unnest(i_event_ids) i (id)) then
        execute pg_catalog.format('select i.id from pg_catalog.unnest($1) i (id)'
                                  ' where i.id is null or i.id not in (select b.ev_id from (%s) b) limit 1',
                                  pgq._batch_sql(i_batch_id, null))
            into v_lacks using i_event_ids;
        raise exception 'event not found'
            using errcode = 'PGQ04',
                  detail = pg_catalog.format('Batch %s has no event %s.', i_batch_id, coalesce(v_lacks::text, 'NULL'));
    end if;
    return v_put.n_put;
end;
$$;

create or replace function pgq.event_retry(
    x_batch_id bigint,
    x_event_id bigint,
    x_retry_time timestamptz)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts an event of an open batch aside: its consumer gets it again later. If the
-- consumer has a limit for retries, an event that has had so many is dead instead.
--
-- Parameters: x_batch_id; x_event_id; x_retry_time - not before this, nor before
--     the consumer's retry_delay.
-- Returns: 1 put aside, 0 was so already.
-- Raises: PGQ03 batch not found; PGQ04 event not in the batch.
-- Calls: _put_aside
begin
    return pgq._put_aside(x_batch_id, array[x_event_id], x_retry_time, null, false);
end;
$$;

create or replace function pgq.event_retry(
    x_batch_id bigint,
    x_event_id bigint,
    x_retry_seconds integer)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts an event of an open batch aside for some seconds.
--
-- Returns, raises, calls: event_retry with a time
begin
    return pgq._put_aside(x_batch_id, array[x_event_id], now() + make_interval(secs => x_retry_seconds), null, false);
end;
$$;

create or replace function pgq.event_retry(
    x_batch_id bigint,
    x_event_ids bigint[],
    x_retry_time timestamptz,
    x_reason text)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts many events of an open batch aside, in one pass over the batch. It cannot be
-- called without a reason: clients that leave the type of x_event_id to the server
-- would not find the function for one event any more.
--
-- Parameters: x_batch_id; x_event_ids; x_retry_time; x_reason - kept with those
--     that are dead now; null for none.
-- Returns: how many were put aside; not those that were so already.
-- Raises, calls: event_retry of one event
begin
    return pgq._put_aside(x_batch_id, x_event_ids, x_retry_time, x_reason, false);
end;
$$;

create or replace function pgq.event_retry(
    x_batch_id bigint,
    x_event_ids bigint[],
    x_retry_seconds integer,
    x_reason text default null)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Puts many events of an open batch aside for some seconds.
--
-- Parameters, returns, raises, calls: event_retry of many with a time
begin
    return pgq._put_aside(x_batch_id, x_event_ids, now() + make_interval(secs => x_retry_seconds), x_reason, false);
end;
$$;
