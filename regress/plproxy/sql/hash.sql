-- plproxy_hash() and plproxy_partition_of(). Data lies where these hashes say: no
-- expected value below may ever change, on no server.
\set SHOW_CONTEXT never

-- the known answers of XXH64, from nothing to some stripes and every rest
select to_hex(plproxy_hash('')), to_hex(plproxy_hash('a')), to_hex(plproxy_hash('abc')),
    to_hex(plproxy_hash('Nobody inspects the spammish repetition'));
select n, to_hex(plproxy_hash(left('0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-+' || repeat('.', 40), n)))
from unnest(array[1, 3, 4, 5, 7, 8, 9, 12, 15, 16, 20, 31, 32, 33, 36, 40, 63, 64, 65, 100]) n;
-- a text is its UTF-8
select plproxy_hash('zoë €') = plproxy_hash('\x7a6fc3ab20e282ac'::bytea), plproxy_hash('zoë €'::varchar);
-- a number is eight bytes, lowest first, of whatever integer type
select plproxy_hash(i), plproxy_hash(i) = plproxy_hash(decode(d, 'hex'))
from (values (0::int8, '0000000000000000'), (1, '0100000000000000'), (-1, 'ffffffffffffffff'),
    (72623859790382856, '0807060504030201'), (9223372036854775807, 'ffffffffffffff7f')) v(i, d);
select plproxy_hash(7::int2) = plproxy_hash(7::int8), plproxy_hash(7) = plproxy_hash(7::int8);
-- a uuid is its sixteen bytes
select plproxy_hash(u), plproxy_hash(u) = plproxy_hash(decode(replace(u::text, '-', ''), 'hex'))
from (values ('00112233-4455-6677-8899-aabbccddeeff'::uuid)) v(u);
select plproxy_hash(null::text), plproxy_hash(null::int8);
-- compressed and stored elsewhere
create table long (t text, b bytea);
insert into long select t, t::bytea from (select string_agg(i::text, ',') t from generate_series(1, 100000) i) s;
select plproxy_hash(t), plproxy_hash(b) from long;
drop table long;
-- all bits are of use
select p, count(*) from (select plproxy_hash(i) & 3 p from generate_series(1, 40000) i) s group by p having count(*) not between 9700 and 10300;

-- in another encoding the same text has the same hash
set client_min_messages = warning;
drop database if exists plproxy_latin1;
reset client_min_messages;
create database plproxy_latin1 encoding 'LATIN1' locale 'C' template template0;
select current_database() as proxy_db \gset
\c plproxy_latin1
set client_encoding = 'UTF8';
create extension plproxy;
select plproxy_hash('zoë'), convert_to('zoë', 'LATIN1');
\c :proxy_db
\set SHOW_CONTEXT never
drop database plproxy_latin1;
select plproxy_hash('zoë');

-- where a hash leads: as calls do
create function at_four(i_hash int8) returns text language plproxy as $$ cluster 'four'; run on i_hash; target whoami; $$;
select h, plproxy_partition_of('four', h), at_four(h)
from unnest(array[0, 1, 7, -1, -9223372036854775808, plproxy_hash('some user')]) h order by h;
select attempt($$select plproxy_partition_of('no such', 0)$$);
select plproxy_partition_of(null, 0), plproxy_partition_of('four', null);
insert into plproxy.cluster values ('mapped');
insert into plproxy.partition values
    ('mapped', 0, 'host=db0,db1 port=1 dbname=x user=u password=secret'),
    ('mapped', 1, 'postgresql://u:secret@db2:5433/y'), ('mapped', 2, 'hostaddr=127.0.0.1 password=secret'), ('mapped', 3, 'not = ''readable');
insert into plproxy.config values ('mapped', 'hash_ranges', '0-99, 100-127, 128-254, 255');
select h, plproxy_partition_of('mapped', h) from unnest(array[0, 99, 100, 127, 255, 256, -1]) h order by h;
select * from plproxy_partitions('mapped');
select partition, host, dbname, slots from plproxy_partitions('four');

-- nothing is connected for that, and a server is only for those who may use it
create server hashed foreign data wrapper plproxy options (p0 'host=no-such-host.invalid', p1 'host=no-such-host.invalid', modular_mapping '1');
select plproxy_partition_of('hashed', -3);
create role plproxy_hasher;
set role plproxy_hasher;
select plproxy_hash('');
select attempt($$select plproxy_partition_of('hashed', 3)$$);
select attempt($$select plproxy_partitions('hashed')$$);
reset role;
grant usage on foreign server hashed to plproxy_hasher;
grant pg_monitor to plproxy_hasher;
set role plproxy_hasher;
select plproxy_partition_of('hashed', 3);
select * from plproxy_partitions('hashed');
reset role;
drop server hashed;
drop role plproxy_hasher;
delete from plproxy.cluster where name = 'mapped';
delete from plproxy.partition where name = 'mapped';
delete from plproxy.config where name = 'mapped';
drop function at_four;
