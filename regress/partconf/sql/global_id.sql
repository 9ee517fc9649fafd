-- Ids that are unique over databases.
\set SHOW_CONTEXT never
delete from partconf.conf;
select partconf.global_id();
\echo :SQLSTATE
select partconf.set_conf(0, 0, 16383);
alter sequence partconf.global_id_seq restart;
select partconf.global_id(), partconf.global_id(), (1 << 14) + 16383 as first;
select partconf.set_conf(0, 0, 0);
select partconf.global_id(), 3 << 14 as third;
select count(distinct id), bool_and(id & 16383 = 0) as coded, bool_and(id > 0) as positive
  from (select partconf.global_id() as id from generate_series(1, 1000)) ids;

-- as a default, and where the row is changed meanwhile
create table things (id bigint primary key default partconf.global_id(), name text);
insert into things (name) values ('one');
update partconf.conf set db_code = 77;
insert into things (name) values ('two');
select name, id & 16383 as code from things order by id;
drop table things;

-- the last one, and none behind it
select setval('partconf.global_id_seq', (1::bigint << 49) - 2);
select partconf.global_id(), (((1::bigint << 49) - 1) << 14) + 77 as last, partconf.global_id() as beyond;
\echo :SQLSTATE
select partconf.global_id();
alter sequence partconf.global_id_seq minvalue -5 start -1 increment -1 restart;
select partconf.global_id();
\echo :SQLSTATE
alter sequence partconf.global_id_seq minvalue 1 start 1 increment 1 restart;
select partconf.global_id();

-- not in a transaction that only reads
begin read only;
select partconf.global_id();
rollback;
-- nor from a sequence that is made anew under it
alter sequence partconf.global_id_seq cache 10;
select partconf.global_id() > 0 as still;
alter sequence partconf.global_id_seq cache 1 restart;
delete from partconf.conf;
