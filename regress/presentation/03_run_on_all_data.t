#!/usr/bin/env bash
# 03_run_on_all_data.t: "plProxy: Run On All for Data". The balances of many users are asked of all
# partitions, each of which answers for its own. What the two functions of the slide want to fit
# together is shown, and SPLIT, which sends each partition its own users only.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start proxy data
make_databases data userdb_p00 userdb_p01 userdb_p02 userdb_p03 printed
make_databases proxy userdb

# the slide's functions: of the partitions, and of the proxy
partition_side=$(
    cat <<'SQL'
CREATE FUNCTION balance.get_balances(
  i_users text[],
  OUT username text,
  OUT currency text,
  OUT balance numeric)
RETURNS SETOF record AS $$
BEGIN
  FOR i IN COALESCE(array_lower(i_users,1),0) ..
    COALESCE(array_upper(i_users,1),-1)
  LOOP
    IF partconf.valid_hash(i_users[i]) THEN
      SELECT i_users[i], u.currency, u.balance
        INTO username, currency, balance
        FROM balances
        WHERE username = i_users[i];
      RETURN NEXT;
    END IF;
  END LOOP;
  RETURN;
END;
$$ LANGUAGE plpgsql SECURITY DEFINER;
SQL
)
proxy_side=$(
    cat <<'SQL'
CREATE FUNCTION get_balances(
  i_users text[],
  OUT user text,
  OUT currency text,
  OUT balance numeric)
RETURNS SETOF record AS $$
  CLUSTER 'userdb'; RUN ON ALL;
$$ LANGUAGE plproxy;
SQL
)
# mended: FROM lacks the alias u, by which the columns are called
with_alias=${partition_side/FROM balances/FROM balances u}
# mended: username in WHERE is the OUT argument as well as the column
mended_partition_side=${with_alias/WHERE username/WHERE u.username}
# mended: user is a reserved word, so that it stands in quotes
mended_proxy_side=${proxy_side/OUT user/OUT \"user\"}

# tables PARTITION MAX_PART DATABASE
tables() {
    on data "$3" >"$dir/out" <<SQL
create extension partconf;
select partconf.set_conf($1, $2, $1);
SQL
    on data "$3" <<'SQL'
create schema balance;
create table balances (username text primary key, currency text not null, balance numeric not null);
insert into balances
select 'user' || i, (array['EUR', 'USD', 'SEK'])[i % 3 + 1], i * 1.25
  from generate_series(1, 400) i
 where partconf.valid_hash('user' || i);
SQL
}
for nr in 0 1 2 3; do
    tables $nr 3 userdb_p0$nr
    on data userdb_p0$nr -c "$mended_partition_side"
    # the same, with a note of what the call has brought
    on data userdb_p0$nr <<'SQL'
create table balance.received (call text, users integer, bytes bigint, own bigint);
create function balance.get_balances_noted(i_call text, i_users text[], out username text, out currency text, out balance numeric)
returns setof record language plpgsql as $$
begin
    insert into balance.received
    select i_call, count(*), sum(octet_length(u)), count(*) filter (where partconf.valid_hash(u)) from unnest(i_users) u;
    return query select b.username, b.currency, b.balance from balance.get_balances(i_users) b;
end $$;
create function find_balance(i_balance numeric, out username text, out place text) returns setof record language sql as
    'select b.username, current_database() from balances b where b.balance = i_balance';
SQL
done

on proxy userdb <<SQL
create extension plproxy;
create extension partconf;
create server userdb foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=${port[data]} dbname=userdb_p00', p1 'host=127.0.0.1 port=${port[data]} dbname=userdb_p01',
    p2 'host=127.0.0.1 port=${port[data]} dbname=userdb_p02', p3 'host=127.0.0.1 port=${port[data]} dbname=userdb_p03');
create user mapping for public server userdb;
SQL

# ---- the slide's functions as they are printed

