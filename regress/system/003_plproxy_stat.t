#!/usr/bin/env bash
# 003_plproxy_stat.t: with the library preloaded, plproxy_stat_calls counts for all
# sessions and databases of the server, and has the room that its setting gives it.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
finish() {
    "$TOP/scripts/pgcluster" stop "$dir/server" immediate
    rm -rf "$dir"
}
trap finish EXIT
PGPORT=$("$TOP/scripts/pgcluster" start "$dir/server" "$SKYTOOLS_TEST_TREE" \
    shared_preload_libraries=plproxy plproxy.stat_calls_max=100) || exit 1
export PGPORT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
# counts DB: the rows of one's own database
counts() {
    psql -d "$1" -c "select function, cluster, partition, calls, errors, rows, bytes from plproxy_stat_calls
        where datname = current_database() order by function"
}
same() { diff <(printf '%s\n' "${@:2}") <(eval "$1"); }

for db in stat_a stat_b; do
    psql -d postgres -c "create database $db"
    psql -d $db <<SQL
create extension plproxy;
create server part foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=$PGPORT dbname=postgres');
create user mapping for public server part;
create function one() returns int4 language plproxy as \$\$ cluster 'part'; select 1; \$\$;
create function fail() returns int4 language plproxy as \$\$ cluster 'part'; select 1 / 0; \$\$;
SQL
done

is "the limit cannot be changed while the server runs" \
    same "psql -d stat_a -c \"select context from pg_settings where name = 'plproxy.stat_calls_max'\"" postmaster
psql -d stat_a -c "select one()" >/dev/null
psql -d stat_a -c "select one(), one()" >/dev/null
psql -v ON_ERROR_STOP=0 -d stat_a -c "select fail()" >/dev/null 2>&1
psql -d stat_b -c "select one()" >/dev/null
is "the calls of all sessions are added up" same "counts stat_a" 'fail()|part|0|1|1|0|0' 'one()|part|0|3|0|3|3'
is "each database has rows of its own" same "counts stat_b" 'one()|part|0|1|0|1|1'
is "the other database's rows have no function name" \
    same "psql -d stat_b -c \"select function is null, calls from plproxy_stat_calls where datname = 'stat_a' order by calls\"" 't|1' 't|3'

cat >"$dir/one.sql" <<<"select one();"
"$PGBIN/pgbench" -n -c 4 -t 250 -f "$dir/one.sql" stat_b >/dev/null 2>&1
is "nothing is lost when sessions count at the same time" same "counts stat_b" 'one()|part|0|1001|0|1001|1001'

# 150 functions do not fit; those that were called last do
psql -d stat_a -c "do \$x\$ begin
    for i in 1 .. 150 loop
        execute format('create function many_%s() returns int4 language plproxy as \$\$ cluster ''part''; select 1; \$\$', i);
    end loop;
    for i in 1 .. 150 loop
        execute format('select many_%s()', i);
    end loop;
end \$x\$"
is "the table does not grow over its limit, and knows the latest" \
    same "psql -d stat_a -c \"select count(*) between 95 and 100, bool_or(function = 'many_150()'), bool_or(function = 'many_1()') from plproxy_stat_calls where funcid is not null\"" 't|t|f'
is "what had to make room is still in the sum" \
    same "psql -d stat_a -c \"select sum(calls), sum(errors), sum(rows), count(*) filter (where funcid is null) from plproxy_stat_calls\"" '1155|1|1154|1'

psql -d stat_a -c "create role watcher login"
is "another role does not see the rows" same "psql -U watcher -d stat_a -c 'select count(*) from plproxy_stat_calls'" 0
psql -d stat_a -c "grant pg_read_all_stats to watcher"
is "with pg_read_all_stats it does" same "psql -U watcher -d stat_a -c 'select count(*) > 90 from plproxy_stat_calls'" t
is "it must not reset" fails 1 psql -U watcher -d stat_a -c "select plproxy_stat_reset()"
psql -d stat_a -c "select plproxy_stat_reset()" >/dev/null
is "a reset is for all databases" same "psql -d stat_b -c 'select count(*) from plproxy_stat_calls'" 0

psql -d stat_a -c "select one()" >/dev/null
"$TOP/scripts/pgcluster" restart "$dir/server" >/dev/null
is "a restart begins anew" same "psql -d stat_a -c 'select count(*) from plproxy_stat_calls'" 0
psql -d stat_a -c "select one()" >/dev/null
is "and counts again" same "counts stat_a" 'one()|part|0|1|0|1|1'

done_testing
