-- proxy.sql: the proxy database of the demo. It holds no data, only functions that run on
-- the partitions; psql variable :back is the port of the pooler before the partitions.
\set ON_ERROR_STOP 1
set client_min_messages = warning;

create extension plproxy;

create schema plproxy;
create table plproxy.conf (
    cluster_name    text not null,
    part_nr         integer not null,
    connect_string  text not null,
    primary key (cluster_name, part_nr)
);
insert into plproxy.conf
select 'userdb', nr, format('host=127.0.0.1 port=%s dbname=part%s user=proxy password=remote', :back, nr)
  from generate_series(0, 3) nr;

create function plproxy.get_cluster_version(i_cluster text)
returns integer as $$
    select 1;
$$ language sql;

create function plproxy.get_cluster_config(i_cluster text, out key text, out val text)
returns setof record as $$
    select 'connection_lifetime'::text, (30 * 60)::text;
$$ language sql;

create function plproxy.get_cluster_partitions(i_cluster text)
returns setof text as $$
begin
    return query
    select c.connect_string from plproxy.conf c
     where c.cluster_name = i_cluster
     order by c.part_nr;
    if not found then
        raise exception 'no such cluster: %', i_cluster;
    end if;
end;
$$ language plpgsql security definer set search_path = pg_catalog, pg_temp;

create function get_hash(i_username text)
returns integer as $$
begin
    return hashtext(lower(i_username));
end;
$$ language plpgsql;

-- Calls for one user go to the partition of the user's name.
create function set_user(i_username text, i_email text)
returns text as $$
    CLUSTER 'userdb';
    RUN ON get_hash(i_username);
$$ language plproxy security definer;

create function add_score(i_username text, i_points integer)
returns bigint as $$
    CLUSTER 'userdb';
    RUN ON get_hash(i_username);
$$ language plproxy security definer;

create function user_login(i_username text)
returns bigint as $$
    CLUSTER 'userdb';
    RUN ON get_hash(i_username);
$$ language plproxy security definer;

create function get_user(i_username text, out username text, out email text, out score bigint)
returns setof record as $$
    CLUSTER 'userdb';
    RUN ON get_hash(i_username);
$$ language plproxy security definer;

-- Calls that ask all partitions at once.
create function all_users(out username text, out email text, out score bigint)
returns setof record as $$
    CLUSTER 'userdb';
    RUN ON ALL;
$$ language plproxy security definer;

create function all_logins(out username text, out logins bigint)
returns setof record as $$
    CLUSTER 'userdb';
    RUN ON ALL;
$$ language plproxy security definer;

create function _user_stats(out stat_name text, out stat_value bigint)
returns setof record as $$
    CLUSTER 'userdb';
    RUN ON ALL;
    SELECT s.stat_name, s.stat_value FROM user_stats() s;
$$ language plproxy security definer;

create function user_stats(out stat_name text, out stat_value bigint)
returns setof record as $$
    select s.stat_name, sum(s.stat_value)::bigint
      from public._user_stats() s
     group by s.stat_name
     order by s.stat_name;
$$ language sql;

-- The names that the load script picks from, by number.
create table word (nr serial primary key, username text not null unique);
create function word(i_nr integer)
returns text as $$
    select w.username from public.word w where w.nr = i_nr;
$$ language sql stable;

-- Connect strings hold passwords: the functions run as a role that may read them, and
-- callers may not.
create role interface;
grant usage on schema plproxy to interface;
do $$
declare
    v_function  regprocedure;
begin
    for v_function in
        select p.oid from pg_proc p join pg_language l on l.oid = p.prolang where l.lanname = 'plproxy'
    loop
        execute format('alter function %s owner to interface', v_function);
    end loop;
end;
$$;

create role app login password 'front';
grant select on word to app;
