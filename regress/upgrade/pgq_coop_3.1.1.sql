-- What stands in for pgq_coop 3.1.1: signatures as it had them, and bodies that do
-- nothing. Written for this test.
create schema pgq_coop;
create function pgq_coop.register_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns integer language sql as 'select 0';
create function pgq_coop.unregister_subconsumer(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_batch_handling integer)
returns integer language sql as 'select 0';
create function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns bigint language sql as 'select 0::bigint';
create function pgq_coop.next_batch(i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_dead_interval interval)
returns bigint language sql as 'select 0::bigint';
create function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_min_lag interval, i_min_count integer, i_min_interval interval)
returns bigint language sql as 'select 0::bigint';
create function pgq_coop.next_batch_custom(i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_min_lag interval, i_min_count integer, i_min_interval interval, i_dead_interval interval)
returns bigint language sql as 'select 0::bigint';
create function pgq_coop.finish_batch(i_batch_id bigint) returns integer language sql as 'select 0';
create function pgq_coop.version() returns text language sql as $$ select '3.1.1'::text $$;

grant usage on schema pgq_coop to public;
revoke all on all functions in schema pgq_coop from public;
grant execute on all functions in schema pgq_coop to pgq_reader;
revoke execute on function pgq_coop.version() from pgq_reader;
grant execute on function pgq_coop.version() to public;
