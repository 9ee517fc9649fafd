-- The report that user_report keeps. The database also needs the extension pgq_ext.

create schema report;

-- The users of all partitions, as they were at the last event.
create table report.users (
    username    text primary key,
    email       text,
    score       bigint not null,
    updated     timestamptz         -- when the user was last changed
);

create table report.logins (
    username    text primary key,
    logins      bigint not null
);

-- A row for each batch that had events; ticks of an idle queue leave none.
create table report.batches (
    batch_id    bigint not null,
    events      bigint not null,
    ev_min_time timestamptz not null,
    ev_max_time timestamptz not null,
    done_at     timestamptz not null default clock_timestamp()
);

-- How long events took from the transaction that made them to the report.
create table report.latency (
    seconds     double precision not null,
    events      bigint not null
);

-- The latency that the given share of all events did not exceed: 0.5 for the median.
create function report.latency_percentile(i_share double precision) returns double precision
language sql stable
as $$
    select min(l.seconds)
      from (select seconds,
                   sum(events) over (order by seconds) as so_far,
                   sum(events) over () as total
              from report.latency) l
     where l.so_far >= i_share * l.total
$$;
