-- aside.sql: the table of events that are put aside, which 3.1 does not have.

-- the events of the batch applied last that are not done: their consumer wants them
-- put back into the queue, or given up, when it finishes the batch there
create table pgq_ext.event_aside (
    consumer_id     text        not null,
    subconsumer_id  text        not null default '',
    batch_id        bigint      not null,
    event_id        bigint      not null,
    retry_seconds   integer,    -- null: given up
    reason          text,

    constraint event_aside_pkey primary key (consumer_id, subconsumer_id, batch_id, event_id)
);

select pg_catalog.pg_extension_config_dump('pgq_ext.event_aside', '');
