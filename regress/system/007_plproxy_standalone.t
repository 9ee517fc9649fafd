#!/usr/bin/env bash
# 007_plproxy_standalone.t: a server in single-user mode, which has no postmaster to
# watch, calls partitions as any other.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
finish() {
    "$TOP/scripts/pgcluster" stop "$dir/server" immediate 2>/dev/null
    "$PGBIN/psql" -X -q -d postgres -c 'drop database if exists standalone_part (force)'
    rm -rf "$dir"
}
trap finish EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
psql -d postgres -c 'create database standalone_part'
psql -d standalone_part -c 'create table kept (a int4)' \
    -c "create function keep(i_a int4) returns int4 language sql as 'insert into kept values (i_a) returning a'"

port=$("$TOP/scripts/pgcluster" start "$dir/server" "$SKYTOOLS_TEST_TREE") || exit 1
psql -p "$port" -d postgres <<SQL
create extension plproxy;
create server parts foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=$PGPORT dbname=standalone_part user=postgres',
    p1 'host=127.0.0.1 port=$PGPORT dbname=standalone_part user=postgres application_name=p1');
create user mapping for public server parts;
create function keep(i_a int4) returns int4 language plproxy as \$\$ cluster 'parts'; run on 0; \$\$;
create function keep_all(i_a int4) returns setof int4 language plproxy as \$\$ cluster 'parts'; run on all; target keep; \$\$;
SQL
"$TOP/scripts/pgcluster" stop "$dir/server" fast

as_server "$PGBIN/postgres" --single -D "$dir/server/data" postgres >"$dir/said" 2>&1 <<'SQL'
select keep(1)
select keep_all(2)
begin
set local plproxy.transactions = tied
select keep(3)
select keep_all(4)
commit
begin
set local plproxy.transactions = tied
select keep(5)
rollback
SQL
# kept ROWS: that many rows are on the partition, and the server said nothing bad
kept() {
    local rows
    rows=$(psql -d standalone_part -c 'select string_agg(a::text, $$ $$ order by a) from kept')
    [ "$rows" = "$1" ] && ! grep -E 'ERROR|PANIC|FATAL' "$dir/said" || { echo "kept: $rows"; cat "$dir/said"; return 1; }
}
is "calls, tied ones too, do their work" kept '1 2 2 3 4 4'
done_testing
