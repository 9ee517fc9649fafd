#!/usr/bin/env bash
# 05_application_driven_partitioning.t: "plProxy: Application Driven Partitioning". The application says
# with each call whether it must see the latest (shopdb) or may ask the replica (shopdb_ro), a
# streaming standby.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start proxy primary
make_databases proxy shopdb
make_databases primary shopdb
on primary shopdb <<'SQL'
create table item (id integer primary key, stock integer not null);
insert into item select i, 10 from generate_series(1, 3) i;
create function get_stock(i_refresh boolean, i_id integer, out stock integer, out replica boolean) language sql as
    'select i.stock, pg_is_in_recovery() from item i where i.id = i_id';
create function set_stock(i_refresh boolean, i_id integer, i_stock integer) returns integer language sql as
    'update item i set stock = i_stock where i.id = i_id returning i.stock';
SQL

# the replica
mkdir "$dir/standby"
[ "$(id -u)" != 0 ] || chown "$(server_user)" "$dir/standby"
is "a base backup is made" as_server "$PGBIN/pg_basebackup" -h 127.0.0.1 -p "${port[primary]}" -U postgres -D "$dir/standby/data" -R -X stream -c fast
as_server sh -c "echo \"unix_socket_directories = '$dir/standby'\" >>'$dir/standby/data/postgresql.conf'"
echo "$SKYTOOLS_TEST_TREE" >"$dir/standby/tree"
free_port >"$dir/standby/port"
start standby
is "the replica follows" until_true 60 gives primary postgres "select state from pg_stat_replication" streaming

on proxy shopdb <<SQL
create extension plproxy;
create server shopdb foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=${port[primary]} dbname=shopdb');
create server shopdb_ro foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=${port[standby]} dbname=shopdb');
create user mapping for public server shopdb;
create user mapping for public server shopdb_ro;
SQL
# the slide's function
on proxy shopdb <<'SQL'
CREATE FUNCTION get_cluster(i_refresh boolean)
RETURNS text AS $$
BEGIN
    IF i_refresh THEN
        return 'shopdb';
    ELSE
        return 'shopdb_ro';
    END IF;
END; $$ LANGUAGE plpgsql;
SQL
on proxy shopdb <<'SQL'
create function get_stock(i_refresh boolean, i_id integer, out stock integer, out replica boolean) as $$
    cluster get_cluster(i_refresh);
$$ language plproxy;
create function set_stock(i_refresh boolean, i_id integer, i_stock integer) returns integer as $$
    cluster get_cluster(i_refresh);
$$ language plproxy;
SQL

is "with refresh the online database answers" gives proxy shopdb "select * from get_stock(true, 1)" '10|f'
is "without, the replica does" gives proxy shopdb "select * from get_stock(false, 1)" '10|t'
is "and if nothing is said" gives proxy shopdb "select * from get_stock(null, 1)" '10|t'

# A replica that lags: it is made to wait, so that it does for as long as we look.
on standby postgres -c "select pg_wal_replay_pause()" >/dev/null
is "the replica is held" until_true 60 gives standby postgres "select pg_get_wal_replay_pause_state()" paused
is "what is written" gives proxy shopdb "select set_stock(true, 1, 9)" 9
is "is seen with refresh, and not yet without" gives proxy shopdb "select stock from get_stock(true, 1); select stock from get_stock(false, 1)" 9 10
tour() {
    shown proxy shopdb <<'SQL'
select * from get_stock(i_refresh => true, i_id => 1);
select * from get_stock(i_refresh => false, i_id => 1);
SQL
}
is "the tour of the README shows it" tour
on standby postgres -c "select pg_wal_replay_resume()" >/dev/null
is "the replica comes after" until_true 60 gives proxy shopdb "select * from get_stock(false, 1)" '9|t'

is "the replica writes nothing" refused 25006 'cannot execute UPDATE in a read-only transaction' proxy shopdb "select set_stock(false, 1, 8)"
is "and nothing is written" gives proxy shopdb "select stock from get_stock(true, 1)" 9

# The online database away: who can do with the replica works on.
"$TOP/scripts/pgcluster" stop "$dir/primary" immediate
is "with the online database away the replica answers" gives proxy shopdb "select * from get_stock(false, 1)" '9|t'
is "and refresh fails, by name" refused 08001 'cluster "shopdb"' proxy shopdb "select * from get_stock(true, 1)"

done_testing
