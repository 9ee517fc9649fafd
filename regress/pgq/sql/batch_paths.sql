--
-- Two ways to read a batch, by get_batch_events and by the query of batch_event_sql,
-- and what a batch is by definition: all three agree.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('paths') as created;
select pgq.register_consumer('paths', 'c') as registered;
select queue_id, queue_data_pfx as pfx, queue_data_pfx || '_0' as table0, queue_data_pfx || '_1' as table1
from pgq.queue where queue_name = 'paths' \gset
select sub_id from pgq.subscription where sub_queue = :queue_id \gset

select pgq.seq_setval(:'pfx' || '_id_seq', 100000);

-- 400 transactions, which end well or not, in part or whole, before and after a
-- rotation. Some events are retried ones of this consumer or another, some have ids
-- far from those of their neighbours.
create table wrote (txid bigint);
select setseed(0.4) is null as seeded;
create procedure write_events(i_sub integer)
language plpgsql
as $$
declare
    v_id bigint;
begin
    for i in 1 .. 400 loop
        if i = 201 then
            update pgq.queue
            set queue_cur_table = 1, queue_switch_step1 = txid_current(), queue_switch_step2 = null
            where queue_name = 'paths';
            commit;
            update pgq.queue set queue_switch_step2 = pgq._next_txid() where queue_name = 'paths';
            commit;
        end if;
        for j in 0 .. (random() * 4)::integer loop
            begin
                v_id := case when random() < 0.1 then i * 10 + j when random() < 0.1 then 10000 - i * 10 - j end;
                perform pgq.insert_event_raw('paths', v_id, null,
                    case when random() < 0.1 then i_sub when random() < 0.1 then i_sub + 1 end,
                    (random() * 3)::integer, 't', repeat('x', (random() * 1000)::integer), i::text, j::text, null, null);
                if random() < 0.2 then
                    raise exception 'taken back';
                end if;
            exception when others then
                null;
            end;
        end loop;
        insert into wrote values (txid_current());
        if random() < 0.1 then
            rollback;
        else
            commit;
        end if;
    end loop;
end;
$$;
call write_events(:sub_id);
select count(*) > 300 as transactions from wrote;
select tableoid::regclass::text = :'table1' as second, count(*) > 200 as events from pgq.event_template
where tableoid in (:'table0'::regclass, :'table1'::regclass) group by 1 order by 1;

-- Ticks between any two of them: the first with some of the transactions before it still
-- running, the second with some of these and of those that came since. near: only young
-- ones run. Counts what differs.
create function compare_paths(i_rounds integer, i_near boolean,
                              out same integer, out different integer, out unlike_definition integer,
                              out events integer, out with_old integer)
language plpgsql
as $$
declare
    v_queue pgq.queue;
    v_sub integer;
    v_txids bigint[];
    v_from integer;
    v_to integer;
    v_s1 txid_snapshot;
    v_s2 txid_snapshot;
    v_events text;
    v_by_sql text;
    v_defined text;
    v_count integer;
begin
    same := 0; different := 0; unlike_definition := 0; events := 0; with_old := 0;
    select * into v_queue from pgq.queue where queue_name = 'paths';
    select s.sub_id into v_sub from pgq.subscription s where s.sub_queue = v_queue.queue_id;
    select array_agg(txid order by txid) into v_txids from wrote;
    for i in 1 .. i_rounds loop
        v_from := 1 + (random() * (cardinality(v_txids) - 1))::integer;
        v_to := least(v_from + (random() * 60)::integer, cardinality(v_txids));
        create temp table running on commit drop as
            select t.txid, t.n > v_from or random() < 0.7 as in_second, t.n <= v_from as in_first
            from unnest(v_txids) with ordinality t (txid, n)
            where t.n <= v_to
              and case when i_near then t.n > v_from - 20 and random() < 0.3 else random() < 0.05 end;
        v_s1 := format('%s:%s:%s', coalesce((select min(txid) from running where in_first), v_txids[v_from] + 1),
                       v_txids[v_from] + 1, (select string_agg(txid::text, ',' order by txid) from running where in_first));
        v_s2 := format('%s:%s:%s', coalesce((select min(txid) from running where in_second), v_txids[v_to] + 1),
                       v_txids[v_to] + 1, (select string_agg(txid::text, ',' order by txid) from running where in_second));
        drop table running;
        insert into pgq.tick (tick_queue, tick_id, tick_snapshot, tick_event_seq)
        values (v_queue.queue_id, 1000, v_s1, 1), (v_queue.queue_id, 1001, v_s2, 1);
        update pgq.subscription s set sub_last_tick = 1000, sub_next_tick = 1001, sub_batch = 4711
        where s.sub_queue = v_queue.queue_id;

        select string_agg(e::text, E'\n'), count(*) into v_events, v_count from pgq.get_batch_events(4711) e;
        execute format('select string_agg(e::text, E''\n'') from (%s) e', pgq.batch_event_sql(4711)) into v_by_sql;
        select string_agg(e::text, E'\n' order by e.ev_id) into v_defined
        from (select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4
              from pgq.event_template
              where tableoid in (select (pgq.quote_fqname(x))::regclass from pgq.batch_event_tables(4711) x)
                and txid_visible_in_snapshot(ev_txid, v_s2)
                and not txid_visible_in_snapshot(ev_txid, v_s1)
                and (ev_owner is null or ev_owner = v_sub)) e;
        if v_events is not distinct from v_by_sql then
            same := same + 1;
        else
            different := different + 1;
        end if;
        if v_events is distinct from v_defined then
            unlike_definition := unlike_definition + 1;
        end if;
        events := events + v_count;
        with_old := with_old + (pgq.batch_event_sql(4711) like '%any%')::integer;

        update pgq.subscription s set sub_last_tick = 1, sub_next_tick = null, sub_batch = null
        where s.sub_queue = v_queue.queue_id;
        delete from pgq.tick where tick_queue = v_queue.queue_id and tick_id >= 1000;
    end loop;
