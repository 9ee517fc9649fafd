#!/usr/bin/env bash
# 02_proxy_database.t: "plProxy: Proxy Databases as Interface" and "Proxy Databases for Security". An
# application knows a proxy database and the functions that are published there, and nothing else:
# what it should not reach is tried, one thing after the other, and then its data moves away under it.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start proxy data other
# admin SERVER DATABASE [ARGUMENT...]: as the DBA, who comes by the server's own socket
admin() { PGHOST=$dir/$1 on "$@"; }
# hba SERVER LINE...: who else may come, and the log tells SQLSTATEs of those who may not
hba() {
    printf '%s\n' 'local all postgres trust' "${@:2}" >"$dir/$1/data/pg_hba.conf"
    admin "$1" postgres -c "alter system set log_line_prefix = '%e %u@%d '" -c "select pg_reload_conf()" >"$dir/out"
    until_true 60 admin "$1" postgres -c "do \$\$ begin
        assert current_setting('log_line_prefix') = '%e %u@%d ';
        assert (select count(*) from pg_hba_file_rules) = $#;
    end \$\$"
}

# ---- the data's server

for server in data other; do
    admin $server postgres -c "create role proxy login password 's3cret'" -c "create role owner"
done
admin data postgres -c "create database userdb owner owner"
admin data userdb <<'SQL'
revoke all on schema public from public;
grant usage on schema public to owner;
revoke all on database userdb from public;
grant connect on database userdb to proxy;
alter default privileges revoke execute on functions from public;
create schema api;
grant usage on schema api to proxy;
create table users (username text primary key, email text not null, password text not null);
insert into users select 'user' || i, 'user' || i || '@example.com', md5('pass' || i) from generate_series(1, 100) i;
alter table users owner to owner;

create function api.get_user_email(i_username text) returns text language sql
security definer set search_path = public, pg_temp as $$
    select u.email from users u where u.username = i_username
$$;
create function api.set_user_email(i_username text, i_email text) returns boolean language plpgsql
security definer set search_path = public, pg_temp as $$
begin
    update users u set email = i_email where u.username = i_username;
    return found;
end $$;
create function api.place() returns text language sql as $$
    select format('%s at %s as %s', current_database(), inet_server_port(), current_user)
$$;
create function api.count_users() returns bigint language sql
security definer set search_path = public, pg_temp as $$
    select count(*) from users
$$;
-- not published anywhere
create function api.get_user_password(i_username text) returns text language sql
security definer set search_path = public, pg_temp as $$
    select u.password from users u where u.username = i_username
$$;
grant create on schema api to owner;
alter function api.get_user_email owner to owner;
alter function api.set_user_email owner to owner;
alter function api.count_users owner to owner;
alter function api.get_user_password owner to owner;
revoke create on schema api from owner;
grant execute on function api.get_user_email, api.set_user_email, api.place, api.count_users to proxy;
SQL
hba data 'host userdb,maildb proxy 127.0.0.1/32 scram-sha-256'
hba other 'host userdb,maildb proxy 127.0.0.1/32 scram-sha-256'

# ---- the proxy's

admin proxy postgres -c "create role app login password 'front'" -c "create role backoffice login password 'back'" \
    -c "create role interface" -c "create database proxydb" -c "create database internaldb" \
    -c "revoke all on database postgres, template1, proxydb, internaldb from public" \
    -c "grant connect on database proxydb to app, backoffice"
admin proxy proxydb <<SQL
create schema remote;
create extension plproxy schema remote;
revoke all on schema public from public;
alter default privileges revoke execute on functions from public;
create server userdb foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=${port[data]} dbname=userdb');
create user mapping for interface server userdb options (user 'proxy', password 's3cret');
grant usage on foreign server userdb to interface;
SQL
admin proxy proxydb <<'SQL'
create schema api;
grant usage on schema api to app, backoffice;
-- The functions run as their owner, so that nobody else needs a right to the server and its mapping.
create function api.get_user_email(i_username text) returns text language plproxy security definer as $$
    CLUSTER 'userdb';
