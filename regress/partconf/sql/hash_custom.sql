-- Another hash: a function of the user.
\set SHOW_CONTEXT never
\pset null NULL
delete from partconf.conf;
create schema "my Schema";
create function "my Schema"."my.hash"(key text) returns integer language sql immutable strict parallel safe as $$
    select length(key)
$$;
select partconf.set_hash('"my Schema"."my.hash"(text)');
\echo :SQLSTATE
select partconf.set_conf(1, 3, 1);
select partconf.set_hash('"my Schema"."my.hash"(text)');
select partconf.set_hash('"my Schema"."my.hash"(text)');
select hash_function, hash_ok from partconf.status;
select partconf.get_hash('four'), partconf.get_hash(null), partconf.valid_hash('four'), partconf.valid_hash('five5'), partconf.check_hash('five5');
select partconf.check_hash('four');
\echo :SQLSTATE
-- set_conf leaves it
select partconf.set_conf(0, 3, 1), partconf.check_hash('four');

-- everybody uses it, with no right on the schema and whatever the search_path is; it runs as its owner
create role regress_hasher;
create role regress_caller;
alter function "my Schema"."my.hash"(text) owner to regress_hasher;
create or replace function "my Schema"."my.hash"(key text) returns integer language plpgsql immutable strict parallel safe as $$
begin
    if key = 'who' then
        raise notice 'running as %', current_user;
    end if;
    return length(key);
end;
$$;
revoke all on function "my Schema"."my.hash"(text) from public;
set role regress_caller;
set search_path = pg_temp;
select partconf.check_hash('four'), partconf.get_hash('who'), current_user;
select hash_ok from partconf.status;
reset search_path;
reset role;
select partconf.get_hash('who'), current_user;
-- also behind an error in it
create or replace function "my Schema"."my.hash"(key text) returns integer language plpgsql immutable strict parallel safe as $$
begin
    if key = 'bad' then
        raise exception 'bad key, running as %', current_user;
    end if;
    return length(key);
end;
$$;
do $$
begin
    perform partconf.check_hash('bad');
exception when raise_exception then
    raise notice '% caught as %', sqlerrm, current_user;
end;
$$;
select partconf.check_hash('bad');
select partconf.check_hash('four'), current_user;
select partconf.set_hash(null), partconf.get_hash('Four') = hashtext('four') as default;
drop function "my Schema"."my.hash"(text);

-- in workers, and in many calls
create function by_length(key text) returns integer language sql immutable parallel safe as $$ select length(key) $$;
select partconf.set_hash('by_length');
select partconf.set_hash('by_length(text)');
create table keys as select repeat('x', i % 8) as key from generate_series(1, 1000) i;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set min_parallel_table_scan_size = 0;
select count(*) from keys where partconf.valid_hash(key);
reset parallel_setup_cost;
reset parallel_tuple_cost;
reset min_parallel_table_scan_size;
drop table keys;

-- what cannot be one
create function is_volatile(text) returns integer language sql volatile parallel safe as $$ select 1 $$;
create function is_unsafe(text) returns integer language sql immutable as $$ select 1 $$;
create function takes_integer(integer) returns integer language sql immutable parallel safe as $$ select 1 $$;
create function takes_two(text, text) returns integer language sql immutable parallel safe as $$ select 1 $$;
create function gives_bigint(text) returns bigint language sql immutable parallel safe as $$ select 1::bigint $$;
create function gives_set(text) returns setof integer language sql immutable parallel safe as $$ select 1 $$;
create function gives_null(text) returns integer language sql immutable parallel safe as $$ select nullif(length($1), 0) $$;
create function fails(text) returns integer language sql immutable parallel safe as $$ select 1 / length($1) $$;
create function asks_back(text) returns integer language plpgsql immutable parallel safe as $$ begin return partconf.get_hash($1); end $$;
create procedure does(text) language sql as $$ select 1 $$;
create function add_length(integer, text) returns integer language sql immutable parallel safe as $$ select $1 + length($2) $$;
create aggregate adds(text) (sfunc = add_length, stype = integer, initcond = 0, parallel = safe);
select partconf.set_hash('is_volatile(text)');
\echo :SQLSTATE
select partconf.set_hash('is_unsafe(text)');
select partconf.set_hash('takes_integer(integer)');
select partconf.set_hash('takes_two(text, text)');
select partconf.set_hash('gives_bigint(text)');
select partconf.set_hash('gives_set(text)');
select partconf.set_hash('gives_null(text)');
\echo :SQLSTATE
select partconf.set_hash('fails(text)');
select partconf.set_hash('asks_back(text)');
\echo :SQLSTATE
select partconf.set_hash('does(text)');
select partconf.set_hash('adds(text)');
select partconf.set_hash('partconf.get_hash(text)');
select partconf.set_hash(1::oid::regprocedure);
select partconf.set_hash('no_such(text)');
select hash_function, hash_ok from partconf.status;
select partconf.get_hash('four');
drop function is_volatile, is_unsafe, takes_integer, takes_two, gives_bigint, gives_set, gives_null, fails, asks_back;
drop procedure does;
drop aggregate adds(text);
drop function add_length;

-- NULL for some keys that are no probes
create or replace function by_length(key text) returns integer language sql immutable parallel safe as $$
    select case when key not like 'none%' then length(key) end
$$;
select partconf.get_hash('none'), partconf.valid_hash('none');
select partconf.check_hash('none');
\echo :SQLSTATE
select partconf.set_hash(null);
drop function by_length(text);
drop schema "my Schema";
delete from partconf.conf;

-- the caller's search_path does not choose what it calls, and no setting that it makes stays
create function plain_hash(key text) returns integer language sql stable parallel safe as $$
    select length(md5(key)) + (select 0 from set_config('lock_timeout', '7s', false) a, set_config('search_path', 'public', false) b)
$$;
select partconf.set_conf(0, 3, 1);
select partconf.set_hash('plain_hash(text)');
create schema evil authorization regress_caller;
set role regress_caller;
create function evil.md5(text) returns text language plpgsql as $$ begin raise exception 'called as %', current_user; end $$;
set search_path = evil, pg_catalog;
select partconf.get_hash('x'), partconf.valid_hash('x') is not null as valid;
show search_path;
show lock_timeout;
reset search_path;
reset role;

-- one that has raised an error begins anew
create table chosen as select generate_series(1, 3) as n;
create function boom() returns integer language plpgsql stable parallel safe as $$
begin
    if current_setting('my.fail', true) = '1' then
        raise exception 'boom';
    end if;
    return 0;
end;
$$;
create function raising_hash(key text) returns integer language sql stable parallel safe as $$
    select length(key) + public.boom() from public.chosen limit 1
$$;
create function try_hash(key text) returns text language plpgsql as $$
begin
    return partconf.get_hash(key);
exception when raise_exception then
    return sqlerrm;
end;
$$;
select partconf.set_hash('raising_hash(text)');
begin;
select try_hash('abc');
set local my.fail = '1';
select try_hash('aaaaaaaaaa');
set local my.fail = '0';
select try_hash('b'), try_hash('bb');
commit;
select partconf.set_hash(null);
drop schema evil cascade;
drop function plain_hash, raising_hash, try_hash, boom;
drop table chosen;
drop role regress_caller;
drop role regress_hasher;
