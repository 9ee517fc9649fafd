-- What account_ledger keeps, in the queue's own database.

create schema ledger;

create table ledger.account (
    account  text   primary key,
    balance  bigint not null check (balance >= 0),
    bookings bigint not null
);

select pgq.create_queue('bookings');

-- Withdrawals without cover are tried again after 1, 2, 4 … minutes, ten times.
select pgq.register_slots('bookings', 'account_ledger', 8);
select pgq.set_consumer_config('bookings', 'account_ledger', 'max_retries', '10');
select pgq.set_consumer_config('bookings', 'account_ledger', 'retry_delay', '1 minute');
