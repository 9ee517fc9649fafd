-- The fence, as one session sees it; regress/partconf/specs has more of them.
\set SHOW_CONTEXT never
\set VERBOSITY terse
delete from partconf.conf;
select partconf.fence();
\echo :SQLSTATE
select partconf.unfence();
\echo :SQLSTATE
select partconf.set_conf(1, 1, 1);
create table users (username text);
create table plain (i int);
create trigger deny before insert or update or delete or truncate on plain for each statement execute function partconf.deny_fenced();
insert into plain values (1), (2);

select partconf.fence(), partconf.fence('1 minute'), partconf.fence('0');
select fenced, fenced_at <= clock_timestamp() as since, fenced_by = session_user as by from partconf.status;
select partconf.check_hash('alice');
\echo :SQLSTATE
-- fenced is said before wrong
select partconf.check_hash('carol');
\echo :SQLSTATE
insert into plain values (3);
\echo :SQLSTATE
update plain set i = 3;
\echo :SQLSTATE
update plain set i = 3 where false;
delete from plain;
\echo :SQLSTATE
truncate plain;
\echo :SQLSTATE
copy plain from stdin;
3
\.
\echo :SQLSTATE
select * from plain;
-- all that it says
do $$
declare
    v_detail text;
    v_hint text;
begin
    perform partconf.check_hash('alice');
exception when sqlstate 'PX002' then
    get stacked diagnostics v_detail = pg_exception_detail, v_hint = pg_exception_hint;
    raise notice '%', sqlerrm;
    raise notice '%', replace(regexp_replace(v_detail, '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*\.$', 'TIME.'), session_user, 'USER');
    raise notice '%', v_hint;
end;
$$;
-- who only asks, or only reads, goes on
select partconf.valid_hash('alice'), partconf.get_hash('alice') = hashtext('alice') as hash, partconf.global_id() > 0 as id;
begin read only;
select partconf.check_hash('alice');
select partconf.check_hash('carol');
rollback;
begin;
set transaction read only;
select partconf.check_hash('alice');
set transaction read write;
rollback;
-- replication too
set session_replication_role = replica;
select partconf.check_hash('alice');
insert into plain values (4);
alter table plain enable always trigger deny;
insert into plain values (5);
reset session_replication_role;
select * from plain order by 1;
-- it outlives the session, and another configuration
\c
\set SHOW_CONTEXT never
\set VERBOSITY terse
select partconf.check_hash('alice');
\echo :SQLSTATE
select partconf.set_conf(0, 1, 1), partconf.accept_hash(), partconf.set_hash(null);
select fenced from partconf.status;
select partconf.check_hash('carol');
\echo :SQLSTATE
select partconf.set_conf(1, 1, 1);
select partconf.unfence(), partconf.unfence();
select fenced, fenced_at, fenced_by from partconf.status;
select partconf.check_hash('alice');
insert into plain values (6);

-- in a transaction with writes of its own: for itself at once, and gone with it
begin;
select partconf.check_hash('alice');
insert into plain values (7);
select partconf.fence();
savepoint s;
select partconf.check_hash('alice');
\echo :SQLSTATE
rollback to s;
insert into plain values (8);
\echo :SQLSTATE
rollback to s;
select partconf.unfence();
insert into plain values (9);
commit;
select array_agg(i order by i) from plain;
begin;
select partconf.fence();
rollback;
select partconf.check_hash('alice'), fenced from partconf.status;
begin;
savepoint s;
select partconf.fence();
rollback to s;
select partconf.check_hash('alice');
commit;
select fenced from partconf.status;

-- a savepoint that is rolled back does not give the lock up
create function lock_held() returns text language sql as $$
    select string_agg(l.mode || ' ' || l.fastpath, ', ') from pg_locks l
     where l.pid = pg_backend_pid() and l.relation = 'partconf.conf'::regclass and l.mode <> 'AccessShareLock'
$$;
begin;
savepoint s;
select partconf.check_hash('alice');
rollback to s;
select lock_held();
savepoint t;
select partconf.check_hash('alice');
rollback to t;
select partconf.check_hash('alice'), lock_held();
commit;
select lock_held();
-- a new transaction takes it anew, within a procedure too
create procedure two() language plpgsql as $$
begin
    perform partconf.check_hash('alice');
    raise notice '%', lock_held();
    commit;
    raise notice '%', lock_held();
    perform partconf.check_hash('alice');
    raise notice '%', lock_held();
    rollback;
    raise notice '%', lock_held();
    insert into plain values (10);
    raise notice '%', lock_held();
end;
$$;
call two();
begin read only;
select partconf.check_hash('alice'), lock_held();
commit;
begin;
select partconf.valid_hash('alice'), partconf.get_hash('alice') is not null as hash, partconf.global_id() > 0 as id, lock_held();
commit;
drop procedure two();
drop function lock_held();

-- timeouts that make no sense; the setting is as it was
set lock_timeout = '7s';
select partconf.fence(null);
\echo :SQLSTATE
select partconf.fence('-1 second');
\echo :SQLSTATE
select partconf.fence('25 days');
\echo :SQLSTATE
select partconf.fence('1 microsecond'), partconf.unfence();
show lock_timeout;
begin;
select partconf.fence(), partconf.unfence();
show lock_timeout;
commit;
reset lock_timeout;
-- it is written to disk for sure
begin;
set local synchronous_commit = off;
select partconf.fence();
show synchronous_commit;
rollback;
-- not in a transaction that only reads
begin read only;
select partconf.fence();
rollback;

-- deny_fenced where it cannot work
create trigger wrong before insert on users for each row execute function partconf.deny_fenced();
insert into users values ('alice');
\echo :SQLSTATE
drop trigger wrong on users;
create trigger wrong after insert on users for each statement execute function partconf.deny_fenced();
insert into users values ('alice');
\echo :SQLSTATE
select partconf.deny_fenced();
delete from partconf.conf;
insert into plain values (11);
\echo :SQLSTATE
drop table users, plain;
