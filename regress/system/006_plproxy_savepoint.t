#!/usr/bin/env bash
# 006_plproxy_savepoint.t: a tied call is cancelled while its partition is still making the
# savepoint. The request waits for that: what the transaction has done before is kept.
#
# The partition is a server of its own that logs all statements into a pipe. While nobody
# reads the pipe and it is full, the server stands still in the midst of a statement.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
finish() {
    [ -z "${reader:-}" ] || kill "$reader" 2>/dev/null
    "$TOP/scripts/pgcluster" stop "$dir/second" immediate 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
second() { PGPORT=$port1 psql "$@"; }

port1=$("$TOP/scripts/pgcluster" start "$dir/second" "$SKYTOOLS_TEST_TREE")
"$TOP/scripts/pgcluster" stop "$dir/second"
mv "$dir/second/log" "$dir/second/log.1"
mkfifo -m 666 "$dir/second/log"
[ "$(id -u)" != 0 ] || chown "$(server_user)" "$dir/second/log"
exec 9<>"$dir/second/log"
read_log() { cat <&9 >>"$dir/second/log.1" 8>&- & reader=$!; }
read_log
"$TOP/scripts/pgcluster" start "$dir/second" "$SKYTOOLS_TEST_TREE" 9<&- >/dev/null

psql -d postgres -c 'create database savepoint_proxy'
second -d postgres -c 'create database savepoint_p0'
second -d savepoint_p0 <<'SQL'
create table item (id int4);
create function put(i_id int4) returns void language sql as 'insert into item values (i_id); select pg_sleep(60 * (i_id / 100))';
alter database savepoint_p0 set log_statement = 'all';
SQL
psql -d savepoint_proxy <<SQL
create extension plproxy;
create server tied foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=$port1 dbname=savepoint_p0');
create user mapping for public server tied options (user 'postgres');
alter database savepoint_proxy set plproxy.transactions = tied;
create function put(i_id int4) returns void language plproxy as \$\$ cluster 'tied'; \$\$;
create function try_put(i_id int4) returns text language plpgsql as \$\$
begin
    perform put(i_id);
    return 'put';
exception when query_canceled then
    return sqlstate;
end;
\$\$;
SQL

mkfifo "$dir/in"
PGAPPNAME=caller "$PGBIN/psql" -X -q -At -d savepoint_proxy <"$dir/in" >"$dir/out" 2>&1 9<&- &
caller=$!
exec 8>"$dir/in"
echo "begin; select put(1); select 'begun';" >&8
until_true 60 grep -q begun "$dir/out"

# from here on the second server stands still when it logs
kill "$reader"
wait "$reader" 2>/dev/null
for size in 4096 1; do
    yes | dd bs=$size oflag=nonblock >/dev/fd/9 2>/dev/null
done
echo "set local statement_timeout = '300ms'; select try_put(100);" >&8
making() { [ -n "$(second -d postgres -c "select 1 from pg_stat_activity where query like 'savepoint %' and state = 'active'")" ]; }
late() { [ -n "$(psql -d postgres -c "select 1 from pg_stat_activity where application_name = 'caller' and state = 'active'
    and clock_timestamp() - query_start > interval '800 ms'")" ]; }
is "the partition is making the savepoint" until_true 60 making
is "the caller's time is up" until_true 60 late
read_log
{ echo "set local statement_timeout = 0; select put(2); commit;"; } >&8
exec 8>&-
wait $caller
is "the call was cancelled" grep -qx 57014 "$dir/out"
is "nothing else went wrong" fails 1 grep ERROR "$dir/out"
items() { [ "$(second -d savepoint_p0 -c 'select array_agg(id order by id) from item')" = "{1,2}" ]; }
is "what was done before and afterwards is committed" items
psql -d postgres -c 'drop database savepoint_proxy (force)'
done_testing
