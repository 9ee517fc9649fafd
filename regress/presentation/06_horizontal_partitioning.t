#!/usr/bin/env bash
# 06_horizontal_partitioning.t: "plProxy: Horizontal Partitioning" and "Partitioning Partition
# Functions". Users are spread by the hash of their names over four partitions behind a pooler; two
# proxies serve the same; a call that comes to the wrong partition is refused there.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start data proxy1 proxy2
make_databases data userdb_p00 userdb_p01 userdb_p02 userdb_p03
pooler pool 'default_pool_size = 2' <<INI
userdb_p00 = host=127.0.0.1 port=${port[data]} user=postgres
userdb_p01 = host=127.0.0.1 port=${port[data]} user=postgres
userdb_p02 = host=127.0.0.1 port=${port[data]} user=postgres
userdb_p03 = host=127.0.0.1 port=${port[data]} user=postgres
INI

# ---- the partitions

for nr in 0 1 2 3; do
    on data userdb_p0$nr >"$dir/out" <<SQL
create extension partconf;
select partconf.set_conf(i_part_nr => $nr, i_max_part => 3, i_db_code => 10 + $nr);
create table users (id bigint primary key default partconf.global_id(), username text not null unique, email text);
SQL
    # the slide's function
    on data userdb_p0$nr <<'SQL'
CREATE FUNCTION public.get_user_email( i_username text)
RETURNS text AS $$
DECLARE
    retval text;
BEGIN
    PERFORM partconf.check_hash(i_username);

    SELECT email FROM users
    WHERE username = lower(i_username) INTO retval;

    RETURN retval;
END;
$$ LANGUAGE plpgsql;
SQL
    on data userdb_p0$nr <<'SQL'
create function set_user_email(i_username text, i_email text) returns bigint language plpgsql as $$
declare
    v_id bigint;
begin
    perform partconf.check_hash(i_username);
    insert into users (username, email) values (lower(i_username), i_email)
    on conflict (username) do update set email = excluded.email
    returning id into v_id;
    return v_id;
end $$;
-- what the slide's function would be without its guard
create function get_user_email_unguarded(i_username text) returns text language sql as
    'select u.email from users u where u.username = lower(i_username)';
create function all_users(out id bigint, out username text, out email text, out place text) returns setof record language sql as
    'select u.id, u.username, u.email, current_database() from users u';
SQL
done

# ---- the proxies, each other's exact duplicate

cat >"$dir/proxy.sql" <<SQL
create extension plproxy;
create schema plproxy;
create function plproxy.get_cluster_version(i_cluster text) returns integer language sql as 'select 1';
create function plproxy.get_cluster_config(i_cluster text, out key text, out val text) returns setof record language sql as
    \$\$ select 'connection_lifetime'::text, (30 * 60)::text \$\$;
create function plproxy.get_cluster_partitions(i_cluster text) returns setof text language sql as \$\$
    select format('host=127.0.0.1 port=${port[pool]} dbname=userdb_p0%s user=proxy', nr) from generate_series(0, 3) nr
     where i_cluster = 'userdb'
\$\$;
create function set_user_email(i_username text, i_email text) returns bigint language plproxy as
    \$\$ cluster 'userdb'; run on get_hash(i_username); \$\$;
create function get_user_email_unguarded(i_username text) returns text language plproxy as
    \$\$ cluster 'userdb'; run on get_hash(i_username); \$\$;
create function all_users(out id bigint, out username text, out email text, out place text) returns setof record language plproxy as
    \$\$ cluster 'userdb'; run on all; \$\$;
SQL
# the slide's functions
cat >>"$dir/proxy.sql" <<'SQL'
CREATE FUNCTION public.get_hash(
    i_key_user text)
RETURNS integer AS $$
BEGIN
    return hashtext(lower(i_key_user));
END;
$$ LANGUAGE plpgsql;

CREATE FUNCTION public.get_user_email(text)
RETURNS text AS $$
    cluster 'userdb';
    run on get_hash($1);
$$ LANGUAGE plproxy;

-- how a call ends: for all users of the test, how many got theirs, nothing, another's, or an error
create function outcomes(i_function text, out outcome text, out calls bigint) returns setof record language plpgsql as $$
declare
    v_email text;
begin
    create temp table seen (outcome text) on commit drop;
    for i in 1 .. 400 loop
        begin
            execute format('select %I($1)', i_function) using 'User' || i into v_email;
            insert into seen values (case when v_email is null then 'nothing'
                                          when v_email = 'user' || i || '@example.com' then 'right' else 'wrong' end);
        exception when others then
            insert into seen values (sqlstate);
        end;
    end loop;
    return query select s.outcome, count(*) from seen s group by s.outcome order by s.outcome;
end $$;
SQL
make_databases proxy1 userdb
make_databases proxy2 userdb
on proxy1 userdb -f "$dir/proxy.sql"
on proxy2 userdb -f "$dir/proxy.sql"

# ---- users

