-- What webhook_caller works with, in a database with the extension pgq.

select pgq.create_queue('orders');

-- A call that fails is tried again after 30 s, 1, 2, 4 … minutes, eight times.
select pgq.register_consumer('orders', 'webhook_caller');
select pgq.set_consumer_config('orders', 'webhook_caller', 'max_retries', '8');
select pgq.set_consumer_config('orders', 'webhook_caller', 'retry_delay', '30 seconds');
