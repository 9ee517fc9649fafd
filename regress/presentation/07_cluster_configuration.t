#!/usr/bin/env bash
# 07_cluster_configuration.t: "plProxy Language RUN ON", "plProxy Configuration" and "plProxy:
# Configuration Functions". Where the partitions of a cluster are is told by three functions: hard-coded ones in one proxy
# database, a table's in another. A raised version makes open sessions read them again.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start proxy data
on data postgres -c "create role proxy login"
make_databases data userdb_p00 userdb_p01 userdb_p02 userdb_p03
make_databases proxy hard_coded from_table
for db in userdb_p00 userdb_p01 userdb_p02 userdb_p03; do
    on data "$db" <<'SQL'
create function place() returns text language sql as 'select current_database()::text || '' as '' || current_user';
create function session() returns integer language sql as 'select pg_backend_pid()';
create function get_user_email(text) returns text language sql as
    'select $1 || ''@'' || current_database()';
SQL
done

for db in hard_coded from_table; do
    on proxy "$db" <<'SQL'
create extension plproxy;
create schema plproxy;
create function place(i_hash integer) returns text language plproxy as
    $$ cluster 'userdb'; run on i_hash; select place(); $$;
create function places() returns setof text language plproxy as
    $$ cluster 'userdb'; run on all; target place; $$;
create function session() returns integer language plproxy as
    $$ cluster 'userdb'; run on 0; $$;
create function elsewhere() returns text language plproxy as
    $$ cluster 'nosuchdb'; run on any; target place; $$;
SQL
    # the slide's functions for version and settings
    on proxy "$db" <<'SQL'
CREATE FUNCTION plproxy.get_cluster_version(i_cluster text)
RETURNS integer AS $$
    SELECT 1;
$$ LANGUAGE sql;
SQL
    on proxy "$db" <<'SQL'
CREATE FUNCTION plproxy.get_cluster_config(cluster_name text,
                                           OUT key text, OUT val text)
RETURNS SETOF record AS $$
    SELECT 'connection_lifetime'::text as key, text( 30*60 ) as val;
$$ LANGUAGE sql;
SQL
done

# ---- hard-coded

# The slide's connect strings have no host: the libpq of the server finds it in PGHOST.
# mended: port 9000 is the one that the server here was given.
sed "s/port=9000/port=${port[data]}/" <<'SQL' | on proxy hard_coded
CREATE FUNCTION plproxy.get_cluster_partitions(cluster_name text)
RETURNS SETOF text AS $$
begin
  if cluster_name = 'userdb' then
    return next 'port=9000 dbname=userdb_p00 user=proxy';
    return next 'port=9000 dbname=userdb_p01 user=proxy';
    return;
  end if;
  raise exception 'no such cluster: %', cluster_name;
end; $$ LANGUAGE plpgsql SECURITY DEFINER;
SQL

is "hard-coded: the partitions in the order of the code" gives proxy hard_coded "select * from places()" \
    'userdb_p00 as proxy' 'userdb_p01 as proxy'
is "hard-coded: the lower bits of the hash choose" \
    gives proxy hard_coded "select h, place(h) from unnest('{0,1,2,3,-1,-2,2147483647,-2147483648}'::int[]) h" \
    '0|userdb_p00 as proxy' '1|userdb_p01 as proxy' '2|userdb_p00 as proxy' '3|userdb_p01 as proxy' \
    '-1|userdb_p01 as proxy' '-2|userdb_p00 as proxy' '2147483647|userdb_p01 as proxy' '-2147483648|userdb_p00 as proxy'
is "hard-coded: an unknown cluster is an error" \
    refused P0001 'no such cluster: nosuchdb' proxy hard_coded "select elsewhere()"

# ---- RUN ON

on proxy hard_coded -c "create function get_hash(i_username text) returns integer language sql as 'select hashtext(i_username)'"
on proxy hard_coded <<'SQL'
CREATE FUNCTION get_user_email(text)
RETURNS text AS $$
    CLUSTER 'userdb';
    RUN ON get_hash($1);
$$ LANGUAGE plproxy;
SQL
on proxy hard_coded <<'SQL'
create function any_place() returns text language plproxy as $$ cluster 'userdb'; run on any; target place; $$;
create function second_place() returns text language plproxy as $$ cluster 'userdb'; run on 1; target place; $$;
create function third_place() returns text language plproxy as $$ cluster 'userdb'; run on 2; target place; $$;
create function places_of(i_hashes integer[]) returns setof text language plproxy as
    $$ cluster 'userdb'; run on unnest(i_hashes); select place(); $$;
SQL
is "RUN ON a function: hash & (n - 1), which is hash & 1 here" gives proxy hard_coded "
    select count(*), count(distinct h & 1)
      from generate_series(1, 100) i, lateral hashtext('user' || i) h
     where get_user_email('user' || i) = 'user' || i || '@userdb_p0' || (h & 1)" '100|2'
is "one that returns several hashes runs on each partition of them once" \
    gives proxy hard_coded "select * from places_of('{5,7,2}'); select * from places_of('{4,2}'); select * from places_of('{}')" \
    'userdb_p01 as proxy' 'userdb_p00 as proxy' 'userdb_p00 as proxy'
is "RUN ON ANY takes one at random" gives proxy hard_coded \
    "select count(p), count(distinct p) from (select any_place() as p from generate_series(1, 100)) p" '100|2'
is "RUN ON a number is that partition" gives proxy hard_coded "select second_place()" 'userdb_p01 as proxy'
is "which there must be" refused 22023 '2' proxy hard_coded "select third_place()"

