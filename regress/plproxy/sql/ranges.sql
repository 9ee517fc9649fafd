-- hash_ranges: which slots of the hash belong to which partition.
\set SHOW_CONTEXT never
insert into plproxy.cluster values ('ranges');
insert into plproxy.partition select 'ranges', i, connstr('plproxy_part' || i) from generate_series(0, 2) i;
create function at(i_hash int8) returns text language plproxy as $$ cluster 'ranges'; run on i_hash; target whoami; $$;
create function try_ranges(i_ranges text) returns setof text language plpgsql as $$
begin
    delete from plproxy.config where name = 'ranges' and key = 'hash_ranges';
    insert into plproxy.config values ('ranges', 'hash_ranges', i_ranges);
    update plproxy.cluster set version = version + 1 where name = 'ranges';
    return query select attempt('select at(0)');
end;
$$;

-- three partitions are fine as long as the slots are a power of 2
select try_ranges('0-3, 4 - 5 + 7,6');
select h, at(h) from unnest(array[0, 3, 4, 5, 6, 7, 8, -1, -8, 9223372036854775807, -9223372036854775808]) h order by h;
-- a move: slot 7 goes to the third partition; then the second one has none
select try_ranges('0-3, 4-5, 6-7');
select at(7), at(15);
select try_ranges('0-3, NONE, 4-7');
select at(4);
-- all slots of a large map, by the smallest and the largest of each
select try_ranges('0-349524, 349525-699049, 699050-1048575');
select h, at(h) from unnest(array[0, 349524, 349525, 699049, 699050, 1048575]) h order by h;

-- with modular_mapping any number of slots will do
select try_ranges('0-4, 5-9, 10-11');
insert into plproxy.config values ('ranges', 'modular_mapping', '1');
select try_ranges('0-4, 5-9, 10-11');
select h, at(h) from unnest(array[0, 11, 12, -1, -10, -9223372036854775808]) h order by h;
delete from plproxy.config where name = 'ranges' and key = 'modular_mapping';

-- what is missing, double or unreadable
select r, try_ranges(r) from (values
    (1, '0-3,4-7'), (2, '0-3,4-5,6-7,8-15'), (3, '0-3, 4-5, 8-15'), (4, '1-3, 4-5, 6-7'), (5, '0-3,3-5,6-7'), (6, '0-3,5-4,6-7'),
    (7, '0-3+2,4-5,6-7'), (8, '0-3, x, 4-7'), (9, '0-3,,4-7'), (10, '0-3,4-,5'), (11, '0-3,4-5,6-7;'), (12, '0-3,4-5,6-1048576'),
    (13, '0-3,4-5,6-99999999999'), (14, 'none,none,none'), (15, ' '), (16, '-1,0,1')) v(n, r) order by n;
-- empty or null: as if it was not set
select try_ranges('');
select try_ranges(null);

-- a server's map is checked as far as it can be when it is made
create server bad foreign data wrapper plproxy options (p0 '', p1 '', hash_ranges '0-2, 4-7');
create server bad foreign data wrapper plproxy options (p0 '', p1 '', hash_ranges '0-5, 6-7');
alter server bad options (add p2 '');
alter server bad options (add p2 '', set hash_ranges '0-2, 6-7, 3-5');
drop server bad;
-- and so is a wrapper's, which has no partitions
alter foreign data wrapper plproxy options (add hash_ranges 'garbage');
alter foreign data wrapper plproxy options (add hash_ranges '0-2, 4-7');
alter foreign data wrapper plproxy options (add hash_ranges '0-2, 3-4');
create server whole foreign data wrapper plproxy options (p0 '', p1 '', modular_mapping 'on');
select slots from plproxy_partitions('whole');
drop server whole;
alter foreign data wrapper plproxy options (drop hash_ranges);

-- a server that is only touched keeps its connections; a new map counts at once
do $$ begin execute format('create server ranged foreign data wrapper plproxy options (p0 %L, p1 %L, hash_ranges ''0-1, 2-3'')',
    connstr('plproxy_part0'), connstr('plproxy_part1')); end $$;
create user mapping for public server ranged;
create function ranged(i_hash int4, out db text, out pid int4) language plproxy as $$
    cluster 'ranged'; run on i_hash; select current_database()::text as db, pg_backend_pid() as pid;
$$;
select db, pid as before from ranged(2) \gset
alter server ranged owner to current_user;
select db, pid = :before from ranged(2);
alter server ranged options (set hash_ranges '0-2, 3');
select db from ranged(2);
drop server ranged cascade;
delete from plproxy.cluster where name = 'ranges';
delete from plproxy.partition where name = 'ranges';
delete from plproxy.config where name = 'ranges';
drop function at, try_ranges, ranged;
