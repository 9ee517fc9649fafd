--
-- Many events in one call.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('many');
select pgq.insert_events('many', array['a', 'b', 'c'], array['1', null, '3']);
-- one type for all; extras by name
select pgq.insert_events('many', array['all'], array['4', '5'], ev_extra1 => array['x', null], ev_extra4 => array['y', 'z']);
-- a null array is as many nulls
select pgq.insert_events('many', array['no data', null], null);
select pgq.insert_events('many', null, array['no type']);
select pgq.insert_events('many', array['one'], null);
select pgq.insert_events('many', array['only extra'], null, null, array['e2', 'e2']);
-- arrays count from where they like
select pgq.insert_events('many', '[5:6]={t,u}', '[-1:0]={d,e}');
select pgq.insert_events('many', '{}', '{}');
select pgq.insert_events('many', array['one'], '{}');
select ev_id, ev_time > '2020-01-01' as timed, ev_txid > 0 as txid, ev_owner, ev_retry, ev_type, ev_data,
       ev_extra1, ev_extra2, ev_extra3, ev_extra4
from pgq.event_template order by ev_id;

-- what does not fit
select pgq.insert_events('many', array['a', 'b'], array['1', '2', '3']);
\echo :SQLSTATE
select pgq.insert_events('many', array['a'], array['1'], array['1', '2']);
\echo :SQLSTATE
select pgq.insert_events('many', '{{a},{b}}', array['1', '2']);
\echo :SQLSTATE
select pgq.insert_events('many', null, null);
\echo :SQLSTATE
select pgq.insert_events(null, array['a'], array['1']);
\echo :SQLSTATE
select pgq.insert_events('nowhere', array['a'], array['1']);
\echo :SQLSTATE
begin read only;
select pgq.insert_events('many', array['a'], array['1']);
rollback;

-- closed, limited
update pgq.queue set queue_disable_insert = true where queue_name = 'many';
select pgq.insert_events('many', array['a'], array['1']);
\echo :SQLSTATE
update pgq.queue set queue_disable_insert = false, queue_per_tx_limit = 3 where queue_name = 'many';
begin;
select array_length(pgq.insert_events('many', array['limit'], array['1', '2']), 1);
select pgq.insert_events('many', array['limit'], array['3', '4']);
\echo :SQLSTATE
rollback;
begin;
select array_length(pgq.insert_events('many', array['limit'], array['1', '2']), 1);
select pgq.insert_event('many', 'limit', '3') > 0 as inserted;
commit;
update pgq.queue set queue_per_tx_limit = null where queue_name = 'many';
select count(*) from pgq.event_template where ev_type = 'limit';

-- more than go to the table at once, in bytes and in number; some of them long
select pgq.register_consumer('many', 'c');
select array_length(pgq.insert_events('many', array_agg(i::text order by i),
                                      array_agg(repeat(md5(i::text), case when i % 500 = 0 then 3000 else i % 7 end) order by i)), 1)
from generate_series(1, 5000) i;
select pgq.ticker('many') is not null as ticked;
select pgq.next_batch('many', 'c') as batch \gset
with many as materialized (
    select ev_id - min(ev_id) over () + 1 as i, ev_type, ev_data
    from pgq.get_batch_events(:batch)
    where ev_type ~ '^[0-9]+$'
)
select count(*), bool_and(ev_type = i::text) as in_order,
       bool_and(ev_data = repeat(md5(ev_type), case when i % 500 = 0 then 3000 else i % 7 end::int)) as right_data
from many;
select pgq.finish_batch(:batch);
-- each is in the index
select pgq.insert_event('many', 'next', null) > 0 as inserted;
begin;
select array_length(pgq.insert_events('many', array_agg('indexed'::text), null), 1) from generate_series(1, 1500);
set local enable_seqscan = off;
select count(*) from pgq.event_template where ev_txid = txid_current() and ev_type = 'indexed';
savepoint s;
select array_length(pgq.insert_events('many', array_agg('taken back'::text), null), 1) from generate_series(1, 1500);
rollback to s;
select count(*) from pgq.event_template where ev_txid = txid_current();
commit;

-- a trigger of the table sees each
select format('%s_%s', queue_data_pfx, queue_cur_table) as events from pgq.queue where queue_name = 'many' \gset
create function shout() returns trigger language plpgsql as $$
begin
    new.ev_data := upper(new.ev_data);
    return new;
end;
$$;
create trigger shout before insert on :events for each row execute function shout();
select array_length(pgq.insert_events('many', array['shouted'], array['a', 'b']), 1);
select ev_data from pgq.event_template where ev_type = 'shouted' order by ev_id;
drop trigger shout on :events;
select array_length(pgq.insert_events('many', array['shouted'], array['c']), 1);
select ev_data from pgq.event_template where ev_type = 'shouted' order by ev_id;
drop function shout();

select pgq.drop_queue('many', true);