$$;
create function api.set_user_email(i_username text, i_email text) returns boolean language plproxy security definer as $$
    CLUSTER 'userdb';
$$;
create function api.place() returns text language plproxy security definer as $$
    CLUSTER 'userdb';
$$;
create function api.count_users() returns bigint language plproxy security definer as $$
    CLUSTER 'userdb';
$$;
grant usage, create on schema api to interface;
alter function api.get_user_email owner to interface;
alter function api.set_user_email owner to interface;
alter function api.place owner to interface;
alter function api.count_users owner to interface;
-- The same of a cluster that is described by functions: schema plproxy is for the owner alone, too.
create function api.place_by_table() returns text language plproxy security definer as $$
    CLUSTER 'tabledb'; TARGET api.place;
$$;
alter function api.place_by_table owner to interface;
create schema plproxy;
grant usage on schema plproxy to interface;
create table plproxy.conf (cluster_name text, part_nr integer, connect_string text not null, primary key (cluster_name, part_nr));
create function plproxy.get_cluster_version(i_cluster text) returns integer language sql as 'select 1';
create function plproxy.get_cluster_config(i_cluster text, out key text, out val text) returns setof record language sql as
    $$ select 'connection_lifetime'::text, (30 * 60)::text $$;
create function plproxy.get_cluster_partitions(i_cluster text) returns setof text language sql
security definer set search_path = pg_catalog, pg_temp as $$
    select c.connect_string from plproxy.conf c where c.cluster_name = i_cluster order by c.part_nr
$$;
grant execute on function plproxy.get_cluster_version, plproxy.get_cluster_config, plproxy.get_cluster_partitions to interface;
revoke create on schema api from interface;
grant execute on function api.get_user_email, api.set_user_email, api.place, api.place_by_table to app;
grant execute on function api.count_users to backoffice;
create table dba_notes (note text);
insert into dba_notes values ('for nobody');
SQL
admin proxy proxydb -c "insert into plproxy.conf
    values ('tabledb', 0, 'host=127.0.0.1 port=${port[data]} dbname=userdb user=proxy password=s3cret')"
hba proxy 'host all app,backoffice 127.0.0.1/32 scram-sha-256'

# ---- what is published works

export PGUSER=app PGPASSWORD=front
users() { PGUSER=postgres admin data userdb -c "select count(*), md5(string_agg(u::text, ',' order by u.username)) from users u"; }
is "a published function" gives proxy proxydb "select api.get_user_email('user7')" user7@example.com
is "one that writes" gives proxy proxydb "select api.set_user_email('user7', 'seven@example.com'), api.set_user_email('nobody', 'x')" 't|f'
is "and it is written" gives proxy proxydb "select api.get_user_email('user7')" seven@example.com
is "over there the proxy's role is at work" gives proxy proxydb "select api.place()" "userdb at ${port[data]} as proxy"
is "so it is with a cluster that a table describes" gives proxy proxydb "select api.place_by_table()" "userdb at ${port[data]} as proxy"
PGUSER=backoffice PGPASSWORD=back is "another application has other functions" gives proxy proxydb "select api.count_users()" 100
before=$(users)

# ---- nothing else does

is "what it may call is what was published, and that is all there is" gives proxy proxydb "
    select p.oid::regprocedure from pg_proc p, pg_namespace n
     where n.oid = p.pronamespace and n.nspname not in ('pg_catalog', 'information_schema')
       and has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute')
     order by p.oid::regprocedure::text" 'api.get_user_email(text)' 'api.place()' 'api.place_by_table()' \
    'api.set_user_email(text,text)'
is "there is no table, view or sequence for it" gives proxy proxydb "
    select c.oid::regclass from pg_class c, pg_namespace n
     where n.oid = c.relnamespace and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
       and c.relkind <> 'i' and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')"