tables 0 0 printed
on data printed -c "$partition_side"
is "the partition's as printed: there is no u" refused 42P01 'missing FROM-clause entry for table "u"' \
    data printed "select * from balance.get_balances('{user1}')"
on data printed -c "drop function balance.get_balances" -c "$with_alias"
is "with an alias, username may mean two things" refused 42702 'column reference "username" is ambiguous' \
    data printed "select * from balance.get_balances('{user1}')"
on data printed -c "drop function balance.get_balances" -c "$mended_partition_side"
is "mended, it works" gives data printed "select * from balance.get_balances('{user1,user2}')" 'user1|USD|1.25' 'user2|SEK|2.50'
is "the proxy's as printed: user is a reserved word" refused 42601 'syntax error at or near "user"' proxy userdb "$proxy_side"
on proxy userdb -c "$mended_proxy_side"
is "mended, the schemas still differ: nothing of that name is in public there" \
    refused 42883 'function public.get_balances(text[]) does not exist' proxy userdb "select * from get_balances('{user1}')"
on proxy userdb <<'SQL'
create or replace function get_balances(i_users text[], out "user" text, out currency text, out balance numeric) returns setof record as $$
  CLUSTER 'userdb'; RUN ON ALL; TARGET balance.get_balances;
$$ language plproxy;
SQL
is "with TARGET the names of columns do: username there is no user here" \
    refused 42703 '"user"' proxy userdb "select * from get_balances('{user1}')"
# What it takes: the query for the partitions is written out, and gives the column its name.
on proxy userdb <<'SQL'
create or replace function get_balances(i_users text[], out "user" text, out currency text, out balance numeric) returns setof record as $$
  CLUSTER 'userdb'; RUN ON ALL;
  SELECT username AS "user", currency, balance FROM balance.get_balances(i_users);
$$ language plproxy;
SQL

# ---- it runs

asked="array(select 'user' || i from generate_series(10, 400, 10) i)"
expected="select 'user' || i, (array['EUR', 'USD', 'SEK'])[i % 3 + 1], i * 1.25 from generate_series(10, 400, 10) i"
# differences FUNCTION: rows that it gives and should not, or the other way round
differences() { echo "(table_given except all table_expected) union all (table_expected except all table_given)" |
    sed "s/table_given/(select * from $1($asked))/g; s/table_expected/($expected)/g"; }
is "every user that was asked for comes once, with its balance" gives proxy userdb "$(differences get_balances)"
is "they are forty" gives proxy userdb "select count(*), count(distinct \"user\") from get_balances($asked)" '40|40'
is "of all partitions" gives proxy userdb "select count(distinct partconf.get_hash(\"user\") & 3) from get_balances($asked)" 4
is "no user, no row" gives proxy userdb "select count(*) from get_balances('{}'); select count(*) from get_balances(null)" 0 0
is "null is nobody's" gives proxy userdb "select * from get_balances(array[null, 'user1', null])" 'user1|USD|1.25'
is "who is asked for twice comes twice" gives proxy userdb "select * from get_balances('{user1,user1}')" 'user1|USD|1.25' 'user1|USD|1.25'
is "arrays may begin anywhere" gives proxy userdb "select * from get_balances('[5:6]={user1,user2}') order by 1" 'user1|USD|1.25' 'user2|SEK|2.50'
is "as the slide has it, one partition answers for a user who is unknown: with nulls" \
    gives proxy userdb "select count(*), count(\"user\") from get_balances('{nobody}')" '1|0'

# "Also usable when exact partition where data resides is not known."
on proxy userdb -c "create function find_balance(i_balance numeric, out username text, out place text) returns setof record
    language plproxy as \$\$ cluster 'userdb'; run on all; \$\$"
is "what is known by something else than the key is found where it is" gives proxy userdb \
    "select username, place = 'userdb_p0' || (partconf.get_hash(username) & 3) from find_balance(125)" 'user100|t'

# ---- SPLIT does it better

