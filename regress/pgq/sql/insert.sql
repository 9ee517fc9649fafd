--
-- Ways of writing events, and what refuses them.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('insert');
select pgq.insert_event('insert', 'short', 'data');
select pgq.insert_event('insert', 'long', 'data', 'e1', 'e2', 'e3', 'e4');
select pgq.insert_event('insert', null, null);
select pgq.insert_event(queue_name => 'insert', ev_type => 'named', ev_data => 'data', ev_extra1 => 'e1',
                        ev_extra2 => null, ev_extra3 => null, ev_extra4 => null);
select pgq.insert_event_raw('insert', null, null, null, null, 'raw', 'defaults', null, null, null, null);
-- a given id does not become the returned sequence value, but the sequence moves
select pgq.insert_event_raw('insert', 1000, '2001-02-03 04:05:06+00', 5, 6, 'raw', 'all given', '1', '2', '3', '4');
select pgq.insert_event('insert', 'after raw', null);

-- the table by name
begin;
do $$
begin
    execute 'insert into ' || pgq.current_event_table('insert') || ' (ev_time, ev_type) values (now(), ''copied'')';
end;
$$;
commit;

set timezone = 'UTC';
select ev_id, case when ev_time > '2020-01-01' then 'now' else ev_time::text end as ev_time, ev_owner, ev_retry, ev_type,
       ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4
from pgq.event_template
order by ev_txid, ev_id;

-- within a transaction: its time, its id, also from savepoints
begin;
select pgq.insert_event('insert', 'top', null) > 0 as inserted;
savepoint s;
select pgq.insert_event('insert', 'sub', null) > 0 as inserted;
release s;
select ev_type, ev_time = now() as time, ev_txid = txid_current() as txid
from pgq.event_template where ev_type in ('top', 'sub') order by ev_id;
rollback;

-- long values
select pgq.insert_event('insert', 'big', repeat('x', 1000000)) > 0 as inserted;
select length(ev_data) from pgq.event_template where ev_type = 'big';

-- no such queue
select pgq.insert_event('nowhere', 't', 'd');
\echo :SQLSTATE
select pgq.insert_event(null, 't', 'd');
\echo :SQLSTATE
select pgq.insert_event('nowhere', 't', 'd', null, null, null, null);
\echo :SQLSTATE
select pgq.insert_event_raw(null, null, null, null, null, 't', 'd', null, null, null, null);
\echo :SQLSTATE
select pgq.current_event_table('nowhere');
\echo :SQLSTATE
select pgq.current_event_table(null);
\echo :SQLSTATE

-- a closed queue takes only what is replicated
update pgq.queue set queue_disable_insert = true where queue_name = 'insert';
select pgq.insert_event('insert', 't', 'd');
\echo :SQLSTATE
select pgq.current_event_table('insert');
\echo :SQLSTATE
set session_replication_role = 'replica';
select pgq.insert_event('insert', 'replicated', 'd') > 0 as inserted;
select pgq.current_event_table('insert') is not null as named;
reset session_replication_role;
update pgq.queue set queue_disable_insert = false where queue_name = 'insert';

-- a change of the queue counts at once, also in the transaction that makes it
begin;
select pgq.insert_event('insert', 't', 'd') > 0 as inserted;
update pgq.queue set queue_disable_insert = true where queue_name = 'insert';
select pgq.insert_event('insert', 't', 'd');
rollback;

-- a limit for each transaction; what a savepoint takes back has counted
update pgq.queue set queue_per_tx_limit = 2 where queue_name = 'insert';
begin;
select pgq.insert_event('insert', 'limit', '1') > 0 as inserted;
savepoint s;
select pgq.insert_event('insert', 'limit', '2') > 0 as inserted;
rollback to s;
select pgq.insert_event('insert', 'limit', '3');
\echo :SQLSTATE
rollback;
begin;
select pgq.insert_event('insert', 'limit', '1') > 0 as inserted;
select pgq.insert_event('insert', 'limit', '2') > 0 as inserted;
commit;
select count(*) from (select pgq.insert_event('insert', 'limit', i::text) from generate_series(1, 3) i) x;
update pgq.queue set queue_per_tx_limit = 0 where queue_name = 'insert';
select pgq.insert_event('insert', 'limit', '0');
update pgq.queue set queue_per_tx_limit = null where queue_name = 'insert';

-- read only
begin read only;
select pgq.insert_event('insert', 't', 'd');
\echo :SQLSTATE
rollback;

-- a backend's knowledge of a queue dies with the queue
begin;
select pgq.create_queue('gone');
select pgq.insert_event('gone', 't', 'd');
rollback;
select pgq.insert_event('gone', 't', 'd');
select pgq.create_queue('gone');
select pgq.insert_event('gone', 't', 'd');
select pgq.drop_queue('gone');
select pgq.create_queue('gone');
select pgq.insert_event('gone', 't', 'd');
select pgq.drop_queue('gone');

-- nothing is looked up by search_path: no other = or nextval gets a chance
create schema evil;
create function evil.eq(text, text) returns boolean language sql as 'select false';
create operator evil.= (leftarg = text, rightarg = text, function = evil.eq);
create function evil.nextval(text) returns bigint language sql as 'select -1::bigint';
begin;
set local search_path = evil, pg_catalog;
select pgq.insert_event('insert', 't', 'd') > 0 as inserted;
select pgq.set_queue_config('insert', 'ticker_max_count', '500');
rollback;
drop schema evil cascade;

-- the first event of a queue counts
select pgq.create_queue('first');
select pgq.insert_event('first', 't', 'd');
select ev_new from pgq.get_queue_info('first');
select pgq.drop_queue('first');

-- rows of pgq.queue are kept; every way of changing them is noticed, also where triggers do not fire
set session_replication_role = 'replica';
update pgq.queue set queue_per_tx_limit = 0 where queue_name = 'insert';
reset session_replication_role;
select pgq.insert_event('insert', 'limit', '0');
set session_replication_role = 'local';
update pgq.queue set queue_per_tx_limit = null where queue_name = 'insert';
reset session_replication_role;
select pgq.insert_event('insert', 'no limit', '0') > 0 as inserted;
begin;
update pgq.queue set queue_name = 'other' where queue_name = 'insert';
select pgq.insert_event('other', 'other name', null) > 0 as inserted;
savepoint s;
select pgq.insert_event('insert', 'old name', null);
rollback to s;
update pgq.queue set queue_disable_insert = true;
rollback to s;
select pgq.insert_event('other', 'other name', null) > 0 as inserted;
rollback;
select pgq.insert_event('insert', 'old name', null) > 0 as inserted;

select pgq.drop_queue('insert');