# attempts PLACE DATABASE: each line of stdin is a SQLSTATE and what is tried, in one session; a test each.
attempts() {
    local states=() tried=() got=() state sql i
    while read -r state sql; do
        states+=("$state") tried+=("$sql")
    done
    mapfile -t got < <(printf '%s;\n\\echo SQLSTATE :SQLSTATE\n' "${tried[@]}" |
        on "$1" "$2" -v ON_ERROR_STOP=0 2>/dev/null | sed -n 's/^SQLSTATE //p')
    for i in "${!tried[@]}"; do
        is "refused at $1: ${tried[i]}" test "${got[i]}" = "${states[i]}"
    done
}
attempts proxy proxydb <<'ATTEMPTS'
42P01 select * from users
42501 select * from public.users
42501 select * from public.dba_notes
42501 insert into public.dba_notes values ('mine')
42501 table public.dba_notes
42501 select api.count_users()
42883 select api.get_user_password('user7')
42501 select remote.plproxy_partitions('userdb')
42501 select * from plproxy.conf
42501 select plproxy.get_cluster_partitions('tabledb')
42501 select plproxy.get_cluster_config('tabledb')
42501 select remote.plproxy_partition_of('userdb', 1)
42501 select * from remote.plproxy_connections
42501 select * from pg_user_mapping
42501 select * from pg_authid
42501 select * from pg_shadow
42501 select * from pg_hba_file_rules
42501 select pg_read_file('pg_hba.conf')
42501 select pg_read_binary_file('postgresql.auto.conf')
42501 select pg_ls_dir('.')
42501 select pg_stat_file('postgresql.conf')
42501 select lo_import('/etc/passwd')
42501 select lo_export(1, '/tmp/loot')
42501 select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres' or backend_type = 'checkpointer'
42501 select pg_reload_conf()
42501 select pg_logical_slot_get_changes('s', null, null)
42501 copy public.dba_notes to stdout
42501 copy public.dba_notes from '/etc/passwd'
42501 copy (select 1) to '/tmp/loot'
42501 copy (select 1) to program 'cat'
42501 copy pg_authid to stdout
42501 create table public.mine (a text)
42501 create table api.mine (a text)
42501 create temp table mine (a text)
42501 create schema mine
42501 create view api.mine as select 1
42501 create function api.mine() returns text language sql as 'select 1::text'
42501 create function pg_temp.mine() returns text language sql as 'select 1::text'
42501 create function api.mine() returns text language plproxy as $$ connect 'dbname=userdb user=proxy'; $$
42501 create or replace function api.get_user_email(i_username text) returns text language sql as 'select 1::text'
42501 create or replace function api.place() returns text language sql as 'select 1::text'
42501 alter function api.place() security invoker
42501 alter function api.place() owner to app
42501 alter function api.place() set search_path = mine
42501 drop function api.place()
42501 grant execute on function api.count_users() to app
42501 create extension dblink schema api
42501 create extension postgres_fdw schema api
42501 create extension hstore schema api
42501 create foreign data wrapper mine
42501 create server mine foreign data wrapper plproxy options (p0 'dbname=userdb')
42501 create user mapping for app server userdb options (user 'postgres')
42501 alter user mapping for interface server userdb options (set user 'postgres')
42501 alter server userdb options (set p0 'dbname=internaldb')
42501 create foreign table api.mine (a text) server userdb
42501 create publication mine for all tables
42501 create database mine
42501 create role mine
42501 alter role app superuser
42501 alter role postgres password 'mine'
42501 grant interface to app
42501 grant pg_read_server_files to app
42501 set role interface
42501 set role postgres
42501 set role backoffice
42501 set session authorization postgres
42501 select set_config('role', 'interface', false)
42501 select api.place(); set plproxy.password_required = off
42501 set session_replication_role = replica
42501 alter system set listen_addresses = '*'
42501 alter database proxydb owner to app
42501 load 'dblink'
42501 do language plproxy $$ connect 'dbname=userdb'; $$
42501 do $$ begin perform * from public.dba_notes; end $$
42501 do $$ begin execute 'set role interface'; end $$
ATTEMPTS