end;
$$;
select same, different, unlike_definition, events > 1000 as events, with_old = 0 as all_near from compare_paths(60, true);
select same, different, unlike_definition, events > 1000 as events, with_old > 30 as with_old from compare_paths(60, false);
-- everything may go to disk, and the window is small
set work_mem = '64kB';
select same, different, unlike_definition, events > 1000 as events from compare_paths(30, false);
reset work_mem;


-- A slot of a consumer that is split: both ways leave out what the definition has.
update pgq.subscription set sub_slots = 3, sub_slot = 1, sub_slot_key = 'ev_extra1' where sub_queue = :queue_id;
select same, different, unlike_definition > 20 as parted, events > 100 as events from compare_paths(30, false);
update pgq.subscription set sub_slots = null, sub_slot = null, sub_slot_key = null where sub_queue = :queue_id;
drop function compare_paths;

-- One batch of all of it, and of 20000 events more, whose ids come in no order.
insert into :table1 (ev_id, ev_time, ev_type, ev_data)
select i, now(), 'unordered', repeat('y', 100) from generate_series(200001, 220000) i order by hashint8(i);
select pgq.force_tick('paths') > 0 as forced;
select pgq.ticker('paths') > 0 as ticked;
select pgq.next_batch('paths', 'c') as batch \gset
create view compared as
    select a.n as a, b.n as b, a.sum = b.sum as same, a.ordered
    from (select count(*) as n, sum(hashtext(e::text)) as sum,
                 array_agg(ev_id) = array_agg(ev_id order by ev_id) as ordered
          from pgq.get_batch_events((select sub_batch from pgq.subscription where sub_queue = :queue_id)) e) a,
         (select count(*) as n, sum(hashtext((ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data,
                                              ev_extra1, ev_extra2, ev_extra3, ev_extra4)::text)) as sum
          from pgq.event_template
          where tableoid in (:'table0'::regclass, :'table1'::regclass)
            and (ev_owner is null or ev_owner = :sub_id)) b;
select a > 20600 as events, a = b as all_of_them, same, ordered from compared;
set work_mem = '64kB';
select a > 20600 as events, a = b as all_of_them, same, ordered from compared;

-- back and forth in what went to disk
begin;
declare c scroll cursor for select ev_id from pgq.get_batch_events(:batch);
fetch 1 from c \gset first_
move last in c;
fetch relative 0 from c \gset last_
fetch first from c \gset again_
select :first_ev_id = :again_ev_id as same, :last_ev_id;
rollback;
reset work_mem;
select count(ev_id) > 20600 as in_select_list from (select (pgq.get_batch_events(:batch)).ev_id) e;

-- The same session, whatever becomes of the tables.
select :'table1' || '_txid_idx' as index1 \gset
drop index :index1;
select a = b as all_of_them, same, ordered from compared;
alter table :pfx add column more text default 'more';
select a = b as all_of_them, same, ordered from compared;
set search_path = public, pg_catalog;
create function public.never(bigint, bigint) returns boolean language sql immutable as 'select false';
create operator public.< (leftarg = bigint, rightarg = bigint, function = public.never);
select count(*) > 20600 as events from pgq.get_batch_events(:batch);
drop function public.never cascade;
reset search_path;

-- The rights are the caller's.
create role regress_pgq_reads in role pgq_reader;
create role regress_pgq_calls;
grant execute on function pgq.get_batch_events to regress_pgq_calls;
set role regress_pgq_calls;
\set VERBOSITY sqlstate
select * from pgq.get_batch_events(:batch);
\set VERBOSITY default
set role regress_pgq_reads;
select count(*) > 20600 as events from pgq.get_batch_events(:batch);
reset role;
alter table :table0 enable row level security;
alter table :table1 enable row level security;
create policy few on :table1 using (ev_type = 'unordered' and ev_id <= 200010);
set role regress_pgq_reads;
select count(*) as seen from pgq.get_batch_events(:batch);
reset role;
select a = b as all_of_them from compared;
-- The planner takes a batch behind a large backlog for a large one: what the query is
-- compiled for then costs more than it.
alter policy few on :table1 using (ev_type = 'unordered' and ev_id <= 200010 and current_setting('jit') = 'off');
set role regress_pgq_reads;
set jit = on;
select count(*) as seen from pgq.get_batch_events(:batch);
begin;
select count(*) as seen from pgq.get_batch_cursor(:batch, 'c', 5);
end;
show jit;
reset jit;
reset role;
revoke execute on function pgq.get_batch_events from regress_pgq_calls;
drop role regress_pgq_calls;

-- What is no event table is told.
drop view compared;
alter table :table1 no inherit :pfx;
alter table :table1 alter column ev_retry type bigint;
-- the words are the library's: see library.sql
\set VERBOSITY sqlstate
select * from pgq.get_batch_events(:batch);
\set VERBOSITY default
\echo :SQLSTATE
alter table :table1 rename to renamed;
\set VERBOSITY sqlstate
select * from pgq.get_batch_events(:batch);
\set VERBOSITY default
select split_part(:'table1', '.', 2) as name1 \gset
alter table pgq.renamed rename to :name1;
select pgq.drop_queue('paths', true);
drop procedure write_events;
drop table wrote;
drop role regress_pgq_reads;
