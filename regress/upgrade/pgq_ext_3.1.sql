-- What stands in for pgq_ext 3.1: tables and signatures as it had them, and bodies that
-- do nothing. Written for this test.
create schema pgq_ext;
do $$
begin
    if not exists (select from pg_roles where rolname = 'pgq_writer') then
        create role pgq_writer nologin;
    end if;
end;
$$;
create table pgq_ext.completed_tick (
    consumer_id text not null, subconsumer_id text not null default '', last_tick_id bigint not null,
    constraint completed_tick_pkey primary key (consumer_id, subconsumer_id));
create table pgq_ext.completed_batch (
    consumer_id text not null, subconsumer_id text not null default '', last_batch_id bigint not null,
    constraint completed_batch_pkey primary key (consumer_id, subconsumer_id));
create table pgq_ext.completed_event (
    consumer_id text not null, subconsumer_id text not null default '', batch_id bigint not null, event_id bigint not null,
    constraint completed_event_pkey primary key (consumer_id, subconsumer_id, batch_id, event_id));
create table pgq_ext.partial_batch (
    consumer_id text not null, subconsumer_id text not null default '', cur_batch_id bigint not null,
    constraint partial_batch_pkey primary key (consumer_id, subconsumer_id));
select pg_catalog.pg_extension_config_dump('pgq_ext.completed_tick', '');
select pg_catalog.pg_extension_config_dump('pgq_ext.completed_batch', '');
select pg_catalog.pg_extension_config_dump('pgq_ext.completed_event', '');
select pg_catalog.pg_extension_config_dump('pgq_ext.partial_batch', '');

create function pgq_ext.is_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.is_batch_done(a_consumer text, a_batch_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.set_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.set_batch_done(a_consumer text, a_batch_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.get_last_tick(a_consumer text, a_subconsumer text) returns int8 language sql as 'select 0::int8';
create function pgq_ext.get_last_tick(a_consumer text) returns int8 language sql as 'select 0::int8';
create function pgq_ext.set_last_tick(a_consumer text, a_subconsumer text, a_tick_id bigint) returns integer language sql as 'select 0';
create function pgq_ext.set_last_tick(a_consumer text, a_tick_id bigint) returns integer language sql as 'select 0';
create function pgq_ext.is_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.is_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.set_event_done(a_consumer text, a_subconsumer text, a_batch_id bigint, a_event_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.set_event_done(a_consumer text, a_batch_id bigint, a_event_id bigint) returns boolean language sql as 'select true';
create function pgq_ext.upgrade_schema() returns integer language sql as 'select 0';
create function pgq_ext.version() returns text language sql as $$ select '3.1'::text $$;

grant usage on schema pgq_ext to public;
revoke all on all functions in schema pgq_ext from public;
grant execute on all functions in schema pgq_ext to pgq_writer;
grant execute on function pgq_ext.version() to public;
