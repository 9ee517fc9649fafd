#!/usr/bin/env bash
# 01_remote_calls.t: "plProxy: Remote Call Language", "Read Only Remote Calls", "Remote Calls to
# Archive" and "Remote Calls for Autonomous Transactions". Online databases on one server call
# those on another through a pooler.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start remote
on remote postgres -c "create role reader login" -c "alter role reader set default_transaction_read_only = on"
make_databases remote userdb balancedb archivedb logdb
remote="host=127.0.0.1 port=${port[remote]}"
pooler pool 'default_pool_size = 2' <<INI
userdb = $remote dbname=userdb user=postgres
userdb_ro = $remote dbname=userdb user=reader
balancedb = $remote dbname=balancedb user=postgres
balancedb_ro = $remote dbname=balancedb user=reader
archivedb = $remote dbname=archivedb user=postgres
logdb = $remote dbname=logdb user=postgres
INI
# The slides' connect strings name a database and nothing else: the rest is what the libpq
# of the calling server finds in its environment, and that is the pooler.
PGPORT=${port[pool]} start online
make_databases online onlinedb shopdb
on online onlinedb -c "create extension plproxy"
on online shopdb -c "create extension plproxy"

# ---- the language, and the test function of the installation

on remote userdb <<'SQL'
create table users (username text primary key, email text);
insert into users values ('alice', 'alice@example.com'), ('bob', 'bob@example.com');
create function get_user_email(username text) returns text language sql as
    'select u.email from users u where u.username = get_user_email.username';
create function set_user_email(username text, email text) returns void language sql as
    'update users u set email = set_user_email.email where u.username = set_user_email.username';
grant select, update on users to reader;
SQL
on online shopdb <<'SQL'
CREATE FUNCTION get_user_email(username text) RETURNS text AS $$
 CONNECT 'dbname=userdb_ro';
$$ LANGUAGE plproxy;
SQL
on online onlinedb <<'SQL'
CREATE FUNCTION get_user_email(username text)
RETURNS text AS $$
    CONNECT 'dbname=userdb';
$$ LANGUAGE plproxy;
SQL
is "a remote call gives what the other database knows" gives online onlinedb "select get_user_email('bob')" bob@example.com
is "so does one that names an alias of the pooler" gives online shopdb "select get_user_email('bob')" bob@example.com
is "it runs as the alias says" gives remote postgres \
    "select distinct usename from pg_stat_activity where datname = 'userdb' and query like '%get_user_email%' order by 1" postgres reader
is "nobody is nobody there, too" gives online onlinedb "select get_user_email('nobody') is null, get_user_email(null) is null" 't|t'
on online shopdb <<'SQL'
create function set_user_email(username text, email text) returns void language plproxy as
    $$ connect 'dbname=userdb_ro'; $$;
SQL
is "the read-only alias refuses what writes" refused 25006 'read-only transaction' \
    online shopdb "select set_user_email('bob', 'x')"
is "and nothing is written" gives online shopdb "select get_user_email('bob')" bob@example.com

# ---- read-only remote calls: the latest balance

on remote balancedb <<'SQL'
create table balance (username text primary key, amount numeric not null check (amount >= 0));
insert into balance values ('bob', 100);
create function get_balance(i_username text) returns numeric language sql as
    'select b.amount from balance b where b.username = i_username';
create function withdraw(i_username text, i_amount numeric) returns numeric language sql as
    'update balance b set amount = b.amount - i_amount where b.username = i_username returning b.amount';
grant select on balance to reader;
SQL
on online shopdb <<'SQL'
create table purchase (username text, price numeric);
create function get_balance(i_username text) returns numeric language plproxy as $$ connect 'dbname=balancedb_ro'; $$;
create function withdraw(i_username text, i_amount numeric) returns numeric language plproxy as $$ connect 'dbname=balancedb'; $$;
create function buy(i_username text, i_price numeric) returns text language plpgsql as $$
begin
    if get_balance(i_username) < i_price then
        return 'too little on the account';
    end if;
    insert into purchase values (i_username, i_price);
    return 'bought';
