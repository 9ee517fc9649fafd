#!/usr/bin/env bash
# ALTER EXTENSION pgq UPDATE from PgQ 3.5: queues in use go on where they stood, and
# nothing differs from a fresh installation.
#
# The old version is Debian's package, unpacked into a tree of its own (scripts/deps has
# downloaded it). Its library is PostgreSQL 15's; elsewhere its SQL runs on ours, as it
# also does in the time between the installation of our files and the update. 3.5.1 and
# 3.5.2 have the SQL of 3.5.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
# shellcheck source=regress/system/tap.sh
. ../system/tap.sh
: "${SKYTOOLS_TEST_TREE:?run it by scripts/with-server}"

dir=$(scratch upgrade)
finish() {
    "$TOP/scripts/pgcluster" stop "$dir/server" immediate 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
export PGOPTIONS='-c client_min_messages=warning -c TimeZone=UTC'
sql() { "$dir/tree/bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
same() { diff -u "$1" "$2" | head -n 20 && cmp -s "$1" "$2"; }
# dump DB: its schema as pg_dump sees it, without what an update leaves as it is: the
# comment, and the order and the owner's own of the grants of a queue's tables.
dump() {
    "$dir/tree/bin/pg_dump" -s "$1" | sed -E -e '/^\\(un)?restrict /d' -e '/^COMMENT ON EXTENSION pgq /d' \
        -e '/^GRANT .* ON TABLE pgq\.event_[0-9_]+ TO postgres/d' | sort
}

"$TOP/scripts/bench/peer-tree" "$dir/tree" postgresql-15-pgq3 || exit 1
share=$("$PG_CONFIG" --sharedir)/extension lib=$("$PG_CONFIG" --pkglibdir)
# install_ours: what an operator does before the update. Sessions have the old library
# open: it is replaced, not written into.
install_ours() {
    cp --remove-destination "$SKYTOOLS_TEST_TREE$share"/pgq[.-]* "$dir/tree$share"
    cp --remove-destination "$SKYTOOLS_TEST_TREE$lib"/pgq_{lowlevel,triggers}.so "$dir/tree$lib"
}
old=$dir/tree/usr/share/postgresql/15/extension/pgq--3.5.sql
[ "$dir/tree$share/pgq--3.5.sql" = "$old" ] || { cp "$old" "$dir/tree$share" && install_ours; }
for version in 3.5.1 3.5.2; do cp "$old" "$dir/tree$share/pgq--$version.sql"; done

PGPORT=$("$TOP/scripts/pgcluster" start "$dir/server" "$dir/tree") || exit 1
export PGPORT PGHOST=127.0.0.1 PGUSER=postgres
sql -d postgres -c 'create role pgq_upgrade_app'
for version in 3.5 3.5.1 3.5.2; do
    sql -d postgres -c "create database \"old_$version\""
    is "$version: there is one, in use" sql -d "old_$version" -c "create extension pgq version '$version'" -f pgq_user.sql
done
# A session of before, whose library is the old one.
mkfifo "$dir/in"
sql -d old_3.5 <"$dir/in" >"$dir/before" 2>&1 &
session=$!
exec 7>"$dir/in"
echo "select 'open', pgq.insert_event('live', 'note', 'before') > 0;" >&7
is "a session is open" until_true 60 grep -q '^open|t$' "$dir/before"

install_ours
to=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$dir/tree$share/pgq.control")
sql -d postgres -c 'create database fresh'
is "a fresh installation" sql -d fresh -c 'create extension pgq' -f pgq_user.sql
sql -d fresh -v ext=pgq -f pgq_catalog.sql >"$dir/fresh.catalog"
is "its catalogs are read" grep -q 'CREATE OR REPLACE FUNCTION pgq.ticker()' "$dir/fresh.catalog"
dump fresh >"$dir/fresh.dump"
is "its dump has the user's grants" grep -q 'GRANT .* ON FUNCTION pgq.insert_event(.* TO pgq_upgrade_app' "$dir/fresh.dump"
sql -d fresh -f pgq_goes_on.sql >"$dir/fresh.events" 2>&1
is "it gives every event" grep -q 'note fourth' "$dir/fresh.events"

# Between the files and the update: old SQL, new library.
sql -d postgres -c 'create database between template "old_3.5.1"'
sql -d between -f pgq_goes_on.sql >"$dir/between.events" 2>&1
is "before the update our library serves the old functions" same "$dir/fresh.events" "$dir/between.events"
echo "insert into account values (9, 'nine', null); delete from account where id = 9; select 'goes on', pgq.ticker('live') > 0;" >&7
is "the open session goes on" until_true 60 grep -q '^goes on|t$' "$dir/before"
exec 7>&-
wait $session
sql -d postgres -c 'create database lively template "old_3.5"'

for version in 3.5.1 3.5.2 3.5; do
    db=old_$version
    is "$version: it is updated" sql -d "$db" -c 'alter extension pgq update'
    is "$version: it is $to now" test "$(sql -d "$db" -c 'select pgq.version()')" = "$to"
    sql -d "$db" -v ext=pgq -f pgq_catalog.sql >"$dir/updated.catalog"
    is "$version: the catalogs are those of a fresh installation" same "$dir/fresh.catalog" "$dir/updated.catalog"
    dump "$db" >"$dir/updated.dump"
    is "$version: so is the dump, grants of users included" same "$dir/fresh.dump" "$dir/updated.dump"
    [ "$version" != 3.5 ] || continue
    sql -d "$db" -f pgq_goes_on.sql >"$dir/updated.events" 2>&1
    is "$version: the queues go on as if nothing had been" same "$dir/fresh.events" "$dir/updated.events"
    is "$version: the queues can be dropped, then the extension" sql -d "$db" \
        -c "select pgq.drop_queue(queue_name, true) from pgq.queue order by 1" -c 'drop table account' \
        -c 'drop view app_queue, app_lag' -c 'drop function drain' -c 'drop extension pgq'
done

# What the open session has written is delivered, too.
delivered() { sql -d old_3.5 -c "select pgq.ticker('live')" -c "select drain('slow')" | grep -qxE "$1.*"; }
is "events of the session that was open are delivered" delivered '[0-9]+ note before'

# While events are written and consumers read: nothing is lost or given twice.
sql -d lively -c "select drain('reader')" >"$dir/seen"
printf '%s\n' "select pgq.insert_event('live', 'flow', 'x');" >"$dir/write.sql"
printf '%s\n' "select pgq.ticker('live');" "select drain('reader');" >"$dir/read.sql"
"$dir/tree/bin/pgbench" -n -c 2 -t 400 -R 200 -f "$dir/write.sql" lively >"$dir/writers" 2>&1 &
writers=$!
some() { [ "$(sql -d lively -c "select count(*) from pgq.event_template where ev_type = 'flow'")" -gt 50 ]; }
is "writers write" until_true 60 some
is "the update goes on meanwhile" sql -d lively -c "set lock_timeout = '30s'" -c 'alter extension pgq update'
is "there are writers still" kill -0 $writers
wait $writers
is "no writer has noticed" test $? = 0
sql -d lively -c "select pgq.force_tick('live')" -f "$dir/read.sql" >>"$dir/seen"
all() { [ "$(grep -c ' flow x$' "$dir/seen") $(grep -oE '^[0-9]+ flow x$' "$dir/seen" | sort -u | wc -l)" = "800 800" ]; }
is "their events are there, each once" all
done_testing
