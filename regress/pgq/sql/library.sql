--
-- What the library keeps of the extension, and what it refuses as trigger function.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
select pgq.create_queue('insert');
select pgq.insert_event('insert', 'old life', 'd');

-- a backend's knowledge dies with the extension: ids of queues start again
begin;
create temp table kept as select queue_name from pgq.queue;
select pgq.drop_queue(queue_name, true) from kept;
drop extension pgq;
create extension pgq;
select pgq.create_queue('insert');
select pgq.insert_event('insert', 'new life', 'd');
rollback;
select pgq.insert_event('insert', 'old life', 'd') > 1 as inserted;

-- rows of pgq.queue are kept; a change is noticed even if the trigger that tells of it is off
alter table pgq.queue disable trigger user;
update pgq.queue set queue_per_tx_limit = 0 where queue_name = 'insert';
select pgq.insert_event('insert', 'limit', '0');
update pgq.queue set queue_per_tx_limit = null where queue_name = 'insert';
select pgq.insert_event('insert', 'no limit', '0') > 0 as inserted;
alter table pgq.queue enable always trigger queue_changed;

-- what reads batches says what it does not know in event tables
select pgq.register_consumer('insert', 'c');
select pgq.insert_event('insert', 't', 'd') > 0 as inserted;
select pgq.force_tick('insert') > 0 as forced, pgq.ticker('insert') > 0 as ticked;
select pgq.next_batch('insert', 'c') as batch \gset
begin;
do $$
declare
    v_table text := (select queue_data_pfx || '_' || queue_cur_table from pgq.queue);
begin
    execute format('alter table %s no inherit %s', v_table, (select queue_data_pfx from pgq.queue));
    execute format('alter table %s alter column ev_retry type bigint', v_table);
end;
$$;
select * from pgq.get_batch_events(:batch);
rollback;

-- a rule that does something instead takes no event away unseen
begin;
do $$
declare
    v_table text := (select queue_data_pfx || '_' || queue_cur_table from pgq.queue);
begin
    execute format('create rule nothing as on insert to %s do instead nothing', v_table);
end;
$$;
do $$
begin
    perform pgq.insert_event('insert', 't', 'd');
exception
    when feature_not_supported then
        raise warning '%', regexp_replace(sqlerrm, '\d+', 'N', 'g');
end;
$$;
rollback;

select pgq.drop_queue('insert', true);

-- trigger functions are for triggers
select pgq.logutriga();
select pgq.jsontriga();

-- they call a function that returns one value
create table item (id int primary key);
create trigger t after insert on item for each row execute function pgq.logutriga('q');
alter function pgq.insert_event(text, text, text, text, text, text, text) rename to insert_event_kept;
create function pgq.insert_event(text, text, text, text, text, text, text)
returns setof bigint as 'select 1::bigint' language sql;
insert into item values (1);
drop function pgq.insert_event(text, text, text, text, text, text, text);
alter function pgq.insert_event_kept(text, text, text, text, text, text, text) rename to insert_event;
drop table item;

-- a constraint of a row that SKIP does not store can ask for its table
select pgq.create_queue('library');
create table item (id int check (tableoid = 'item'::regclass));
create trigger t before insert on item for each row execute function pgq.logutriga('library', 'SKIP');
insert into item values (1);
select ev_data from pgq.event_template where ev_extra1 like '%.item';
drop table item;
select pgq.drop_queue('library');