# ---- from the table

on proxy from_table <<SQL
create table plproxy.conf (
    cluster_name text,
    part_nr integer,
    connect_string text not null,
    primary key (cluster_name, part_nr)
);
insert into plproxy.conf
select 'userdb', nr, format('port=%s dbname=userdb_p0%s user=proxy', ${port[data]}, nr) from generate_series(1, 0, -1) nr;
SQL
is "the name of the argument is another one, so the second form does not replace the first" \
    refused 42P13 'cannot change name of input parameter' proxy hard_coded \
    "create or replace function plproxy.get_cluster_partitions(i_cluster_name text) returns setof text language sql as 'select 1::text'"
on proxy from_table <<'SQL'
CREATE FUNCTION plproxy.get_cluster_partitions(i_cluster_name text)
RETURNS SETOF text AS $$
declare    r record;
begin
  for r in
    select connect_string from plproxy.conf
    where cluster_name = i_cluster_name
    order by part_nr
  loop
    return next r.connect_string;
  end loop;
  if not found then
    raise exception 'no such cluster: %', i_cluster_name;
  end if;
  return;
end; $$ LANGUAGE plpgsql SECURITY DEFINER;
SQL
is "from the table: the partitions by part_nr" gives proxy from_table "select * from places()" \
    'userdb_p00 as proxy' 'userdb_p01 as proxy'
is "from the table: an unknown cluster is an error" \
    refused P0001 'no such cluster: nosuchdb' proxy from_table "select elsewhere()"

# Two partitions become four, while a session is open.
grown='userdb_p00 as proxy
userdb_p01 as proxy
userdb_p02 as proxy
userdb_p03 as proxy'
cat >"$dir/grow.sql" <<SQL
select 'before', place(2), place(3);
insert into plproxy.conf
select 'userdb', nr, format('port=%s dbname=userdb_p0%s user=proxy', ${port[data]}, nr) from generate_series(2, 3) nr;
select 'same version', place(2), place(3);
create or replace function plproxy.get_cluster_version(i_cluster text)
returns integer language sql as 'select 2';
select 'raised', place(2), place(3);
select * from places();
SQL
grow() {
    diff <(printf '%s\n' 'before|userdb_p00 as proxy|userdb_p01 as proxy' 'same version|userdb_p00 as proxy|userdb_p01 as proxy' \
        'raised|userdb_p02 as proxy|userdb_p03 as proxy' "$grown") <(on proxy from_table -f "$dir/grow.sql" 2>&1)
}
is "a changed table counts in an open session when the version is raised, and not before" grow

# Three partitions are none that a hash can choose from.
on proxy from_table -c "delete from plproxy.conf where part_nr = 3" \
    -c "create or replace function plproxy.get_cluster_version(i_cluster text) returns integer language sql as 'select 3'"
is "three partitions are refused" refused 22023 'userdb' proxy from_table "select place(0)"
on proxy from_table -c "delete from plproxy.conf where part_nr = 2" \
    -c "create or replace function plproxy.get_cluster_version(i_cluster text) returns integer language sql as 'select 4'"
is "two are right again" gives proxy from_table "select place(2), place(3)" 'userdb_p00 as proxy|userdb_p01 as proxy'
on proxy from_table -c "delete from plproxy.conf" \
    -c "create or replace function plproxy.get_cluster_version(i_cluster text) returns integer language sql as 'select 5'"
is "a cluster whose rows are gone is no cluster" refused P0001 'no such cluster: userdb' proxy from_table "select place(0)"

# ---- connection_lifetime

is "connection_lifetime is half an hour" gives proxy hard_coded "select * from plproxy.get_cluster_config('userdb')" 'connection_lifetime|1800'
is "a connection is kept as long as it lives" gives proxy hard_coded \
    "select count(distinct session()) from generate_series(1, 100)" 1
cat >"$dir/lifetime.sql" <<'SQL'
select session() as first \gset
create or replace function plproxy.get_cluster_config(cluster_name text, OUT key text, OUT val text)
returns setof record language sql as $$ select 'connection_lifetime'::text, '1ms'::text $$;
select session() = :first;
create or replace function plproxy.get_cluster_version(i_cluster text) returns integer language sql as 'select 2';
do $$
declare
    v_session integer := session();
    v_deadline timestamptz := clock_timestamp() + interval '1 minute';
begin
    while session() = v_session loop
        assert clock_timestamp() < v_deadline;
    end loop;
end $$;
SQL
lifetime() { diff <(echo t) <(on proxy hard_coded -f "$dir/lifetime.sql" 2>&1); }
is "settings are read again with the version: a connection past its lifetime is replaced" lifetime
on proxy hard_coded <<'SQL'
create or replace function plproxy.get_cluster_config(cluster_name text, OUT key text, OUT val text)
returns setof record language sql as $$ select 'connection_lifetim'::text, '1800'::text $$;
SQL
is "a setting that does not exist is an error that names it" refused HV00D connection_lifetim proxy hard_coded "select place(0)"
on proxy hard_coded <<'SQL'
create or replace function plproxy.get_cluster_config(cluster_name text, OUT key text, OUT val text)
returns setof record language sql as $$ select 'connection_lifetime'::text, 'half an hour'::text $$;
SQL
is "and so is a value that is no time" refused 22023 connection_lifetime proxy hard_coded "select place(0)"
on proxy hard_coded -c "drop function plproxy.get_cluster_config"
is "without one of the three functions there is no cluster" \
    refused 42704 'cluster "userdb" does not exist' proxy hard_coded "select place(0)"

done_testing
