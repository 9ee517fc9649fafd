#!/usr/bin/env bash
# 012_partconf.t: not a row is written behind a fence, however fast its writers are. What
# partconf knows of a database outlives it: a dump and its restore, a standby, which reads on
# while its primary is fenced and is fenced itself once promoted, a crash, a prepared
# transaction over that, and pg_upgrade, with the same hash or another.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
finish() {
    local server
    for server in old standby upgraded; do
        [ ! -e "$dir/$server" ] || "$TOP/scripts/pgcluster" stop "$dir/$server" immediate 2>/dev/null
    done
    rm -rf "$dir"
}
trap finish EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
# says EXPECTED DATABASE SQL: SQL prints this; a line an error's SQLSTATE, if it fails.
says() {
    local got
    got=$(psql -v VERBOSITY=sqlstate -d "$2" -c "$3" 2>&1) || got=$(sed -n 's/.*ERROR: *//p' <<<"$got")
    [ "$got" = "$1" ] || { printf 'not %s but:\n%s\n' "$1" "$got"; return 1; }
}

PGPORT=$("$TOP/scripts/pgcluster" start "$dir/old" "$SKYTOOLS_TEST_TREE" max_prepared_transactions=10)
export PGPORT
port=$PGPORT

# A partition with a hash of its own, guarded tables and some ids.
psql -d postgres -c "create database part1"
psql -d part1 <<'SQL' >/dev/null
create extension partconf;
create schema hashes;
create function hashes.first_letter(key text) returns integer language sql immutable strict parallel safe as $$
    select ascii(lower(key))
$$;
select partconf.set_conf(1, 1, 5), partconf.set_hash('hashes.first_letter(text)');
create table users (id bigint default partconf.global_id(), username text);
create trigger validate before insert or update on users for each row execute function partconf.validate_hash('username');
alter table users enable always trigger validate;
create table plain (i int);
create trigger deny before insert or update or delete on plain for each statement execute function partconf.deny_fenced();
insert into users (username) values ('alice'), ('carol');
SQL
known="select part_nr, max_part, db_code, hash_function, hash_ok, fenced from partconf.status"

# --- writers at full speed
psql -d part1 <<'SQL'
create table written (i int);
create function write_checked(i_key text) returns void language plpgsql as $$
begin
    perform partconf.check_hash(i_key);
    insert into written values (1);
end;
$$;
create table guarded (i int);
create trigger deny before insert on guarded for each statement execute function partconf.deny_fenced();
SQL
# Some transactions are open for a while behind their check.
printf '%s\n' "begin;" "select write_checked('alice');" '\sleep 20 ms' "commit;" >"$dir/checked.sql"
printf '%s\n' "begin;" "insert into guarded values (1);" '\sleep 5 ms' "commit;" >"$dir/guarded.sql"
rows() { psql -d part1 -c "select (select count(*) from written) + (select count(*) from guarded)"; }
more_than() { [ "$(rows)" -gt "$1" ]; }
# fenced_at_speed: fences while others write; what is there then is all there will be.
fenced_at_speed() {
    local before behind at_fence pgbench
    before=$(rows)
    "$PGBIN/pgbench" -n -c 6 -j 2 -T 60 -f "$dir/checked.sql" -f "$dir/guarded.sql" part1 >"$dir/pgbench" 2>&1 &
    pgbench=$!
    until_true 30 more_than $((before + 300)) || { cat "$dir/pgbench"; return 1; }
    at_fence=$(psql -d part1 -c "select partconf.fence('30 seconds')" \
        -c "select (select count(*) from written) + (select count(*) from guarded)" | tail -n 1)
    # each of its clients ends with the first refusal
    wait "$pgbench"
    behind=$(rows)
    psql -d part1 -c "select partconf.unfence()" >/dev/null
    grep -q 'is fenced: it takes no writes' "$dir/pgbench" || { cat "$dir/pgbench"; return 1; }
    [ "$at_fence" = "$behind" ] || { echo "$at_fence rows at the fence, $behind behind it"; return 1; }
}
for round in 1 2 3 4 5; do
    is "no row is written behind the fence, round $round" fenced_at_speed
