-- tables.sql: what a target database remembers of the batches it has applied.
--
-- One row a consumer, except completed_event. A consumer that shares its work
-- between several workers tells them apart by subconsumer_id; '' is a consumer
-- that works alone.

create schema pgq_ext;

-- the tick up to which everything is applied (consumers that track ticks)
create table pgq_ext.completed_tick (
    consumer_id     text        not null,
    subconsumer_id  text        not null default '',
    last_tick_id    bigint      not null,

    constraint completed_tick_pkey primary key (consumer_id, subconsumer_id)
);

-- the last batch that is applied as a whole (consumers that track batches)
create table pgq_ext.completed_batch (
    consumer_id     text        not null,
    subconsumer_id  text        not null default '',
    last_batch_id   bigint      not null,

    constraint completed_batch_pkey primary key (consumer_id, subconsumer_id)
);

-- the applied events of the batch that partial_batch names
create table pgq_ext.completed_event (
    consumer_id     text        not null,
    subconsumer_id  text        not null default '',
    batch_id        bigint      not null,
    event_id        bigint      not null,

    constraint completed_event_pkey primary key (consumer_id, subconsumer_id, batch_id, event_id)
);

-- the batch that is being applied event by event (consumers that track events)
create table pgq_ext.partial_batch (
    consumer_id     text        not null,
    subconsumer_id  text        not null default '',
    cur_batch_id    bigint      not null,

    constraint partial_batch_pkey primary key (consumer_id, subconsumer_id)
);

-- The positions are data: a restored dump without them would apply batches twice.
select pg_catalog.pg_extension_config_dump('pgq_ext.completed_tick', '');
select pg_catalog.pg_extension_config_dump('pgq_ext.completed_batch', '');
select pg_catalog.pg_extension_config_dump('pgq_ext.completed_event', '');
select pg_catalog.pg_extension_config_dump('pgq_ext.partial_batch', '');
