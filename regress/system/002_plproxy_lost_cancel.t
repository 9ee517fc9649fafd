#!/usr/bin/env bash
# 002_plproxy_lost_cancel.t: a cancel request that a partition's server gets before the
# query, and so drops, is sent again: the connection is kept, the query does not go on.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
trap 'rm -rf "$dir"' EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }

psql -d postgres -c "create database lost_proxy" -c "create database lost_p0" -c "create database lost_p1"
for nr in 0 1; do
    psql -d "lost_p$nr" <<SQL
create function pid() returns setof text language sql as 'select current_database() || '' '' || pg_backend_pid()';
create function work() returns setof text language plpgsql as \$\$
begin
    if $nr = 0 then raise exception 'no'; end if;
    perform pg_sleep(60);
end \$\$;
SQL
done
psql -d lost_proxy <<SQL
create extension plproxy;
create server lost foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=$PGPORT dbname=lost_p0', p1 'host=127.0.0.1 port=$PGPORT dbname=lost_p1');
create user mapping for public server lost options (user 'postgres');
create function pid() returns setof text language plproxy as \$\$ cluster 'lost'; run on all; \$\$;
create function work() returns setof text language plproxy as \$\$ cluster 'lost'; run on all; \$\$;
SQL
# The second partition's server process stands still while the query and the cancel
# request reach it; once it goes on, it takes the request first and has nothing to cancel.
psql -v ON_ERROR_STOP=0 -d lost_proxy >"$dir/out" 2>"$dir/err" <<'SQL'
select split_part(p, ' ', 2) as pid from pid() p where p like 'lost_p1 %' \gset
\setenv P :pid
select 'before ' || p from pid() p;
\! kill -STOP $P; (sleep 0.5; kill -CONT $P) &
select work();
select 'after ' || p from pid() p;
SQL
is "the error of the first partition arrives" grep -q 'ERROR:.*no$' "$dir/err"
kept() { diff <(sed -n 's/^before //p' "$dir/out") <(sed -n 's/^after //p' "$dir/out") && [ "$(grep -c '^after ' "$dir/out")" = 2 ]; }
is "both connections are kept" kept
asleep() { psql -d postgres -c "select 1 from pg_stat_activity where query like '%work%' and state = 'active' and datname = 'lost_p1'"; }
is "the second partition's query does not go on" test -z "$(asleep)"
for db in lost_proxy lost_p0 lost_p1; do psql -d postgres -c "drop database $db (force)"; done
done_testing
