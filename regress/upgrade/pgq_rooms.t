#!/usr/bin/env bash
# ALTER EXTENSION UPDATE of pgq_ext 3.1 and pgq_coop 3.1.1: positions stay, functions are
# ours, and nothing differs from a fresh installation.
#
# No package has the old versions: scripts with their tables and signatures stand in.
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
gives() { local got; got=$(sql -d old -c "$2"); echo "$got"; [ "$got" = "$1" ]; }

"$TOP/scripts/pgtree" "$dir/tree" || exit 1
share=$dir/tree$("$PG_CONFIG" --sharedir)/extension
cp pgq_ext_3.1.sql "$share/pgq_ext--3.1.sql"
cp pgq_coop_3.1.1.sql "$share/pgq_coop--3.1.1.sql"
PGPORT=$("$TOP/scripts/pgcluster" start "$dir/server" "$dir/tree") || exit 1
export PGPORT PGHOST=127.0.0.1 PGUSER=postgres
sql -d postgres -c 'create role pgq_upgrade_app' -c 'create database old' -c 'create database fresh'

grants='grant execute on function pgq_ext.set_batch_done(text, bigint), pgq_coop.finish_batch(bigint) to pgq_upgrade_app'
is "a fresh installation" sql -d fresh -c 'create extension pgq_coop cascade' -c 'create extension pgq_ext' -c "$grants"
is "the old ones" sql -d old -c 'create extension pgq' -c "create extension pgq_coop version '3.1.1'" \
    -c "create extension pgq_ext version '3.1'" -c "$grants" \
    -c "insert into pgq_ext.completed_batch values ('mover', '', 41); insert into pgq_ext.completed_tick values ('mover', '', 7)"
is "pgq_ext is an old one" gives 3.1 'select pgq_ext.version()'

for ext in pgq_ext pgq_coop; do
    is "$ext: it is updated" sql -d old -c "alter extension $ext update"
    for db in old fresh; do sql -d $db -v ext=$ext -f pgq_catalog.sql >"$dir/$db.catalog"; done
    is "$ext: the catalogs are read" grep -q "FUNCTION $ext.version()" "$dir/fresh.catalog"
    is "$ext: the catalogs are those of a fresh installation" same "$dir/fresh.catalog" "$dir/old.catalog"
    is "$ext: it says its version" gives t \
        "select $ext.version() = extversion and extversion >= '4' from pg_extension where extname = '$ext'"
done
for db in old fresh; do
    "$dir/tree/bin/pg_dump" -s "$db" | sed -E -e '/^\\(un)?restrict /d' -e '/^COMMENT ON EXTENSION /d' | sort >"$dir/$db.dump"
done
is "users' grants are in the dump" grep -q 'GRANT .* ON FUNCTION pgq_coop.finish_batch(.* TO pgq_upgrade_app' "$dir/old.dump"
is "which is that of a fresh installation" same "$dir/fresh.dump" "$dir/old.dump"
is "batches that were done are" gives 't|f|t|7' \
    "select pgq_ext.is_batch_done('mover', 41), pgq_ext.is_batch_done('mover', 42), pgq_ext.set_batch_done('mover', 42), pgq_ext.get_last_tick('mover')"
is "events are put aside" gives 't|1' \
    "select pgq_ext.set_batch_done('mover', 44), pgq_ext.set_events_aside('mover', 44, array[43], array[60], array['why'])"
is "and found again" gives '43|60|why' "select * from pgq_ext.get_events_aside('mover', 44)"
is "workers share a consumer" gives 1 \
    "select pgq.create_queue('q') * pgq_coop.register_subconsumer('q', 'main', 'one')"
# Before pgq itself is updated pgq_coop is not.
sql -d postgres -c 'create database early'
sql -d early -c 'create extension pgq' -c "create extension pgq_coop version '3.1.1'" \
    -c 'alter table pgq.subscription rename sub_paused to sub_hidden'
is "pgq_coop is not updated before pgq" fails 1 sql -d early -c 'alter extension pgq_coop update'
done_testing
