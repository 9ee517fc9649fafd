--
-- Queues are created, configured and dropped.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('Queue "one"');
select pgq.create_queue('Queue "one"');
select queue_id as id from pgq.queue where queue_name = 'Queue "one"' \gset

-- the row, with its defaults
select queue_ntables, queue_cur_table, queue_rotation_period, queue_switch_step1 = queue_switch_step2 as switched,
       queue_external_ticker, queue_disable_insert, queue_ticker_paused, queue_ticker_max_count,
       queue_ticker_max_lag, queue_ticker_idle_period, queue_per_tx_limit, queue_extra_maint
from pgq.queue where queue_id = :id;
select queue_data_pfx = 'pgq.event_' || :id as prefix, queue_event_seq = 'pgq.event_' || :id || '_id_seq' as event_seq,
       queue_tick_seq = 'pgq.event_' || :id || '_tick_seq' as tick_seq
from pgq.queue where queue_id = :id;

-- its tables, indexes and sequences (N stands for the queue's id)
select replace(c.relname, 'event_' || :id, 'event_N') as name, c.relkind, c.reloptions,
       (select i.inhparent::regclass::text = 'pgq.event_template' from pg_inherits i where i.inhrelid = c.oid) as child_of_template,
       (select t.reloptions from pg_class t where t.oid = c.reltoastrelid) as toast_options
from pg_class c
where c.relnamespace = 'pgq'::regnamespace
  and (c.relname ~ ('^event_' || :id || '(_|$)'))
order by c.relname collate "C";
select replace(pg_get_indexdef(c.oid), 'event_' || :id, 'event_N') as index
from pg_class c
where c.relnamespace = 'pgq'::regnamespace and c.relkind = 'i' and c.relname ~ ('^event_' || :id || '_')
order by 1;
select replace(pg_get_expr(d.adbin, d.adrelid), 'event_' || :id, 'event_N') as default
from pg_attrdef d
where d.adrelid = ('pgq.event_' || :id || '_1')::regclass
order by d.adnum;

-- whoever may read all events may read those of new queues
begin;
create role regress_pgq_audit;
grant select on pgq.event_template to regress_pgq_audit;
grant insert on pgq.event_template to regress_pgq_audit with grant option;
select pgq.create_queue('audited');
select regexp_replace(c.relname, '\d+', 'N') as name, a.privilege_type, a.is_grantable
from pg_class c, aclexplode(c.relacl) a
where c.relnamespace = 'pgq'::regnamespace and a.grantee = 'regress_pgq_audit'::regrole and c.relname <> 'event_template'
order by 1, 2;
rollback;

-- it has a tick at once
select tick_id, tick_event_seq from pgq.tick where tick_queue = :id;

-- settings
select pgq.set_queue_config('Queue "one"', 'ticker_max_count', '7');
select pgq.set_queue_config('Queue "one"', 'ticker_max_lag', '7 seconds');
select pgq.set_queue_config('Queue "one"', 'ticker_idle_period', '7 minutes');
select pgq.set_queue_config('Queue "one"', 'ticker_paused', 'true');
select pgq.set_queue_config('Queue "one"', 'rotation_period', '7 hours');
select pgq.set_queue_config('Queue "one"', 'external_ticker', 'true');
select queue_ticker_max_count, queue_ticker_max_lag, queue_ticker_idle_period, queue_ticker_paused, queue_rotation_period,
       queue_external_ticker
from pgq.queue where queue_id = :id;

-- wrong settings
select pgq.set_queue_config('Queue "one"', 'ntables', '4');
\echo :SQLSTATE
select pgq.set_queue_config('Queue "one"', 'ticker_max_count', 'many');
\echo :SQLSTATE
select pgq.set_queue_config('Queue "one"', 'ticker_max_count', null);
\echo :SQLSTATE
select pgq.set_queue_config('Queue "one"', null, '1');
\echo :SQLSTATE
select pgq.set_queue_config(null, 'ticker_max_count', '1');
\echo :SQLSTATE
select pgq.set_queue_config('nowhere', 'ticker_max_count', '1');
\echo :SQLSTATE

-- values that make no sense are refused; no time, no event, no limit are fine
create function pg_temp.try(i_param text, i_value text) returns text
language plpgsql as $$
begin
    return pgq.set_queue_config('Queue "one"', i_param, i_value);
exception
    when others then
        return sqlstate || ' ' || sqlerrm;
end;
$$;
select p, v, pg_temp.try(p, v)
from (values ('ticker_max_count', '-1'), ('ticker_max_lag', '-1 second'), ('ticker_idle_period', '-1 second'),
             ('ticker_min_lag', '-1 ms'), ('rotation_period', '-1 hour'), ('per_tx_limit', '-1'), ('retention', '-1 day'),
             ('consumer_expiry', '-1 day'), ('consumer_expiry', '0'), ('ticker_max_count', '2147483648'),
             ('ticker_paused', 'perhaps'), ('ticker_max_count', '0'), ('ticker_max_lag', '0'), ('ticker_idle_period', '0'),
             ('ticker_min_lag', '0'), ('rotation_period', '0'), ('per_tx_limit', '0'), ('retention', '0'),
             ('consumer_expiry', '1 day'), ('consumer_expiry', null), ('retention', null), ('per_tx_limit', null)) v (p, v);

-- dropping: refused while somebody reads it, unless forced
select pgq.register_consumer('Queue "one"', 'reader a'), pgq.register_consumer('Queue "one"', 'reader b');
select pgq.event_retry_raw('Queue "one"', 'reader a', now(), null, now(), 0, 't', 'd', null, null, null, null) > 0 as put_aside;
select pgq.drop_queue('Queue "one"');
\echo :SQLSTATE
select pgq.drop_queue('Queue "one"', false);
\echo :SQLSTATE
select pgq.drop_queue('Queue "one"', null);
\echo :SQLSTATE
select pgq.drop_queue('Queue "one"', true);
select count(*) from pg_class c where c.relnamespace = 'pgq'::regnamespace and c.relname ~ ('^event_' || :id || '(_|$)');
select (select count(*) from pgq.queue) as queues, (select count(*) from pgq.tick) as ticks,
       (select count(*) from pgq.subscription) as subscriptions, (select count(*) from pgq.consumer) as consumers,
       (select count(*) from pgq.retry_queue) as retries;

-- a name may come back
select pgq.create_queue('Queue "one"');
select pgq.insert_event('Queue "one"', 't', 'd');
select pgq.drop_queue('Queue "one"');

-- what makes no sense
select pgq.create_queue(null);
\echo :SQLSTATE
select pgq.drop_queue('nowhere');
\echo :SQLSTATE
select pgq.drop_queue('nowhere', true);
\echo :SQLSTATE
select pgq.drop_queue(null);
select pgq.grant_perms('nowhere');
\echo :SQLSTATE
select pgq.tune_storage('nowhere'), pgq.tune_storage(null);

-- a restored dump has rows, while the sequences start again
begin;
select pgq.create_queue('a'), pgq.register_consumer('a', 'c1');
select setval('pgq.queue_queue_id_seq', (select min(queue_id) from pgq.queue), false) > 0 as reset,
       setval('pgq.consumer_co_id_seq', (select min(co_id) from pgq.consumer), false) > 0 as reset,
       setval('pgq.subscription_sub_id_seq', (select min(sub_id) from pgq.subscription), false) > 0 as reset;
select pgq.create_queue('b'), pgq.register_consumer('b', 'c2');
select count(distinct sub_id) as subscriptions from pgq.subscription;
rollback;
