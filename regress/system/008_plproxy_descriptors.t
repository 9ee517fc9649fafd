#!/usr/bin/env bash
# 008_plproxy_descriptors.t: a session that calls more partitions than it may have file
# descriptors closes idle connections to make room. Where that is not possible the error
# is 53000, and timeouts, cancels and commits stay what they are.
#
# The proxy is a server of its own with few descriptors, a third of which are for
# connections; all partitions of its cluster are one database.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
finish() {
    "$TOP/scripts/pgcluster" stop "$dir/proxy" immediate 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
psql() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 "$@"; }
proxy() { PGPORT=$proxy_port psql -d postgres "$@"; }

proxy_port=$("$TOP/scripts/pgcluster" start "$dir/proxy" "$SKYTOOLS_TEST_TREE" max_files_per_process=200)
psql -d postgres -c 'create database descriptor_part'
psql -d descriptor_part <<'SQL'
create table hits (i int4);
create function hit(i_id int4) returns int4 language sql as 'insert into hits values (i_id) returning i';
create function nap(i_id int4) returns int4 language sql as 'select i_id from (select pg_sleep(60)) s';
SQL
proxy -v part="host=127.0.0.1 port=$PGPORT dbname=descriptor_part" <<'SQL'
create extension plproxy;
select format('create server huge foreign data wrapper plproxy options (%s)',
    string_agg(format('p%s %L', i, :'part' || ' application_name=p' || i), ', ')) from generate_series(0, 127) i \gexec
create user mapping for public server huge options (user 'postgres');
create function hit(i_id int4) returns int4 language plproxy as $$ cluster 'huge'; run on i_id; $$;
create function nap(i_id int4) returns int4 language plproxy as $$ cluster 'huge'; run on i_id; $$;
create function state_of(i_sql text) returns text language plpgsql as $$
begin
    execute i_sql;
    return 'done';
exception when others or query_canceled then
    return sqlstate;
end $$;
SQL

# answers QUERIES: what a session answers that has called all partitions before.
answers() {
    proxy -v part="host=127.0.0.1 port=$PGPORT dbname=descriptor_part user=postgres" <<SQL 2>&1
select 'sum ' || sum(hit(i)) from generate_series(0, 127) i;
$1
select 'left ' || count(*) from plproxy_connections where state <> 'idle';
SQL
}
says() { grep -qx -- "$1" "$dir/out" || { cat "$dir/out"; false; }; }

answers "
set plproxy.transactions = tied;
begin;
select 'all ' || state_of('select sum(hit(1000 * 128 + i)) from generate_series(0, 127) i');
commit;
select 'after ' || hit(5);
begin; select 'one ' || hit(1); commit;" >"$dir/out"
is "all partitions answer, however many" says 'sum 8128'
is "tied to more than there can be, the call fails" says 'all 53000'
is "the session goes on" says 'after 5'
is "a tied transaction commits" says 'one 1'
hits() { [ "$(psql -d descriptor_part -c "select count(*), count(*) filter (where i >= 1000) from hits")" = "$1" ]; }
is "what was said to be done was, and nothing else" hits '130|0'
is "no connection is left in use" says 'left 0'

answers "
set statement_timeout = '300ms';
select 'nap ' || state_of('select nap(7)');
set statement_timeout = 0;
select 'after ' || hit(7);
set plproxy.transactions = tied;
begin; select 'two ' || sum(hit(i)) from generate_series(0, 1) i;
savepoint s; set local statement_timeout = '300ms'; select 'tied nap ' || state_of('select nap(1)'); rollback to s;
set local statement_timeout = 0; select 'again ' || hit(1); commit;" >"$dir/out"
is "a timeout is a timeout" says 'nap 57014'
is "the partition that was cancelled answers again" says 'after 7'
is "so it is in a tied transaction" says 'tied nap 57014'
is "which goes on" says 'again 1'
is "no connection is left in use then" says 'left 0'
asleep() { [ -n "$(psql -d postgres -c "select 1 from pg_stat_activity where query like '%nap%' and state = 'active'
    and datname = 'descriptor_part'")" ]; }
is "nothing is left running on partitions" fails 1 asleep

psql -d descriptor_part >"$dir/out" 2>&1 <<SQL
create extension plproxy;
create function connected(i_connstr text, i_id int4) returns int4 language plproxy as \$\$ connect i_connstr; select i_id; \$\$;
create function connect_all(i_from int4, i_to int4) returns int8 language sql as \$\$
    select count(connected('host=127.0.0.1 port=$PGPORT dbname=descriptor_part user=postgres application_name=c' || i, i))
    from generate_series(i_from, i_to) i \$\$;
begin; set local plproxy.transactions = tied; select connect_all(1, 70); commit;
select connect_all(71, 72);
select 'kept ' || count(*) from plproxy_connections;
SQL
is "what tied transactions held of CONNECT is closed beyond 64" says 'kept 64'
psql -d postgres -c 'drop database descriptor_part (force)'
done_testing