end $$;
SQL
is "the decision is made on the balance over there" gives online shopdb "select buy('bob', 90), buy('bob', 101)" 'bought|too little on the account'
cat >"$dir/latest.sql" <<SQL
begin isolation level repeatable read;
select buy('bob', 90), get_balance('bob');
\\! $PGBIN/psql -X -q -p ${port[remote]} -d balancedb -c "update balance set amount = 20"
select buy('bob', 90), get_balance('bob');
commit;
SQL
latest() { diff <(printf '%s\n' 'bought|100' 'too little on the account|20') <(on online shopdb -f "$dir/latest.sql" 2>&1); }
is "it is the latest one, whatever the caller's snapshot is" latest

# What the slide warns of: two databases, two transactions.
on online shopdb -c "begin" -c "insert into purchase values ('bob', 15)" -c "select withdraw('bob', 15)" -c "rollback" >"$dir/out"
is "a remote call that writes is not undone with its caller: the money is gone" gives online shopdb "select get_balance('bob')" 5
is "and nothing was bought for it" gives online shopdb "select count(*) from purchase where price = 15" 0
on remote balancedb -c "update balance set amount = 20"
on online shopdb -c "begin" -c "set local plproxy.transactions = tied" -c "insert into purchase values ('bob', 15)" \
    -c "select withdraw('bob', 15)" -c "rollback" >"$dir/out"
is "a tied call is undone" gives online shopdb "select get_balance('bob'), (select count(*) from purchase where price = 15)" '20|0'

# ---- remote calls to the archive

on remote archivedb <<'SQL'
create schema archive;
create table archive.invoice (id integer primary key, username text not null, issued date not null, amount numeric not null);
create function archive.get_invoices(i_username text, i_from date, i_to date, out id integer, out issued date, out amount numeric)
returns setof record language sql as $$
    select i.id, i.issued, i.amount from archive.invoice i
     where i.username = i_username and i.issued >= i_from and i.issued < i_to
     order by i.issued, i.id
$$;
SQL
on online onlinedb <<'SQL'
create table invoice (id serial primary key, username text not null, issued date not null, amount numeric not null);
create table online_since (day date not null);
insert into online_since values ('2008-01-01');
insert into invoice (username, issued, amount)
select u, date '2008-01-01' + d, d * 3 + length(u) from unnest('{alice,bob,carol}'::text[]) u, generate_series(0, 364, 7) d;
-- what no move may change
create table all_invoices as select * from invoice;

create schema archive;
create function archive.get_invoices(i_username text, i_from date, i_to date, out id integer, out issued date, out amount numeric)
returns setof record language plproxy as $$
    CONNECT 'dbname=archivedb';
$$;
create function get_invoices(i_username text, i_from date, i_to date, out id integer, out issued date, out amount numeric)
returns setof record language plpgsql as $$
declare
    v_since date := (select s.day from online_since s);
begin
    if i_from < v_since then
        return query select a.* from archive.get_invoices(i_username, i_from, least(i_to, v_since)) a;
    end if;
    return query
    select i.id, i.issued, i.amount from invoice i
     where i.username = i_username and i.issued >= greatest(i_from, v_since) and i.issued < i_to
     order by i.issued, i.id;
end $$;
create function differences() returns bigint language sql as $$
    select count(*)
      from unnest('{alice,bob,carol,nobody}'::text[]) u,
           generate_series(date '2007-12-01', '2009-02-01', '1 month') f,
           generate_series(date '2007-12-15', '2009-02-01', '1 month') t
     where array(select i from get_invoices(u, f::date, t::date) i)
           is distinct from array(select (a.id, a.issued, a.amount) from all_invoices a
                                   where a.username = u and a.issued >= f and a.issued < t order by a.issued, a.id)
$$;
SQL
calls='select coalesce(sum(calls), 0) from plproxy_stat_calls where function like $$archive.get_invoices(%$$'
is "before any month is archived all is online" gives online onlinedb "select differences()" 0
for month in 2008-02-01 2008-07-01 2008-11-01; do
    on online onlinedb -c "copy (select * from invoice where issued < '$month') to stdout" |
        on remote archivedb -c "copy archive.invoice from stdin"
    is "closed months before $month are copied: what is in both databases is seen once" gives online onlinedb "select differences()" 0
    on online onlinedb -c "update online_since set day = '$month'"
    is "then the archive is asked for them" gives online onlinedb "select differences()" 0
    on online onlinedb -c "delete from invoice where issued < '$month'"
    is "and they are gone here: every user sees all of every period" gives online onlinedb "select differences()" 0
