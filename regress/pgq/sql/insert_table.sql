--
-- What users add to an event table holds for events; so do its privileges.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\set VERBOSITY sqlstate
\pset null NULL
select pgq.create_queue('table');
select format('%s_%s', queue_data_pfx, queue_cur_table) as events from pgq.queue where queue_name = 'table' \gset
alter table :events add constraint short check (length(ev_type) < 10);
select pgq.insert_event('table', 'rather long', 'd');
select pgq.insert_event('table', 'short', 'checked') > 0 as inserted;
alter table :events drop constraint short;
alter table :events add column note text default 'noted';
select pgq.insert_event('table', 'column', 'more') > 0 as inserted;
select ev_data, note from :events where ev_type = 'column';
alter table :events drop column note;
select pgq.insert_event('table', 'column', 'dropped') > 0 as inserted;
delete from :events;
alter table :events alter ev_extra1 set not null;
select pgq.insert_event('table', 'null', 'd');
alter table :events alter ev_extra1 drop not null;
create unique index once on :events (ev_extra2);
select pgq.insert_event('table', 'once', 'd', null, 'key', null, null) > 0 as inserted;
select pgq.insert_event('table', 'once', 'd', null, 'key', null, null);
drop index pgq.once;
create index part on :events (ev_extra2) where ev_extra3 is not null;
create index by_extra on :events (ev_extra2 desc, ev_extra1);
select pgq.insert_event('table', 'indexed', 'd', null, 'key', null, null) > 0 as inserted;
drop index pgq.part;
select pgq.insert_event('table', 'indexed', 'd', 'a', 'key', 'e3', null) > 0 as inserted;
set enable_seqscan = off;
select ev_type, ev_extra1 from :events where ev_extra2 = 'key' order by ev_id;
reset enable_seqscan;
drop index pgq.by_extra;
create table log (ev_type text);
create function log_event() returns trigger language plpgsql as $$
begin
    insert into log values (new.ev_type);
    if new.ev_type = 'first' then
        perform pgq.insert_event('table', 'second', null);
    end if;
    return null;
end;
$$;
create trigger log after insert on :events for each row execute function log_event();
select pgq.insert_event('table', 'first', null) > 0 as inserted;
select * from log;
drop trigger log on :events;
create rule elsewhere as on insert to :events do also insert into log values ('rule: ' || new.ev_type);
select pgq.insert_event('table', 'ruled', null) > 0 as inserted;
drop rule elsewhere on :events;
select pgq.insert_event('table', 'not ruled', null) > 0 as inserted;
select * from log;
alter table :events alter ev_txid set default 42;
select pgq.insert_event('table', 'default', null) > 0 as inserted;
select ev_txid from :events where ev_type = 'default';
alter table :events alter ev_txid set default txid_current();
drop function log_event();
drop table log;

-- a row as the executor writes it: same place, same size
create table twin (like :events including defaults);
alter table twin alter ev_id set default 0, alter ev_time set default now();
insert into twin (ev_type, ev_data, ev_extra3) values ('twin', 'd', repeat('e', 300));
select pgq.insert_event('table', 'twin', 'd', null, null, repeat('e', 300), null) > 0 as inserted;
select pg_column_size(t.*) = pg_column_size(e.*) as same_size
from twin t, :events e where e.ev_type = 'twin';
drop table twin;

-- privileges: raw writes with the caller's
create role regress_pgq_raw in role pgq_writer;
grant execute on function pgq.insert_event_raw to regress_pgq_raw;
set role regress_pgq_raw;
select pgq.insert_event('table', 'as owner', null) > 0 as inserted;
select pgq.insert_events('table', array['as owner'], null) is not null as inserted;
select pgq.insert_event_raw('table', null, null, null, null, 'raw', null, null, null, null, null);
reset role;
select queue_event_seq as seq from pgq.queue where queue_name = 'table' \gset
grant usage on :seq to regress_pgq_raw;
set role regress_pgq_raw;
select pgq.insert_event_raw('table', null, null, null, null, 'raw', null, null, null, null, null);
reset role;
grant insert on :events to regress_pgq_raw;
set role regress_pgq_raw;
select pgq.insert_event_raw('table', null, null, null, null, 'raw', null, null, null, null, null) > 0 as inserted;
reset role;
alter table :events enable row level security;
set role regress_pgq_raw;
select pgq.insert_event_raw('table', null, null, null, null, 'raw', null, null, null, null, null);
reset role;
alter table :events disable row level security;
revoke insert on :events from regress_pgq_raw;
grant insert (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4) on :events to regress_pgq_raw;
set role regress_pgq_raw;
select pgq.insert_event_raw('table', null, null, null, null, 'raw', null, null, null, null, null) > 0 as inserted;
reset role;
drop owned by regress_pgq_raw;
drop role regress_pgq_raw;
select pgq.drop_queue('table');
