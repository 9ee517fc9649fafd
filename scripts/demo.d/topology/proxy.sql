-- proxy.sql: what a proxy database of the topology has other than that of the demo
-- (../proxy.sql, which is run before): two partitions, and a cluster of their read only side.
-- The pooler's names of databases (psql variable :back is its port) say where each call
-- goes: w0 and w1 are the partitions, r0 is the standby of the first, and r1 is the second
-- partition once more, since it has no standby.
\set ON_ERROR_STOP 1

delete from plproxy.conf;
insert into plproxy.conf
select c.cluster_name, nr, format('host=127.0.0.1 port=%s dbname=%s%s user=proxy password=remote', :back, c.side, nr)
  from (values ('userdb', 'w'), ('userdb_ro', 'r')) c (cluster_name, side),
       generate_series(0, 1) nr;

-- Calls that only read: a standby may be a moment behind.
create or replace function get_user(i_username text, out username text, out email text, out score bigint)
returns setof record as $$
    CLUSTER 'userdb_ro';
    RUN ON get_hash(i_username);
$$ language plproxy security definer;
