-- tables.sql: what schema pgq stores. Tables, columns, names and defaults are
-- an interface: clients read and update them directly.

create schema pgq;

-- Who reads: a consumer has one row, however many queues it reads.
create table pgq.consumer (
    co_id   serial  not null,
    co_name text    not null,
    constraint consumer_pkey primary key (co_id),
    constraint consumer_name_uq unique (co_name)
);

-- One row a queue: settings, and the state of its table rotation.
--   queue_cur_table      suffix of the event table that is written now
--   queue_switch_step1   transaction that made it so
--   queue_switch_step2   transactions below this one may still have missed that;
--                        null until step1 is visible to everybody
-- queue_notify: writers wake the ticker at commit, ticks wake the consumers; then
-- ticks are at least queue_ticker_min_lag apart. queue_retention: events stay at
-- least that long. queue_consumer_expiry: consumers not heard of for that long go.
create table pgq.queue (
    queue_id                  serial      not null,
    queue_name                text        not null,
    queue_ntables             integer     not null default 3,
    queue_cur_table           integer     not null default 0,
    queue_rotation_period     interval    not null default '2 hours',
    queue_switch_step1        bigint      not null default txid_current(),
    queue_switch_step2        bigint               default txid_current(),
    queue_switch_time         timestamptz not null default now(),
    queue_external_ticker     boolean     not null default false,
    queue_disable_insert      boolean     not null default false,
    queue_ticker_paused       boolean     not null default false,
    queue_ticker_max_count    integer     not null default 500,
    queue_ticker_max_lag      interval    not null default '3 seconds',
    queue_ticker_idle_period  interval    not null default '1 minute',
    queue_per_tx_limit        integer,
    queue_data_pfx            text        not null,
    queue_event_seq           text        not null,
    queue_tick_seq            text        not null,
    queue_extra_maint         text[],
    queue_notify              boolean     not null default false,
    queue_ticker_min_lag      interval    not null default '25 milliseconds',
    queue_retention           interval,
    queue_consumer_expiry     interval,
    constraint queue_pkey primary key (queue_id),
    constraint queue_name_uq unique (queue_name)
);

-- Points in a queue: what was visible when. Ids and snapshots grow together.
create table pgq.tick (
    tick_queue     int4          not null,
    tick_id        bigint        not null,
    tick_time      timestamptz   not null default now(),
    tick_snapshot  txid_snapshot not null default txid_current_snapshot(),
    tick_event_seq bigint        not null,
    constraint tick_pkey primary key (tick_queue, tick_id),
    constraint tick_queue_fkey foreign key (tick_queue) references pgq.queue (queue_id)
);

create sequence pgq.batch_id_seq;

-- Where a consumer stands in a queue. sub_batch is set while a batch is open:
-- its events lie between sub_last_tick and sub_next_tick. sub_id owns retried
-- events; cooperating subconsumers and the slots of a split consumer share one.
--   sub_paused        gets no batches
--   sub_max_retries   after so many an event is dead; null: never
--   sub_retry_delay   wait before the first retry, doubled for each further one up
--                     to sub_retry_max_delay; null: as the consumer says
--   sub_slot          with sub_slots: gets only the events whose field sub_slot_key
--                     hashes to this slot; sub_worker works on its open batch
create table pgq.subscription (
    sub_id        serial      not null,
    sub_queue     int4        not null,
    sub_consumer  int4        not null,
    sub_last_tick bigint,
    sub_active    timestamptz not null default now(),
    sub_batch     bigint,
    sub_next_tick bigint,
    sub_paused    boolean     not null default false,
    sub_max_retries     integer,
    sub_retry_delay     interval,
    sub_retry_max_delay interval not null default '1 hour',
    sub_slot      integer,
    sub_slots     integer,
    sub_slot_key  text,
    sub_worker    text,
    constraint subscription_pkey primary key (sub_queue, sub_consumer),
    constraint subscription_batch_idx unique (sub_batch),
    constraint sub_queue_fkey foreign key (sub_queue) references pgq.queue (queue_id),
    constraint sub_consumer_fkey foreign key (sub_consumer) references pgq.consumer (co_id)
);

-- Parent of all event tables; holds no rows itself.
create table pgq.event_template (
    ev_id     bigint      not null,
    ev_time   timestamptz not null,
    ev_txid   bigint      not null default txid_current(),
    ev_owner  int4,
    ev_retry  int4,
    ev_type   text,
    ev_data   text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text
);

-- Events whose time has not come: those that one consumer wants to see again
-- (ev_owner is its sub_id), delayed ones for everybody (ev_owner is the queue's
-- number, negative), and dead ones, which a consumer has given up: their
-- ev_retry_after is infinity, ev_dead_time and ev_reason tell when and why. View
-- pgq.dead_letter shows these.
create table pgq.retry_queue (
    ev_retry_after timestamptz not null,
    ev_queue       int4        not null,
    ev_id          bigint      not null,
    ev_time        timestamptz not null,
    ev_txid        bigint,
    ev_owner       int4        not null,
    ev_retry       int4,
    ev_type        text,
    ev_data        text,
    ev_extra1      text,
    ev_extra2      text,
    ev_extra3      text,
    ev_extra4      text,
    ev_dead_time   timestamptz,
    ev_reason      text,
    constraint rq_pkey primary key (ev_owner, ev_id),
    constraint rq_queue_id_fkey foreign key (ev_queue) references pgq.queue (queue_id)
);
create index rq_retry_idx on pgq.retry_queue (ev_retry_after);

-- pg_dump saves the rows of these; the tables of each queue are ordinary ones.
select pg_catalog.pg_extension_config_dump('pgq.queue', '');
select pg_catalog.pg_extension_config_dump('pgq.consumer', '');
select pg_catalog.pg_extension_config_dump('pgq.tick', '');
select pg_catalog.pg_extension_config_dump('pgq.subscription', '');
select pg_catalog.pg_extension_config_dump('pgq.event_template', '');
select pg_catalog.pg_extension_config_dump('pgq.retry_queue', '');
select pg_catalog.pg_extension_config_dump('pgq.batch_id_seq', '');
