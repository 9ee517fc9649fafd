-- queue.sql: the queue database of the demo: one queue for all partitions' events, and the
-- reporting tables that the consumer fills.
\set ON_ERROR_STOP 1
set client_min_messages = warning;

create extension pgq;
create extension pgq_ext;
do $$ begin
    perform pgq.create_queue('all_events');
    perform pgq.set_queue_config('all_events', 'ticker_max_lag', '200 milliseconds');
    -- An event that commits just behind a tick waits for the next: with none after it, for an idle one.
    perform pgq.set_queue_config('all_events', 'ticker_idle_period', '2 seconds');
end $$;