done

# --- dump and restore
psql -d part1 -c "select partconf.fence()" >/dev/null
restored() {
    "$PGBIN/pg_dump" -Fc -f "$dir/dump" part1 && psql -d postgres -c "create database restored" &&
        "$PGBIN/pg_restore" --exit-on-error -d restored "$dir/dump"
}
is "a fenced database is dumped and restored" restored
is "it is the same partition, fenced too" says "1|1|5|hashes.first_letter(text)|t|t" restored "$known"
is "and takes no writes" says PX002 restored "insert into users (username) values ('eve')"
is "its rows are there" says "2" restored "select count(*) from users"
is "the fence is taken away in the copy alone" says t restored "select partconf.unfence()"
is "where anybody may write again" says "1|1|5|hashes.first_letter(text)|t|f" restored "$known"
is "as the original shows" says PX002 part1 "insert into plain values (1)"
is "ids go on" says "t|5" restored "select id >> 14 > 2, id & 16383 from partconf.global_id() id"
is "wrong keys are refused" says PX001 restored "insert into users (username) values ('bob')"
psql -d part1 -c "select partconf.unfence()" >/dev/null
data_only() {
    psql -d postgres -c "create database data_only" && psql -d data_only -c "create extension partconf" &&
        "$PGBIN/pg_dump" --schema-only part1 | sed '/^CREATE EXTENSION/d; /^COMMENT ON EXTENSION/d' | psql -d data_only -o /dev/null &&
        "$PGBIN/pg_dump" --data-only part1 | psql -d data_only -o /dev/null
}
is "rows are restored into guarded tables: the configuration comes first" data_only
is "all of them" says "2" data_only "select count(*) from users"

