#!/usr/bin/env bash
# 004_plproxy_tied.t: transactions tied to partitions, broken off in the midst of the
# remote COMMITs. What then stands on the partitions is what the error says.
#
# The second partition is a server of its own whose commits can be held up at two
# points. Before they count: a commit that sends a notification waits for an earlier one
# that does. After they count: it waits for a standby that does not exist.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
finish() {
    "$TOP/scripts/pgcluster" stop "$dir/second" immediate 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
port1=$("$TOP/scripts/pgcluster" start "$dir/second" "$SKYTOOLS_TEST_TREE")
second() { PGPORT=$port1 PGOPTIONS='-c synchronous_commit=local' psql -d tied_p1 "$@"; }
proxy() { psql -d tied_proxy "$@"; }
standbys() { [ "$(second -c 'show synchronous_standby_names')" = "$1" ]; }

psql -d postgres -c 'create database tied_proxy' -c 'create database tied_p0'
PGPORT=$port1 psql -d postgres -c 'create database tied_p1'
for port in "$PGPORT" "$port1"; do
    [ "$port" = "$PGPORT" ] && db=tied_p0 || db=tied_p1
    PGPORT=$port psql -d "$db" <<'SQL'
create table item (id int4);
create function put(i_id int4) returns void language sql as 'insert into item values (i_id)';
create function put_loud(i_id int4) returns void language sql as 'insert into item values (i_id); notify tied';
SQL
done
proxy <<SQL
create extension plproxy;
create server tied foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=$PGPORT dbname=tied_p0', p1 'host=127.0.0.1 port=$port1 dbname=tied_p1');
create user mapping for public server tied options (user 'postgres');
create function put(i_part int4, i_id int4) returns void language plproxy as \$\$ cluster 'tied'; run on i_part; select put(i_id); \$\$;
create function put_loud(i_part int4, i_id int4) returns void language plproxy as \$\$ cluster 'tied'; run on i_part; select put_loud(i_id); \$\$;
create table item (id int4);
alter database tied_proxy set plproxy.transactions = tied;
SQL
second -c "alter system set synchronous_standby_names = 'nobody'" -c 'select pg_reload_conf()' >/dev/null
until_true 60 standbys nobody

# begin ID FUNCTION PARTITIONS: a transaction in the background that puts ID here and there.
begin() {
    local puts="" part
    for part in $3; do puts+="select $2($part, $1);"; done
    {
        echo '\set VERBOSITY sqlstate'
        echo "begin; insert into item values ($1); $puts"
        echo 'commit;'
    } >"$dir/sql"
    # separate messages, so that COMMIT is a statement of its own
    PGAPPNAME=tied_$1 "$PGBIN/psql" -X -q -At -d tied_proxy -f "$dir/sql" >"$dir/out" 2>&1 &
    client=$!
}
# its_pid WAIT: the second server's process that the transaction's COMMIT waits in.
its_pid() { second -c "select pid from pg_stat_activity where application_name <> 'holder' and lower(query) = 'commit' and wait_event_type || wait_event like '$1'"; }
at() { until_true 60 eval "[ -n \"\$(its_pid '$1')\" ]"; }
# ended: the transaction's client is done; its output without the voids.
ended() { wait $client; said=$(grep -o 'ERROR.*\|.*terminat.*' "$dir/out" | tr '\n' ' ' | sed 's/ *$//'); }
# holds ID: on which of proxy, first and second the transaction stands.
holds() {
    {
        proxy -c "select 'proxy' from item where id = $1"
        psql -d tied_p0 -c "select 'p0' from item where id = $1"
        second -c "select 'p1' from item where id = $1"
    } | paste -sd ' '
}
# result ID WANTED-ERROR WANTED-PLACES
result() { [ "$said" = "$2" ] && [ "$(holds "$1")" = "$3" ] || { echo "said: $said; stands on: $(holds "$1")"; cat "$dir/out"; return 1; }; }
# hold: another session's commit holds up those that notify; release ends it.
hold() {
    PGPORT=$port1 PGAPPNAME=holder "$PGBIN/psql" -X -q -d tied_p1 -c "begin; insert into item values (0); notify tied; commit" >/dev/null 2>&1 &
    holder=$!
    until_true 60 eval "[ -n \"\$(second -c \"select 1 from pg_stat_activity where application_name = 'holder' and wait_event = 'SyncRep'\")\" ]"
}
release() {
    second -c "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'holder'" >/dev/null
    wait $holder
}

begin 1 put "0 1"
at '%SyncRep'
second -c "select pg_terminate_backend($(its_pid '%SyncRep'))" >/dev/null
ended
is "a partition that ends after it committed: not known; both partitions have it" result 1 "ERROR:  08007" "p0 p1"

hold
begin 2 put_loud "0 1"
at 'Lock%'
second -c "select pg_terminate_backend($(its_pid 'Lock%'))" >/dev/null
ended
release
is "a partition that ends before it committed: not known; the other one has it" result 2 "ERROR:  08007" "p0"

hold
begin 3 put_loud "1"
at 'Lock%'
second -c "select pg_terminate_backend($(its_pid 'Lock%'))" >/dev/null
ended
release
is "the only partition ends before it committed: not known; nobody has it" result 3 "ERROR:  08007" ""

begin 4 put "0 1"
at '%SyncRep'
psql -d postgres -c "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'tied_4'" >/dev/null
ended
is "cancelled here after the partition committed: too late, everybody has it" result 4 "" "proxy p0 p1"

hold
begin 5 put_loud "0 1"
at 'Lock%'
psql -d postgres -c "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'tied_5'" >/dev/null
ended
release
is "cancelled here before one of two partitions committed: the other one has it" result 5 "ERROR:  40003" "p0"

hold
begin 6 put_loud "1"
at 'Lock%'
psql -d postgres -c "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'tied_6'" >/dev/null
ended
release
is "cancelled here before the only partition committed: nobody has it" result 6 "ERROR:  57014" ""

hold
begin 7 put_loud "0 1"
at 'Lock%'
psql -d postgres -c "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tied_7'" >/dev/null
ended
release
is "the backend is told to end meanwhile: the other partition has it" test "$(holds 7)" = p0
is "and the log says so" grep -q 'ERROR:  the transaction was committed on some of its partitions only' "${SKYTOOLS_TEST_TREE%/tree}/server/log"

begin 8 put "0 1"
at '%SyncRep'
second_server=$(head -1 "$dir/second/data/postmaster.pid")
kill -9 "$(its_pid '%SyncRep')"
ended
until_true 30 second -c 'select 1'
is "the partition's server crashes after it committed: not known; both have it" result 8 "ERROR:  08007" "p0 p1"
is "its postmaster survived" kill -0 "$second_server"

hold
begin 9 put_loud "0 1"
at 'Lock%'
"$TOP/scripts/pgcluster" restart "$dir/second" immediate >/dev/null
ended
wait $holder
is "the partition's server stops before it committed: not known; the other one has it" result 9 "ERROR:  08007" "p0"

# A partition that stands still holds up a rollback for a bounded time.
begun=$SECONDS
PGOPTIONS='-c plproxy.transactions=tied' "$PGBIN/psql" -X -q -At -d tied_proxy >"$dir/out" 2>&1 <<'SQL'
begin;
select put(0, 11), put(1, 11);
select pid from plproxy_connections where partition = 1 \gset
\setenv P :pid
\! kill -STOP $P
rollback;
select count(*) || ' open' from plproxy_connections where state <> 'idle';
\! kill -CONT $P
SQL
said=$(grep -v '|' "$dir/out")
is "a rollback does not wait for a partition that stands still" result 11 "0 open" ""
is "but some seconds" test $((SECONDS - begun)) -lt 30

# What fails here once the partitions have committed cannot undo that, and says so.
"$PGBIN/psql" -X -q -At -d tied_proxy >"$dir/out" 2>&1 <<'SQL'
\set VERBOSITY sqlstate
set plproxy.transactions = tied;
begin;
create temp table emptied (id int4 primary key) on commit delete rows;
create temp table referring (id int4 references emptied);
select put(0, 12);
commit;
SQL
said=$(sort "$dir/out" | grep . | tr '\n' ' ')
is "the local commit fails after the remote ones: a warning" result 12 "ERROR:  0A000 WARNING:  40003 " "p0"

second -c 'alter system reset synchronous_standby_names' -c 'select pg_reload_conf()' >/dev/null
until_true 60 standbys ''
begin 10 put "0 1"
ended
is "with nothing in the way everybody has it" result 10 "" "proxy p0 p1"

psql -d postgres -c 'drop database tied_proxy (force)' -c 'drop database tied_p0 (force)'
done_testing
