#!/usr/bin/env bash
# ALTER EXTENSION plproxy UPDATE from PL/Proxy 2.x: what was made before works in the
# sessions that were open and in new ones, and nothing differs from a fresh installation.
#
# The old versions are stand-ins: their five members, by a script of ours under their
# version's name, in the private tree of scripts/with-server.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
# shellcheck source=regress/system/tap.sh
. ../system/tap.sh
: "${SKYTOOLS_TEST_TREE:?run it by scripts/with-server}" "${PGBIN:?run it by scripts/with-server}"

dir=$(scratch upgrade)
trap 'rm -rf "$dir"' EXIT
share=$SKYTOOLS_TEST_TREE$("$PG_CONFIG" --sharedir)/extension
to=$(sed -n "s/^default_version = '\(.*\)'/\1/p" "$share/plproxy.control")

export PGOPTIONS='-c client_min_messages=warning'
sql() { "$PGBIN/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
same() { diff -u "$1" "$2" | head -n 20 && cmp -s "$1" "$2"; }
# dump DB: the database as pg_dump sees it, members of the extension included; what
# must differ between two databases is masked.
dump() {
    "$PGBIN/pg_dump" -s "$1" && "$PGBIN/pg_dump" -s --binary-upgrade "$1"
}
mask() {
    sed -E -e '/^\\(un)?restrict /d' -e "s/'[0-9]+'::pg_catalog\.oid/'N'::pg_catalog.oid/g" \
        -e "s/'\{[0-9A-F/,]+\}'::pg_catalog\.pg_lsn/'L'::pg_catalog.pg_lsn/g" \
        -e "s/^-- Name: (DATABASE )?plproxy_upgrade_[0-9a-z_]+/-- Name: DB/"
}

sql -d postgres -c 'create role plproxy_upgrade_user' -c 'create database plproxy_upgrade_part'
sql -d plproxy_upgrade_part <<'SQL'
create function plus_one(i_a int4) returns int4 language sql as 'select i_a + 1';
create function on_all(i_a int4, out a int4, out b text) language sql as 'select i_a, current_setting(''application_name'')';
SQL

for schema in public ext; do
    sql -d postgres -c "create database plproxy_upgrade_fresh_$schema"
    sql -d "plproxy_upgrade_fresh_$schema" -c "create schema if not exists $schema" \
        -c "create extension plproxy schema $schema" -f plproxy_user.sql
    dump "plproxy_upgrade_fresh_$schema" | mask >"$dir/fresh_$schema.dump"
done
sql -d plproxy_upgrade_fresh_public -f plproxy_calls.sql >"$dir/calls"
is "a fresh installation answers" grep -q '^plproxy_upgrade_part$' "$dir/calls"
is "its dump has the members" grep -q 'CREATE FUNCTION public.plproxy_hash(value text)' "$dir/fresh_public.dump"

for version in 2.10.0 2.11.0 2.12.0; do
    schema=public
    [ $version != 2.11.0 ] || schema=ext
    db=plproxy_upgrade_${version//./_}
    cp plproxy_2x.sql "$share/plproxy--$version.sql"
    sql -d postgres -c "create database $db"
    sql -d "$db" -c "create schema if not exists $schema" \
        -c "create extension plproxy schema $schema version '$version'" -f plproxy_user.sql

    # One session throughout: calls, the update by another one, calls again.
    sql -d "$db" >"$dir/old" 2>&1 <<SQL
\\i plproxy_calls.sql
\\! "$PGBIN/psql" -X -q -d "$db" -c "alter extension plproxy update"
\\i plproxy_calls.sql
select 'hash', $schema.plproxy_hash('abc') = $schema.plproxy_hash('abc'::bytea);
select 'mapped', $schema.plproxy_partition_of('by_server', 5);
select 'validator', count(*) from pg_proc where proname = 'plproxy_fdw_validator' and proisstrict;
SQL
    { cat "$dir/calls" "$dir/calls" && printf 'hash|t\nmapped|1\nvalidator|1\n'; } >"$dir/expected"
    is "$version: a session that was open goes on" same "$dir/expected" "$dir/old"
    is "$version: the version is $to now" test "$(sql -d "$db" -c "select extversion from pg_extension where extname = 'plproxy'")" = "$to"
    sql -d "$db" -f plproxy_calls.sql >"$dir/new" 2>&1
    is "$version: a new session answers" same "$dir/calls" "$dir/new"
    dump "$db" | mask >"$dir/updated.dump"
    is "$version: the dump is that of a fresh installation" same "$dir/fresh_$schema.dump" "$dir/updated.dump"
    is "$version: it can be dropped" sql -d "$db" -c 'drop extension plproxy cascade'
    rm "$share/plproxy--$version.sql"
    sql -d postgres -c "drop database $db (force)"
done

# Dump and restore, with what 2.x let in: a partition whose connect string is none.
db=plproxy_upgrade_fresh_ext
sql -d "$db" -c 'set client_min_messages = error' -c 'set check_function_bodies = off' \
    -c "create server placeholder foreign data wrapper plproxy options (p0 'was moved', p1 'service=nosuch')" \
    -c "create user mapping for plproxy_upgrade_user server by_server options (\"USER\" 'app', password 'it''s \"quoted\"')" \
    -c 'create foreign data wrapper defaults validator ext.plproxy_fdw_validator options (modular_mapping '"'1'"')' \
    -c "create server by_defaults foreign data wrapper defaults options (p0 '', partition_1 '', \"P2\" '')"
"$PGBIN/pg_dump" "$db" >"$dir/plain"
"$PGBIN/pg_dump" -Fc "$db" >"$dir/custom"
mask <"$dir/plain" >"$dir/dumped"
for how in psql pg_restore; do
    sql -d postgres -c 'create database plproxy_upgrade_restored'
    if [ $how = psql ]; then
        is "$how restores everything" sql -d plproxy_upgrade_restored -f "$dir/plain"
    else
        is "$how restores everything" "$PGBIN/pg_restore" -e -j 2 -d plproxy_upgrade_restored "$dir/custom"
    fi
    "$PGBIN/pg_dump" plproxy_upgrade_restored | mask >"$dir/restored"
    is "$how: the dump is the same" same "$dir/dumped" "$dir/restored"
    sql -d plproxy_upgrade_restored -f plproxy_calls.sql >"$dir/new" 2>&1
    is "$how: it answers" same "$dir/calls" "$dir/new"
    sql -d postgres -c 'drop database plproxy_upgrade_restored (force)'
done

for db in fresh_public fresh_ext part; do sql -d postgres -c "drop database plproxy_upgrade_$db (force)"; done
sql -d postgres -c 'drop role plproxy_upgrade_user'
done_testing
