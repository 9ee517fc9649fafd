--
-- What the script makes: the schema of the extension, without any library.
--
\set SHOW_CONTEXT never
select pgq.version() ~ '^[3-9]' as new_enough;
select count(*) as extensions from pg_extension where extname like 'pgq%';
select l.lanname, count(*) > 0 as used
from pg_proc p join pg_language l on l.oid = p.prolang
where p.pronamespace = 'pgq'::regnamespace group by 1 order by 1;

-- those that run as the owner look nothing up where the caller wants: these two have
-- nothing that could be looked up
select p.oid::regprocedure as function
from pg_proc p
where p.pronamespace = 'pgq'::regnamespace and p.prosecdef
  and not coalesce(p.proconfig @> array['search_path=pg_catalog, pgq, pg_temp'], false)
order by 1;

-- frozen snapshots: the row is locked, and only then
select pgq.create_queue('plonly');
begin;
select pgq.insert_event('plonly', 't', 'd');
select xmax = pg_current_xact_id()::xid as locked from pgq.queue;
commit;
begin isolation level repeatable read;
select pgq.insert_event('plonly', 't', 'd');
select xmax = pg_current_xact_id()::xid as locked from pgq.queue;
commit;

-- step 2 in a transaction with an old id finds a new one, and leaves nothing behind
begin;
select txid_current() as own \gset
select pgq._next_txid() > :own as newer, (select count(*) from pgq.event_template) as events;
commit;

-- rows that came by COPY count for the limit here
update pgq.queue set queue_per_tx_limit = 2 where queue_name = 'plonly';
begin;
select pgq.insert_event('plonly', 't', 'd') > 0 as inserted;
do $$
begin
    execute 'insert into ' || pgq.current_event_table('plonly') || ' (ev_time) values (now())';
end;
$$;
select pgq.insert_event('plonly', 't', 'd');
rollback;
select pgq.drop_queue('plonly');
