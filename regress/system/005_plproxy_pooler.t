#!/usr/bin/env bash
# 005_plproxy_pooler.t: calls are right through our pooler in transaction mode, which knows
# nothing of prepared statements and gives a call whatever server connection is free.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
pooler=
finish() {
    [ -z "$pooler" ] || kill "$pooler" 2>/dev/null
    [ -z "$pooler" ] || wait "$pooler" 2>/dev/null
    "$TOP/scripts/pgcluster" stop "$dir/server" immediate
    rm -rf "$dir"
}
trap finish EXIT
PGPORT=$("$TOP/scripts/pgcluster" start "$dir/server" "$SKYTOOLS_TEST_TREE") || exit 1
export PGPORT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
same() { diff <(printf '%s\n' "${@:2}") <(eval "$1"); }

psql -d postgres -c "create database part" -c "create database proxy"
psql -d part <<'SQL'
create function plus(i int4) returns int4 language sql as 'select i + 1';
create function shift(i_at date) returns date language sql as 'select i_at + 1';
create function fail(i int4) returns int4 language plpgsql as $$ begin raise exception 'failed %', i; end $$;
create function servers() returns int8 language sql as
    'select count(distinct pid) from pg_stat_activity where datname = ''part''';
create table item (id int4, n int4);
create function put(i_id int4, i_n int4) returns int4 language sql as 'insert into item values (i_id, i_n) returning n';
create function nap() returns int4 language sql as 'select 1 from pg_sleep(600)';
alter database part set datestyle = 'sql, dmy';
SQL

port=$(free_port)
cat >"$dir/pooler.ini" <<INI
[databases]
part = host=127.0.0.1 port=$PGPORT dbname=part
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
admin_users = postgres
INI
sed -i 's/^part = .*/& user=postgres/' "$dir/pooler.ini"
mkdir "$dir/bin"
cp "$BUILD/bin/skytools" "$dir/bin/pooler"
"${server_prefix[@]}" "$dir/bin/pooler" "$dir/pooler.ini" >"$dir/pooler.log" 2>&1 &
pooler=$!
is "the pooler answers" until_true 60 psql -p "$port" -d part -c "select 1"

psql -d proxy <<SQL
create extension plproxy;
create server auto foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=$port dbname=part user=postgres');
create server always foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=$port dbname=part user=postgres', prepared_statements 'on');
create server never foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=$port dbname=part user=postgres', prepared_statements 'off');
create user mapping for public server auto;
create user mapping for public server always;
create user mapping for public server never;
create function plus(i_cluster text, i int4) returns int4 language plproxy as
    \$\$ cluster i_cluster; select r from plus(i) r; \$\$;
create function shift(i_cluster text, i_at date) returns date language plproxy as
    \$\$ cluster i_cluster; select r from shift(i_at) r; \$\$;
create function fail(i_cluster text, i int4) returns int4 language plproxy as
    \$\$ cluster i_cluster; select r from fail(i) r; \$\$;
create function put(i_cluster text, i_id int4, i_n int4) returns int4 language plproxy as
    \$\$ cluster i_cluster; select r from put(i_id, i_n) r; \$\$;
create function nap(i_cluster text) returns int4 language plproxy as
    \$\$ cluster i_cluster; select r from nap() r; \$\$;
create function put_two(i_cluster text, i_id int4) returns void language plpgsql as \$\$
begin
    perform put(i_cluster, i_id, 1);
    begin
        perform put(i_cluster, i_id, 100), fail(i_cluster, i_id);
    exception when raise_exception then
        null;
    end;
    perform put(i_cluster, i_id, 2);
end \$\$;
create function servers() returns int8 language plproxy as \$\$ cluster 'auto'; \$\$;
create function check_all(i_cluster text, i int4) returns void language plpgsql as \$\$
begin
    assert plus(i_cluster, i) = i + 1;
    assert shift(i_cluster, date '2026-02-03' + i) = date '2026-02-04' + i;
    begin
        perform fail(i_cluster, i);
        raise exception 'it did not fail';
    exception when raise_exception then
        assert sqlerrm = 'failed ' || i, sqlerrm;
    end;
end \$\$;
SQL

for cluster in auto always never; do
    printf '%s\n' "\\set i random(1, 10000)" "select check_all('$cluster', :i);" >"$dir/$cluster.sql"
    bench() { "$PGBIN/pgbench" -n -c 8 -t 100 -f "$dir/$cluster.sql" proxy; }
    is "prepared_statements of cluster $cluster: eight sessions share three servers" bench
done
is "there were three of them" same "psql -d proxy -c 'select servers()'" 3

# tied: each transaction has a server for itself until it ends
for cluster in auto always never; do
    printf '%s\n' '\set i random(1, 1000000)' 'begin;' 'set local plproxy.transactions = tied;' \
        "select put_two('$cluster', :i);" 'commit;' 'begin;' 'set local plproxy.transactions = tied;' \
        "select put_two('$cluster', :i);" 'rollback;' >"$dir/tied.sql"
    tied() { "$PGBIN/pgbench" -n -c 8 -t 20 -f "$dir/tied.sql" proxy; }
    is "tied calls, prepared_statements of cluster $cluster: eight sessions share three servers" tied
done
is "what was committed stands, and no more" same "psql -d part -c 'select count(*), sum(n) from item'" "960|1440"

# a session whose pooler pauses and hangs up on servers
admin() { psql -p "$port" -d pgbouncer -c "$1"; }
mkfifo "$dir/in"
psql -d proxy <"$dir/in" >"$dir/out" 2>&1 &
session=$!
exec 7>"$dir/in"
echo "select plus('auto', 1), plus('always', 1), plus('never', 1);" >&7
is "a session has called" until_true 60 grep -q '^2|2|2$' "$dir/out"
admin pause
echo "select plus('auto', 2), plus('always', 2), plus('never', 2);" >&7
is "its call waits for the paused pooler" until_true 60 eval \
    "[ \"\$(psql -d postgres -c \"select count(*) from pg_stat_activity where datname = 'proxy' and state = 'active'\")\" = 1 ]"
admin resume
is "and goes on with it" until_true 60 grep -q '^3|3|3$' "$dir/out"
admin reconnect
echo "select plus('auto', 3), plus('always', 3), plus('never', 3);" >&7
is "other servers make no difference" until_true 60 grep -q '^4|4|4$' "$dir/out"
echo "set statement_timeout = '1s'; select nap('always');" >&7
is "a cancel goes through the pooler" until_true 60 grep -q 'canceling statement due to statement timeout' "$dir/out"
exec 7>&-
wait $session
is "and nothing runs on" until_true 60 eval \
    "[ \"\$(psql -d postgres -c \"select count(*) from pg_stat_activity where wait_event = 'PgSleep'\")\" = 0 ]"

# one session: lost statements make it stop preparing, or go on
count() { psql -d proxy -c "select count(plus('$1', i)) from generate_series(1, 100) i" \
    -c "select prepared > 0 from plproxy_connections" | tail -1; }
is "never means none" same "count never" f
is "always means some" same "count always" t

done_testing
