-- The trigger that keeps rows of other partitions out.
\set SHOW_CONTEXT never
\pset null NULL
delete from partconf.conf;
alter sequence partconf.global_id_seq restart;
create table users (id int, username text, email text);
create trigger users_partition before insert or update on users for each row execute function partconf.validate_hash('username');
insert into users values (0, 'alice');
\echo :SQLSTATE
-- alice, bob, frank are ours; carol, dave are not
select partconf.set_conf(1, 3, 1);
insert into users values (1, 'alice'), (2, 'BOB');
insert into users values (3, 'frank'), (4, 'carol');
\echo :SQLSTATE
insert into users values (5, null);
\echo :SQLSTATE
select * from users order by id;
do $$
declare
    v_column text;
    v_table text;
begin
    insert into users values (5, null);
exception when not_null_violation then
    get stacked diagnostics v_column = column_name, v_table = table_name;
    raise notice 'column % of %', v_column, v_table;
end;
$$;
update users set email = 'x' where id = 1;
update users set username = 'bob' where id = 2;
update users set username = 'carol' where id = 2;
\echo :SQLSTATE
update users set username = null where id = 2;
\echo :SQLSTATE
delete from users where id = 2;
copy users from stdin;
6	frank	\N
\.
copy users from stdin;
7	frank	\N
8	dave	\N
\.
insert into users values (1, 'carol') on conflict do nothing;
select * from users order by id;

-- skip: foreign rows are left out, but never moved away
drop trigger users_partition on users;
create trigger users_partition before insert or update on users for each row execute function partconf.validate_hash('username', 'skip');
insert into users values (11, 'bob'), (12, 'carol'), (13, 'dave'), (14, 'alice') returning id;
copy users from stdin;
15	carol	\N
16	frank	\N
\.
insert into users values (17, null);
update users set username = 'carol' where id = 11;
\echo :SQLSTATE
select * from users order by id;
-- a row that was here before the trigger was
alter table users disable trigger users_partition;
insert into users values (18, 'carol');
alter table users enable trigger users_partition;
update users set email = 'y' where id = 18;
\echo :SQLSTATE
update users set username = 'alice' where id = 18;
truncate users;

-- as replication writes: only a trigger that is always fired sees it
set session_replication_role = replica;
insert into users values (21, 'carol');
alter table users enable always trigger users_partition;
insert into users values (22, 'carol'), (23, 'alice');
copy users from stdin;
24	carol	\N
25	bob	\N
\.
alter table users enable replica trigger users_partition;
insert into users values (26, 'carol'), (27, 'frank');
-- there is no fence for it
select partconf.fence();
insert into users values (28, 'bob');
reset session_replication_role;
alter table users enable always trigger users_partition;
\set VERBOSITY terse
insert into users values (29, 'bob');
\echo :SQLSTATE
insert into users values (29, 'carol');
\echo :SQLSTATE
\set VERBOSITY default
select partconf.unfence();
select * from users order by id;
truncate users;

-- the table changes, the trigger goes on
insert into users values (31, 'alice', 'a'), (32, 'carol', 'b');
alter table users drop column id;
insert into users values ('bob', 'a'), ('dave', 'b');
alter table users add column id int generated always as identity (start 33), alter username type varchar(40);
insert into users values ('frank', 'a'), ('dave', 'b');
begin;
alter table users rename column username to name;
insert into users values ('frank', 'c');
\echo :SQLSTATE
rollback;
do $$
begin
    insert into users values ('bob', 'in a plan'), ('carol', 'in a plan');
    alter table users drop column email;
    alter table users add column email text;
    insert into users (email, username) values ('after it', 'bob'), ('after it', 'carol');
end;
$$;
select * from users order by id nulls first, username;
drop table users;

