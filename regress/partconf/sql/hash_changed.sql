-- A hash that is not what it was when it was configured stops everything that goes by it.
\set SHOW_CONTEXT never
\pset null NULL
delete from partconf.conf;
select partconf.set_conf(1, 3, 1);

-- as if another version or collation had come: what is recorded is not what the default gives
select partconf.check_hash('alice');
update partconf.conf set probes[4] = probes[4] + 1;
select partconf.check_hash('alice');
\echo :SQLSTATE
select partconf.valid_hash('alice');
\echo :SQLSTATE
select partconf.get_hash('alice');
\echo :SQLSTATE
create table users (username text);
create trigger users_partition before insert on users for each row execute function partconf.validate_hash('username');
insert into users values ('alice');
\echo :SQLSTATE
drop table users;
select hash_ok, hash_problem from partconf.status;
select hash_problem from partconf.get_info();
-- ids and the fence have nothing to do with it
select partconf.global_id() & 16383 as code, partconf.fence(), partconf.unfence();
-- a new session
\c
\set SHOW_CONTEXT never
select partconf.valid_hash('alice');
\echo :SQLSTATE
-- set_conf does not take it by the way
select partconf.set_conf(1, 3, 2);
\echo :SQLSTATE
select db_code from partconf.status;
select partconf.accept_hash(), partconf.accept_hash();
select partconf.check_hash('alice'), partconf.set_conf(1, 3, 2);
select hash_ok from partconf.status;

-- recorded in a database of another encoding
update partconf.conf set probes = probes[1:8];
select partconf.valid_hash('alice');
select partconf.accept_hash(), partconf.valid_hash('alice');
update partconf.conf set probes = '{}';
select partconf.valid_hash('alice');
select partconf.accept_hash(), partconf.valid_hash('alice');

-- a function of the user is replaced: in this session, and in a new one
create function my_hash(key text) returns integer language sql immutable parallel safe as $$ select length(key) $$;
select partconf.set_hash('my_hash(text)'), partconf.check_hash('abcde');
create or replace function my_hash(key text) returns integer language sql immutable parallel safe as $$ select length(key) + 1 $$;
select partconf.check_hash('abcde');
\echo :SQLSTATE
\c
\set SHOW_CONTEXT never
select partconf.check_hash('abcde');
-- by one that is the same
create or replace function my_hash(key text) returns integer language plpgsql immutable parallel safe as $$ begin return length(key); end $$;
select partconf.check_hash('abcde');
-- in a transaction that is rolled back
begin;
create or replace function my_hash(key text) returns integer language sql immutable parallel safe as $$ select 7 $$;
savepoint s;
select partconf.check_hash('abcde');
rollback to s;
rollback;
select partconf.check_hash('abcde');
-- by one that gives nothing, or something else, or is not there
create or replace function my_hash(key text) returns integer language sql immutable parallel safe as $$ select nullif(length(key), 5) $$;
select partconf.check_hash('abcde');
alter function my_hash(text) rename to other_hash;
select partconf.check_hash('abcde');
\echo :SQLSTATE
select hash_ok, hash_problem from partconf.status;
select partconf.accept_hash();
\echo :SQLSTATE
drop function other_hash(text);
create function my_hash(key text) returns bigint language sql immutable parallel safe as $$ select 1::bigint $$;
select partconf.check_hash('abcde');
drop function my_hash(text);
create function my_hash(key text) returns integer language sql immutable parallel safe as $$ select length(key) $$;
select partconf.check_hash('abcde');
-- one that has come to ask partconf
create or replace function my_hash(key text) returns integer language plpgsql immutable parallel safe as $$
begin
    return case when partconf.valid_hash(key) then 1 else 2 end;
end $$;
select partconf.check_hash('abcde');
\echo :SQLSTATE
-- the row is changed by the function itself, and read anew behind it
create or replace function my_hash(key text) returns integer language plpgsql volatile parallel safe as $$
begin
    if key = '' then
        update partconf.conf set db_code = 9, probes = '{}';
        perform partconf.global_id();
    end if;
    return length(key);
end $$;
select partconf.check_hash('abcde');
select db_code, cardinality(probes) from partconf.get_info();
select partconf.set_hash(null);
select partconf.check_hash('alice');
drop function my_hash(text);
delete from partconf.conf;