done
is "what is archived is not online any more" gives online onlinedb "select count(*), min(issued) from invoice" '27|2008-11-04'
is "it is in the archive" gives remote archivedb "select count(*), min(issued), max(issued) from archive.invoice" '132|2008-01-01|2008-10-28'
is "the online months are not asked of the archive" \
    gives online onlinedb "select count(*) from get_invoices('bob', '2008-11-01', '2009-01-01'); $calls" 9 0
is "a longer period is, once" gives online onlinedb "select count(*) from get_invoices('bob', '2008-01-01', '2009-01-01'); $calls" 53 1
on pool pgbouncer -c "disable archivedb" -c "kill archivedb"
is "with the archive away the online months are there" gives online onlinedb "select count(*) from get_invoices('bob', '2008-11-01', '2009-01-01')" 9
is "and a longer period fails, instead of being short" refused 08001 'could not connect' \
    online onlinedb "select count(*) from get_invoices('bob', '2008-01-01', '2009-01-01')"

# ---- autonomous transactions: a log that outlives the caller's rollback

on remote logdb <<'SQL'
create table log (id serial, what text, username text, message text, server_pid integer not null default pg_backend_pid());
create function log_failure(i_what text, i_username text, i_message text) returns void language sql as
    'insert into log (what, username, message) values (i_what, i_username, i_message)';
SQL
on online onlinedb <<SQL
create table payment (username text, amount numeric);
create table log (what text, username text, message text);
create function log_failure(i_what text, i_username text, i_message text) returns void language plproxy as
    \$\$ connect 'dbname=logdb'; \$\$;
create function log_failure_here(i_what text, i_username text, i_message text) returns void language sql as
    'insert into log values (i_what, i_username, i_message)';
create function log_failure_directly(i_what text, i_username text, i_message text) returns void language plproxy as
    \$\$ connect 'port=${port[remote]} dbname=logdb'; target log_failure; \$\$;
SQL
on online onlinedb <<'SQL'
create function pay(i_username text, i_amount numeric) returns void language plpgsql as $$
begin
    insert into payment values (i_username, i_amount);
    if i_amount > 1000 then
        raise exception '% is more than anybody pays', i_amount using errcode = '22003';
    end if;
exception when others then
    perform log_failure('pay', i_username, sqlerrm);
    perform log_failure_here('pay', i_username, sqlerrm);
    raise;
end $$;
SQL
is "a call that fails gives its own error" refused 22003 '5000 is more than anybody pays' online onlinedb "select pay('bob', 5000)"
is "its work is undone, and so is what it logged in its own database" \
    gives online onlinedb "select (select count(*) from payment), (select count(*) from log)" '0|0'
is "what it logged over there stands" gives remote logdb "select what, username, message from log" \
    'pay|bob|5000 is more than anybody pays'
is "a call that works logs nothing" gives online onlinedb "select pay('bob', 50)" ''
is "and its work stands" gives online onlinedb "select * from payment" 'bob|50'
on online onlinedb -c begin -c "select log_failure('by hand', 'alice', 'before a rollback')" -c rollback >/dev/null
on online onlinedb -c begin -c "set local plproxy.transactions = tied" \
    -c "select log_failure('tied', 'alice', 'before a rollback')" -c rollback >/dev/null
is "autonomous is the default, and tied is not" gives remote logdb "select what from log order by id" pay 'by hand'

# "If used extensively then usage of pgBouncer should be considered"
many() {
    printf '%s\n' 'begin;' "select $1('$1', 'user :client_id', 'again');" 'rollback;' >"$dir/many.sql"
    "$PGBIN/pgbench" -n -c 8 -t 25 -p "${port[online]}" -f "$dir/many.sql" onlinedb >"$dir/out" 2>&1 || { cat "$dir/out"; return 1; }
}
is "eight sessions log through the pooler" many log_failure
is "each time, over the pool's two connections at most" gives remote logdb \
    "select count(*), count(distinct server_pid) <= 2 from log where what = 'log_failure'" '200|t'
is "eight sessions log without it" many log_failure_directly
is "over a connection each" gives remote logdb \
    "select count(*), count(distinct server_pid) from log where what = 'log_failure_directly'" '200|8'

done_testing