# A setting of plproxy that is set before the library is there is not taken over when it comes.
strict() {
    diff <(printf '%s\n' t on) <(on proxy proxydb -c "set plproxy.password_required = off" \
        -c "select api.place() is not null" -c "show plproxy.password_required" 2>/dev/null)
}
is "the rule for passwords cannot be set in advance" strict
# Values are values.
is "an argument is never SQL" gives proxy proxydb "select api.get_user_email(u) is null from unnest(array[
    'user7'' or ''1'' = ''1', '''; drop table users; --', 'user7\\', '\$1', '%', '']) u" t t t t t t
said=$(on proxy proxydb -v VERBOSITY=verbose -c "select api.set_user_email('user7', null)" 2>&1)
says_no_secret() { grep -q 'ERROR:  23502' <<<"$said" && ! grep -q s3cret <<<"$said" || { echo "$said"; return 1; }; }
is "an error from over there tells no secret" says_no_secret

# Secrets, in whatever the application can read, what others run included; the DBA's search
# shows that there are some.
PGUSER=postgres admin proxy proxydb -c "select pg_sleep(600), 's3cret'" >/dev/null 2>&1 &
pids+=($!)
cat >"$dir/search.sql" <<'SQL'
do $$
declare
    r record;
    v_found boolean;
begin
    for r in
        select c.oid::regclass as name from pg_class c
         where c.relkind in ('r', 'v', 'm', 'f', 'p') and has_table_privilege(c.oid, 'select')
           and has_schema_privilege(c.relnamespace, 'usage')
         order by c.oid::regclass::text
    loop
        begin
            execute format('select exists (select from %s t where t::text ~ ''s3cre[t]|for nobod[y]'')', r.name) into v_found;
        exception when insufficient_privilege then
            v_found := false;
        end;
        if v_found then
            raise notice 'found in %', r.name;
        end if;
    end loop;
end $$;
SQL
none() { on proxy proxydb -f "$dir/search.sql" >"$dir/out" 2>&1 && [ ! -s "$dir/out" ] || { cat "$dir/out"; return 1; }; }
asleep() { gives proxy proxydb "select count(*) from pg_stat_activity where wait_event = 'PgSleep'" 1; }
PGHOST=$dir/proxy PGUSER=postgres is "the DBA is at work" until_true 60 asleep
is "no table or view that it can read has a secret" none
there_are() {
    local name
    PGUSER=postgres admin proxy proxydb -f "$dir/search.sql" >"$dir/out" 2>&1
    for name in dba_notes plproxy.conf pg_user_mapping pg_stat_activity; do
        grep -q "found in $name$" "$dir/out" || { cat "$dir/out"; return 1; }
    done
}
is "there are secrets: the DBA's search finds them" there_are

# Other ways in. A connection that is refused has its SQLSTATE in that server's log.
# turned_away SQLSTATE SERVER DATABASE [SETTING=VALUE...]
turned_away() {
    ! env "${@:4}" "$PGBIN/psql" -X -q -At -p "${port[$2]}" -d "$3" -c 'select 1' >"$dir/out" 2>&1 || { cat "$dir/out"; return 1; }
    until_true 10 grep -q "^$1 .*FATAL" "$dir/$2/log" || { cat "$dir/out"; return 1; }
}
# of the log only what comes after
new_log() { : >"$dir/$1/log"; }
while read -r state server database who; do
    new_log "$server"
    # shellcheck disable=SC2086
    is "turned away from $server's $database${who:+, as $who}" turned_away "$state" "$server" "$database" $who
done <<'ATTEMPTS'
28000 data userdb
28000 data postgres
28000 data userdb PGUSER=interface
28000 data userdb PGUSER=postgres
28000 data userdb PGUSER=owner
28P01 data userdb PGUSER=proxy
28P01 data userdb PGUSER=proxy PGPASSWORD=
28000 data postgres PGUSER=proxy PGPASSWORD=s3cret
28000 other userdb
42501 proxy postgres
42501 proxy template1
42501 proxy internaldb
28000 proxy proxydb PGUSER=postgres
28000 proxy proxydb PGUSER=interface
28P01 proxy proxydb PGUSER=app PGPASSWORD=guessed
28P01 proxy proxydb PGUSER=backoffice
ATTEMPTS
is "after all of that the data is what it was" test "$(users)" = "$before"

# The second wall: the proxy's role, if its secret is lost, may call the same functions over there.
export PGUSER=proxy PGPASSWORD=s3cret
is "the proxy's role may call what the proxy calls" gives data userdb "select api.get_user_email('user7')" seven@example.com
attempts data userdb <<'ATTEMPTS'
42501 select * from public.users
42501 update public.users set email = 'mine'
42501 copy public.users to stdout
42501 select api.get_user_password('user7')
42501 create temp table mine (a text)
42501 create table api.mine (a text)
42501 set role owner
42501 select pg_read_file('postgresql.conf')
ATTEMPTS

# ---- an interface: what is behind it moves, and the application does not notice

export PGUSER=postgres
unset PGPASSWORD
move=$(
    cat <<SH
cd /
"$PGBIN/pg_dump" -h "$dir/data" -p ${port[data]} -C userdb | "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir/other" -p ${port[other]} -d postgres >"$dir/out"
"$PGBIN/psql" -X -q -h "$dir/proxy" -p ${port[proxy]} -d proxydb -c "alter server userdb options (set p0 'host=127.0.0.1 port=${port[other]} dbname=userdb')"
SH
)
extract=$(
    cat <<SH
"$PGBIN/psql" -X -q -h "$dir/other" -p ${port[other]} -d postgres -c "create database maildb"
"$PGBIN/pg_dump" -h "$dir/other" -p ${port[other]} userdb | "$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir/other" -p ${port[other]} -d maildb >"$dir/out"
"$PGBIN/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir/proxy" -p ${port[proxy]} -d proxydb <<'SQL'
create server maildb foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=${port[other]} dbname=maildb');
create user mapping for interface server maildb options (user 'proxy', password 's3cret');
grant usage on foreign server maildb to interface;
begin;
create or replace function api.get_user_email(i_username text) returns text language plproxy security definer as
    \$\$ CLUSTER 'maildb'; \$\$;
create or replace function api.place() returns text language plproxy security definer as
    \$\$ CLUSTER 'maildb'; \$\$;
commit;
SQL
SH
)
echo "$move" >"$dir/move.sh"
echo "$extract" >"$dir/extract.sh"
cat >"$dir/session.sql" <<SQL
select api.place(), api.get_user_email('user7');
\! PGUSER=postgres bash $dir/move.sh
select api.place(), api.get_user_email('user7'), api.set_user_email('user8', 'eight@example.com');
\! PGUSER=postgres bash $dir/extract.sh
select api.place(), api.get_user_email('user7'), api.get_user_email('user8');
SQL
session() {
    diff <(printf '%s\n' "userdb at ${port[data]} as proxy|seven@example.com" "userdb at ${port[other]} as proxy|seven@example.com|t" \
        "maildb at ${port[other]} as proxy|seven@example.com|eight@example.com") \
        <(PGUSER=app PGPASSWORD=front on proxy proxydb -f "$dir/session.sql" 2>&1)
}
is "one session of the application, while its data moves, and a function to another database" session
# at SERVER DATABASE SQL LINE...: what the DBA finds there
at() { PGHOST=$dir/$1 gives "$@"; }
written="select string_agg(email, ' ' order by username) from users where username in ('user7', 'user8', 'user9')"
is "what it wrote is where the function was at that time: in the first database" at data userdb "$written" \
    'seven@example.com user8@example.com user9@example.com'
is "after the first move" at other userdb "$written" 'seven@example.com eight@example.com user9@example.com'
is "after the second" at other maildb "$written" 'seven@example.com eight@example.com user9@example.com'

done_testing