on proxy userdb <<'SQL'
create function get_balances_split(i_users text[], out "user" text, out currency text, out balance numeric) returns setof record as $$
  CLUSTER 'userdb'; SPLIT i_users; RUN ON partconf.get_hash(i_users);
  SELECT username AS "user", currency, balance FROM balance.get_balances_noted('split', i_users);
$$ language plproxy;
create function get_balances_all(i_users text[], out "user" text, out currency text, out balance numeric) returns setof record as $$
  CLUSTER 'userdb'; RUN ON ALL;
  SELECT username AS "user", currency, balance FROM balance.get_balances_noted('all', i_users);
$$ language plproxy;
create function received(out place integer, out call text, out users bigint, out bytes bigint, out own bigint) returns setof record as $$
  CLUSTER 'userdb'; RUN ON ALL;
  SELECT (select part_nr from partconf.get_info()) AS place, call, sum(users) AS users, sum(bytes)::int8 AS bytes, sum(own)::int8 AS own
    FROM balance.received GROUP BY call ORDER BY call;
$$ language plproxy;
SQL
is "RUN ON ALL gives what it should" gives proxy userdb "$(differences get_balances_all)"
is "and so does SPLIT" gives proxy userdb "$(differences get_balances_split)"
forget() { for nr in 0 1 2 3; do on data userdb_p0$nr -c "truncate balance.received"; done; }
forget
on proxy userdb -c "select count(*) from get_balances_all($asked)" -c "select count(*) from get_balances_split($asked)" >"$dir/out"
bytes=$(on proxy userdb -c "select sum(octet_length(u)) from unnest($asked) u")
is "with RUN ON ALL every partition gets all forty names, most of them for nothing" gives proxy userdb \
    "select place, users, bytes, own < 40 from received() where call = 'all' order by place" "0|40|$bytes|t" "1|40|$bytes|t" "2|40|$bytes|t" "3|40|$bytes|t"
is "with SPLIT each gets its own, and nothing else" gives proxy userdb \
    "select s.place, s.users = s.own, s.own = a.own, s.bytes < a.bytes from received() s, received() a
      where s.call = 'split' and a.call = 'all' and s.place = a.place order by 1" '0|t|t|t' '1|t|t|t' '2|t|t|t' '3|t|t|t'
is "a quarter of it all together" gives proxy userdb \
    "select call, sum(users), sum(bytes), sum(own) from received() group by call order by call" \
    "all|160|$((4 * bytes))|40" "split|40|$bytes|40"
forget
is "one user" gives proxy userdb "select * from get_balances_split('{user1}')" 'user1|USD|1.25'
is "is asked of one partition, and the others do nothing" gives proxy userdb \
    "select place = partconf.get_hash('user1') & 3, users from received()" 't|1'
is "a null has no partition" refused 22004 'null' proxy userdb "select * from get_balances_split('{user1,null}')"

# ---- partitions that do not know who they are

on proxy userdb <<'SQL'
create function infos() returns setof partconf.info as $$
  CLUSTER 'userdb'; RUN ON ALL;
  SELECT * FROM partconf.get_info();
$$ language plproxy;
SQL
check="select partconf.check_list(array(select i from infos() i))"
is "the partitions are who the proxy takes them for" gives proxy userdb "$check" t
on data userdb_p02 -c "select partconf.set_conf(1, 3, 2)" >"$dir/out"
is "a partition with another's number answers for the other's users: with nulls" gives proxy userdb \
    "select count(*) from get_balances($asked) where \"user\" is null or currency is null" \
    "$(on proxy userdb -c "select count(*) from unnest($asked) u where partconf.get_hash(u) & 3 = 1")"
is "and partconf.check_list tells" refused PX005 '' proxy userdb "$check"
on data userdb_p02 -c "delete from partconf.conf"
is "one without a number fails, instead of leaving its users out" refused PX004 '' proxy userdb "select * from get_balances($asked)"

done_testing