on proxy1 userdb -c "select count(set_user_email('User' || i, 'user' || i || '@example.com')) from generate_series(1, 400, 2) i" >"$dir/out"
on proxy2 userdb -c "select count(set_user_email('USER' || i, 'user' || i || '@example.com')) from generate_series(2, 400, 2) i" >"$dir/out"
is "what came by either proxy is seen by both: the first" gives proxy1 userdb "select * from outcomes('get_user_email')" 'right|400'
is "and the second" gives proxy2 userdb "select * from outcomes('get_user_email')" 'right|400'
is "each user is on one partition, the one of the lower bits of the hash" gives proxy1 userdb \
    "select count(*), count(distinct username), bool_and(place = 'userdb_p0' || (hashtext(username) & 3)) from all_users()" '400|400|t'
is "they are spread about equally" gives proxy2 userdb \
    "select count(*), bool_and(users between 70 and 130) from (select place, count(*) as users from all_users() group by place) p" '4|t'
is "ids are unique over all of them, and say where they were made" gives proxy1 userdb \
    "select count(distinct id), bool_and((id & 16383) - 10 = hashtext(username) & 3) from all_users()" '400|t'
is "a name is the same in any case" gives proxy1 userdb \
    "select get_user_email('user5'), get_user_email('USER5') , get_user_email('uSeR5')" 'user5@example.com|user5@example.com|user5@example.com'
is "nobody is nobody" gives proxy1 userdb "select get_user_email('nobody') is null" t
is "the tour of the README shows a call" shown proxy1 userdb <<'SQL'
select get_user_email('User5');
SQL
is "and one that comes to the wrong partition" shown data userdb_p00 <<'SQL'
select get_user_email('User5');
SQL

# ---- routed wrongly

for nr in 0 1 2 3; do
    is "by hand, partition $nr answers for its own users and refuses all others" gives data userdb_p0$nr "
        do \$\$
        declare
            v_answered boolean;
        begin
            for i in 1 .. 400 loop
                begin
                    perform get_user_email('User' || i);
                    v_answered := true;
                exception when sqlstate 'PX001' then
                    v_answered := false;
                end;
                assert v_answered = (hashtext('user' || i) & 3 = $nr), i;
            end loop;
        end \$\$; select 'all tried'" 'all tried'
done
# reroute VERSION PARTITIONS: what the second proxy's configuration becomes
reroute() {
    on proxy2 userdb <<SQL
begin;
create or replace function plproxy.get_cluster_partitions(i_cluster text) returns setof text language sql as \$\$
    select format('host=127.0.0.1 port=${port[pool]} dbname=userdb_p0%s user=proxy', nr) from unnest('{$2}'::int[]) nr
     where i_cluster = 'userdb'
\$\$;
create or replace function plproxy.get_cluster_version(i_cluster text) returns integer language sql as 'select $1';
commit;
SQL
}
before=$(on proxy1 userdb -c "select md5(string_agg(u::text, ',' order by u.username)) from all_users() u")
reroute 2 1,0,3,2
is "a proxy with its partitions mixed up gets an error for each call" gives proxy2 userdb "select * from outcomes('get_user_email')" 'PX001|400'
is "without the guard they would just be nobody" gives proxy2 userdb "select * from outcomes('get_user_email_unguarded')" 'nothing|400'
is "it writes nothing" refused PX001 '' proxy2 userdb "select set_user_email('user1', 'lost@example.com')"
reroute 3 0,1
is "one that knows half of them is right for the half, and gets errors for the rest" gives proxy2 userdb \
    "select string_agg(outcome, ' '), sum(calls), bool_and(calls between 150 and 250) from outcomes('get_user_email')" 'PX001 right|400|t'
reroute 4 0,1,2,3
is "set right, it serves all again" gives proxy2 userdb "select * from outcomes('get_user_email')" 'right|400'
is "and nothing has changed meanwhile" gives proxy1 userdb "select md5(string_agg(u::text, ',' order by u.username)) from all_users() u" "$before"
on data userdb_p01 -c "delete from partconf.conf"
is "a partition that does not know which it is answers to nobody" gives proxy1 userdb \
    "select outcome, calls between 70 and 130 from outcomes('get_user_email') where outcome <> 'right'" 'PX004|t'
on data userdb_p01 -c "select partconf.set_conf(1, 3, 11)" >"$dir/out"

# ---- proxies are stateless

is "a proxy holds no table" gives proxy1 userdb "select count(*) from pg_class where relkind in ('r', 'm', 'S') and relnamespace not in
    ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)" 0
printf '%s\n' '\set i random(1, 400)' "select set_user_email('User' || :i, 'user' || :i || '@example.com'), get_user_email('User' || :i);" >"$dir/load.sql"
load() { "$PGBIN/pgbench" -n -c 8 -t 25 -p "${port[$1]}" -f "$dir/load.sql" userdb; }
load proxy1 >"$dir/load1" 2>&1 &
one=$!
load proxy2 >"$dir/load2" 2>&1 &
two=$!
wait $one
is "sixteen sessions of two proxies at work: the first's" test $? = 0
wait $two
is "and the second's" test $? = 0
is "over the pool's two connections for each partition" gives data postgres \
    "select count(distinct datname), max(n) <= 2 from (select datname, count(*) n from pg_stat_activity where datname like 'userdb%' and backend_type = 'client backend' group by datname) a" '4|t'
"$TOP/scripts/pgcluster" stop "$dir/proxy1" immediate
is "with one proxy away the other serves everybody" gives proxy2 userdb "select * from outcomes('get_user_email')" 'right|400'

done_testing