-- keys of other types go by their text
create domain name_of_user as varchar(20);
create type mood as enum ('alice', 'carol');
create table typed (c char(20), v varchar(20), d name_of_user, n name, m mood, i int, u uuid, t date);
create trigger c before insert or update on typed for each row when (new.c is not null) execute function partconf.validate_hash('c');
create trigger v before insert or update on typed for each row when (new.v is not null) execute function partconf.validate_hash('v');
create trigger d before insert or update on typed for each row when (new.d is not null) execute function partconf.validate_hash('d');
create trigger n before insert or update on typed for each row when (new.n is not null) execute function partconf.validate_hash('n');
create trigger m before insert or update on typed for each row when (new.m is not null) execute function partconf.validate_hash('m');
create trigger i before insert or update on typed for each row when (new.i is not null) execute function partconf.validate_hash('i');
create trigger u before insert or update on typed for each row when (new.u is not null) execute function partconf.validate_hash('u');
create trigger t before insert or update on typed for each row when (new.t is not null) execute function partconf.validate_hash('t');
insert into typed (c) values ('alice');
insert into typed (c) values ('carol');
insert into typed (v) values ('alice');
insert into typed (v) values ('carol');
insert into typed (d) values ('alice');
insert into typed (d) values ('carol');
insert into typed (n) values ('alice');
insert into typed (n) values ('carol');
insert into typed (m) values ('alice');
insert into typed (m) values ('carol');
insert into typed (i) select g from generate_series(1, 100) g where hashtext(g::text) & 3 = 1;
insert into typed (i) values (2);
insert into typed (u) select g from (select md5(g::text)::uuid as g from generate_series(1, 100) g) g where hashtext(g::text) & 3 = 1;
insert into typed (u) values (md5('2')::uuid);
select count(c), count(v), count(d), count(n), count(m), count(i) > 10 as i, count(u) > 10 as u from typed;
-- not of those whose text depends on settings of the session
insert into typed (t) values ('2026-11-30');
\echo :SQLSTATE
create table unfit (b bytea, f double precision);
create trigger b before insert on unfit for each row execute function partconf.validate_hash('b');
insert into unfit (b) values ('A');
drop trigger b on unfit;
create trigger f before insert on unfit for each row execute function partconf.validate_hash('f');
insert into unfit (f) values (1);
drop table unfit;
drop table typed;
drop type mood;
drop domain name_of_user;

-- partitioned tables, whose partitions have their columns in another order
create table logs (day date, username text) partition by list (day);
create table logs_1 partition of logs for values in ('2026-01-01');
create table logs_2 (dropped int, username text, day date);
alter table logs_2 drop column dropped;
alter table logs attach partition logs_2 for values in ('2026-01-02');
create trigger logs_partition before insert or update on logs for each row execute function partconf.validate_hash('username', 'skip');
insert into logs select d, u from unnest('{2026-01-01,2026-01-02}'::date[]) d, unnest('{alice,bob,carol,dave}'::text[]) u;
copy logs from stdin;
2026-01-01	frank
2026-01-02	frank
2026-01-01	carol
2026-01-02	carol
\.
select tableoid::regclass, array_agg(username order by username) from logs group by 1 order by 1;
drop table logs;

-- triggers that cannot work
create table users (username text, upper_name text generated always as (upper(username)) stored);
create function refused(i_trigger text, i_statement text default 'insert into users values (''alice'')') returns text language plpgsql as $$
declare
    v_detail text;
    v_hint text;
begin
    execute 'create trigger wrong ' || i_trigger;
    execute i_statement;
    return 'it works';
exception when others then
    get stacked diagnostics v_detail = pg_exception_detail, v_hint = pg_exception_hint;
    return concat_ws(' | ', sqlstate, sqlerrm, nullif(v_detail, ''), nullif(v_hint, ''));
end;
$$;
\t on
select refused('after insert on users for each row execute function partconf.validate_hash(''username'')');
select refused('before insert on users for each statement execute function partconf.validate_hash(''username'')');
select refused('before delete on users for each row execute function partconf.validate_hash(''username'')',
    'with i as (select set_config(''session_replication_role'', ''replica'', true)) select 1 from i; insert into users values (''alice''); set local session_replication_role = origin; delete from users');
select refused('before truncate on users for each statement execute function partconf.validate_hash(''username'')', 'truncate users');
select refused('before insert on users for each row execute function partconf.validate_hash()');
select refused('before insert on users for each row execute function partconf.validate_hash(''username'', ''skip'', ''more'')');
select refused('before insert on users for each row execute function partconf.validate_hash(''username'', ''Skip'')');
select refused('before insert on users for each row execute function partconf.validate_hash(''username'', '''')');
select refused('before insert on users for each row execute function partconf.validate_hash(''no_such'')');
select refused('before insert on users for each row execute function partconf.validate_hash(''ctid'')');
select refused('before insert on users for each row execute function partconf.validate_hash(''upper_name'')');
select refused('before insert on users for each row execute function partconf.validate_hash(''username'')');
\t off
create view users_view as select * from users;
select refused('instead of insert on users_view for each row execute function partconf.validate_hash(''username'')', 'insert into users_view values (''alice'')');
select partconf.validate_hash();
drop function refused(text, text);
drop table users cascade;
delete from partconf.conf;