# --- a standby
standby() {
    mkdir "$dir/standby" && { [ "$(id -u)" != 0 ] || chown "$(server_user)" "$dir/standby"; } &&
        as_server "$PGBIN/pg_basebackup" -h 127.0.0.1 -p "$port" -U postgres -D "$dir/standby/data" -R -X stream -c fast \
            --no-sync &&
        echo "$SKYTOOLS_TEST_TREE" >"$dir/standby/tree" && free_port >"$dir/standby/port" &&
        "$TOP/scripts/pgcluster" start "$dir/standby" "$SKYTOOLS_TEST_TREE"
}
is "a standby is made" standby
port2=$(cat "$dir/standby/port")
# on SERVER's port: as says
there() { PGPORT=$port2 says "$@"; }
# has_replayed: the standby is where the primary is.
has_replayed() {
    local lsn
    lsn=$(psql -d part1 -c "select pg_current_wal_flush_lsn()") &&
        [ "$(PGPORT=$port2 psql -d part1 -c "select pg_last_wal_replay_lsn() >= '$lsn'")" = t ]
}
is "it follows" until_true 30 has_replayed
# One session there through all of it, so that what it has kept is shown.
mkfifo "$dir/in" "$dir/out"
PGPORT=$port2 "$PGBIN/psql" -X -q -At -v VERBOSITY=sqlstate -d part1 <"$dir/in" >"$dir/out" 2>&1 &
exec 7>"$dir/in" 8<"$dir/out"
# session EXPECTED SQL: the session's answer in one line.
session() {
    local line
    printf '%s;\n' "$2" >&7
    read -r -t 30 line <&8 || { echo "no answer"; return 1; }
    line=${line##*ERROR:  }
    [ "$line" = "$1" ] || { echo "not $1 but: $line"; return 1; }
}
is "a key is checked on the standby" session t "select partconf.check_hash('alice')"
is "a wrong one is refused" session PX001 "select partconf.check_hash('bob')"
is "ids are for the primary" session 25006 "select partconf.global_id()"
is "so are fences" session 25006 "select partconf.fence()"
is "the primary is fenced" says t part1 "select partconf.fence()"
is "the standby hears of it" until_true 30 has_replayed
is "its session sees the fence" session t "select fenced from partconf.status"
is "and reads on" session t "select partconf.check_hash('alice')"
psql -d part1 -c "select partconf.set_conf(0, 1, 5)" >/dev/null
is "the configuration is changed" until_true 30 has_replayed
is "the session there follows it" session PX001 "select partconf.check_hash('alice')"
psql -d part1 -c "select partconf.set_conf(1, 1, 5)" >/dev/null
is "and back" until_true 30 has_replayed
is "the session follows that too" session t "select partconf.check_hash('alice')"
is "the standby is promoted" session t "select pg_promote()"
is "it is fenced as the primary was" session PX002 "select partconf.check_hash('alice')"
is "takes a code of its own" there 0 part1 "select partconf.set_conf(1, 1, 6)"
is "and is opened" session t "select partconf.unfence()"
is "its ids are its own" session "6" "select partconf.global_id() & 16383"
exec 7>&-
wait $!
"$TOP/scripts/pgcluster" stop "$dir/standby" >/dev/null

# --- a crash, and a prepared transaction over it
psql -d part1 -c "select partconf.unfence()" >/dev/null
psql -d part1 -c "begin; insert into users (username) values ('eve'); prepare transaction 'partconf'" >/dev/null
is "a prepared writer holds the fence up" says 55P03 part1 "select partconf.fence('200 ms')"
"$TOP/scripts/pgcluster" stop "$dir/old" immediate
is "the server comes back from a crash" "$TOP/scripts/pgcluster" start "$dir/old" "$SKYTOOLS_TEST_TREE"
is "the prepared writer still does" says 55P03 part1 "select partconf.fence('200 ms')"
is "until it is finished" psql -d part1 -c "commit prepared 'partconf'"
psql -d part1 -c "set synchronous_commit = off" -c "select partconf.fence()" >/dev/null
"$TOP/scripts/pgcluster" stop "$dir/old" immediate
is "it comes back from another" "$TOP/scripts/pgcluster" start "$dir/old" "$SKYTOOLS_TEST_TREE"
is "the fence was not forgotten" says PX002 part1 "select partconf.check_hash('alice')"
is "all rows are there" says 3 part1 "select count(*) from users"

# --- pg_upgrade, of a partition of each kind of hash; another collation library comes with it
psql -d postgres -c "create database part0"
psql -d part0 -c "create extension partconf" -c "select partconf.set_conf(0, 1, 7)" >/dev/null
psql -d postgres -c "drop database data_only" -c "drop database restored"
"$TOP/scripts/pgcluster" stop "$dir/old"
upgrade() {
    "$TOP/scripts/pgcluster" start "$dir/upgraded" "$SKYTOOLS_TEST_TREE" max_prepared_transactions=10 >/dev/null &&
        "$TOP/scripts/pgcluster" stop "$dir/upgraded" &&
        mkdir "$dir/pg_upgrade" && { [ "$(id -u)" != 0 ] || chown "$(server_user)" "$dir/pg_upgrade"; } &&
        (cd "$dir/pg_upgrade" && "${server_prefix[@]}" "$PGBIN/pg_upgrade" -b "$PGBIN" -B "$PGBIN" -d "$dir/old/data" \
            -D "$dir/upgraded/data" -U postgres -s "$dir/pg_upgrade")
}
is "the server is upgraded" upgrade
PGPORT=$("$TOP/scripts/pgcluster" start "$dir/upgraded" "$SKYTOOLS_TEST_TREE")
is "the partition is what it was" says "1|1|5|hashes.first_letter(text)|t|t" part1 "$known"
is "its ids go on" says "t|5" part1 "select id >> 14 > 3, id & 16383 from partconf.global_id() id"
is "the other one too" says "0|1|7||t|f" part0 "select part_nr, max_part, db_code, null, hash_ok, fenced from partconf.status"
psql -d part0 -c "update partconf.conf set probes[1] = probes[1] + 1"
is "a hash that the upgrade has changed stops it" says PX003 part0 "select partconf.check_hash('bob')"
is "until that is accepted" says "1|t" part0 "select partconf.accept_hash(), partconf.valid_hash('Carol')"
done_testing
