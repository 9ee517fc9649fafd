#!/usr/bin/env bash
# 04_run_on_all_statistics.t: "plProxy: Run On All for Stats". Each partition counts by sequences
# of its schema stats; the proxy asks all of them at once and gives the sums.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start proxy data
make_databases data userdb_p00 userdb_p01 userdb_p02 userdb_p03
make_databases proxy userdb

for db in userdb_p00 userdb_p01 userdb_p02 userdb_p03; do
    on data "$db" <<'SQL'
create schema stats;
-- A sequence that was never used has its start as last_value, so it is set once: 0 means none.
create sequence stats.logins minvalue 0;
create sequence stats.logins_failed minvalue 0;
select setval('stats.logins', 0), setval('stats.logins_failed', 0) \g /dev/null
-- no sequences of the schema: neither may show in the statistics
create table stats.logins_of_a_day (logins bigint);
create sequence public.user_id;

create table users (username text primary key, password text);
create function add_user(i_username text, i_password text) returns void language sql as
    'insert into users values (i_username, i_password)';
create function login(i_username text, i_password text) returns boolean language plpgsql as $$
begin
    perform from users u where u.username = i_username and u.password = i_password;
    if found then
        perform nextval('stats.logins');
        return true;
    end if;
    perform nextval('stats.logins_failed');
    raise exception 'login of % failed', i_username using errcode = '28000';
end $$;
SQL
    # the slide's function of the partition
    on data "$db" <<'SQL'
CREATE FUNCTION stats._get_stats(
    OUT stat_name text,
    OUT stat_value bigint)
RETURNS SETOF record AS $$
declare
    seq record;
begin
    for seq in
        select c.relname,
               'select last_value from stats.'
               || c.relname as sql
        from pg_class c, pg_namespace n
        where n.nspname = 'stats'
              and c.relnamespace = n.oid
              and c.relkind = 'S'
        order by 1
    loop
        stat_name := seq.relname;
        execute seq.sql into stat_value;
        return next;
    end loop;
    return;
end;
$$ LANGUAGE plpgsql;
SQL
done

on proxy userdb <<SQL
create extension plproxy;
create schema stats;
create server userdb foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=${port[data]} dbname=userdb_p00', p1 'host=127.0.0.1 port=${port[data]} dbname=userdb_p01',
    p2 'host=127.0.0.1 port=${port[data]} dbname=userdb_p02', p3 'host=127.0.0.1 port=${port[data]} dbname=userdb_p03');
create user mapping for public server userdb;
create function add_user(i_username text, i_password text) returns void language plproxy as
    \$\$ cluster 'userdb'; run on hashtext(i_username); \$\$;
create function login(i_username text, i_password text) returns boolean language plproxy as
    \$\$ cluster 'userdb'; run on hashtext(i_username); \$\$;
SQL
# the slide's functions of the proxy
on proxy userdb <<'SQL'
CREATE FUNCTION stats._get_stats(
    OUT stat_name text,
    OUT stat_value bigint)
RETURNS SETOF record AS $$
    cluster 'userdb';
    run on all;
$$ LANGUAGE plproxy;
SQL
on proxy userdb <<'SQL'
CREATE FUNCTION stats.get_stats(
    OUT stat_name text,
    OUT stat_value bigint)
RETURNS SETOF record AS $$
    select stat_name,
           (sum(stat_value))::bigint
    from stats._get_stats()
    group by stat_name
    order by stat_name;
$$ LANGUAGE sql;
SQL

is "nobody has logged in" gives proxy userdb "select * from stats.get_stats()" 'logins|0' 'logins_failed|0'

# Users u1 .. u100 log in, u<i> i times; then each fails once.
on proxy userdb <<'SQL'
select count(add_user('u' || i, 'secret' || i)) from generate_series(1, 100) i \g /dev/null
select count(login('u' || i, 'secret' || i)) from generate_series(1, 100) i, generate_series(1, i) \g /dev/null
do $$
declare
    v_failed integer := 0;
begin
    for i in 1 .. 100 loop
        begin
            perform login('u' || i, 'guessed');
        exception when invalid_authorization_specification then
            v_failed := v_failed + 1;
        end;
    end loop;
    assert v_failed = 100;
end $$;
SQL
is "the sums of all partitions" gives proxy userdb "select * from stats.get_stats()" 'logins|5050' 'logins_failed|100'
is "a failed call has counted, though its transaction was rolled back" \
    gives proxy userdb "select stat_value from stats.get_stats() where stat_name = 'logins_failed'" 100
is "what the proxy sums up are four rows a statistic" \
    gives proxy userdb "select stat_name, count(*), sum(stat_value) from stats._get_stats() group by 1 order by 1" \
    'logins|4|5050' 'logins_failed|4|100'
# the same by hand, on each partition
by_hand() {
    local db
    for db in userdb_p00 userdb_p01 userdb_p02 userdb_p03; do
        on data "$db" -c "select 'logins', last_value from stats.logins" -c "select 'logins_failed', last_value from stats.logins_failed"
    done
}
same_by_hand() { diff <(by_hand) <(on proxy userdb -c 'select * from stats._get_stats()'); }
is "they are the partitions' own, partition by partition" same_by_hand
all_have_some() { [ "$(by_hand | grep -cvE '\|0$')" = 8 ] || by_hand; }
is "every partition has some of each" all_have_some

is "the tour of the README shows it" shown proxy userdb <<'SQL'
select * from stats.get_stats();
SQL

# A statistic that only one partition knows yet.
on data userdb_p02 -c "create sequence stats.mails_sent" -c "select setval('stats.mails_sent', 7)" >/dev/null
is "a new sequence is a new statistic, without a change of any function" \
    gives proxy userdb "select * from stats.get_stats()" 'logins|5050' 'logins_failed|100' 'mails_sent|7'

# The slide puts names into SQL as they are.
on data userdb_p01 -c 'create sequence stats."Mails Read"'
is "a name that needs quotes fails aloud" refused 42P01 'relation "stats.mails" does not exist' proxy userdb "select * from stats.get_stats()"
on data userdb_p01 -c 'drop sequence stats."Mails Read"'

# One partition away: half a sum is no sum.
on data postgres -c "alter database userdb_p03 allow_connections false" \
    -c "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = 'userdb_p03'" >/dev/null
is "a partition that is away is an error" refused 08001 'partition 3 of cluster "userdb"' proxy userdb "select * from stats.get_stats()"
on proxy userdb -c "alter server userdb options (add on_partition_error 'skip')"
skipped() {
    on proxy userdb -c "select * from stats.get_stats()" >"$dir/out" 2>"$dir/err" || return 1
    grep -qx "logins|$1" "$dir/out" && grep -q 'WARNING:  partition 3 of cluster "userdb"' "$dir/err" || { cat "$dir/out" "$dir/err"; return 1; }
}
rest=0
for db in userdb_p00 userdb_p01 userdb_p02; do
    rest=$((rest + $(on data "$db" -c "select last_value from stats.logins")))
done
is "who can do with less says so, and is told of what is missing" skipped $rest
on data postgres -c "alter database userdb_p03 allow_connections true"
is "it is back: all of it again" gives proxy userdb "select * from stats.get_stats()" 'logins|5050' 'logins_failed|100' 'mails_sent|7'

done_testing
