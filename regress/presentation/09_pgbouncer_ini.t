#!/usr/bin/env bash
# Slides "pgBouncer configuration" and "pgBouncer Pooling Modes": the file as printed, a line
# a key, with each value of auth_type and pool_mode that it names.
set -uo pipefail
# shellcheck source=regress/presentation/09_pgbouncer.sh
. "$(dirname "$0")/09_pgbouncer.sh"

# ---- who gets in

cp "$printed" pgbouncer.ini
is "all values of auth_type at once are refused" fails 2 eval "timeout 30 ${server_prefix[*]} $dir/bin/pooler pgbouncer.ini >said 2>&1"
is "with the line and what to write" grep -q 'pgbouncer.ini:10: .*auth_type.*md5' said

is "auth_type = any" pooler_up any session
is "its pid is where the file says" kill -0 "$(cat pgbouncer.pid)"
is "and its log" until_true 30 grep -q "$PGPORT" pgbouncer.log
is "anybody gets to forcedb, as baz with its password" gives 'baz|forcedb' as whoever forcedb 'select current_user, current_database()'
is "nobody to a database without a user" refused 'bouncer config error' ann bardb
is "the console is for those whom it names" gives 1 eval "as admin pgbouncer 'SHOW VERSION' | wc -l"
is "and for no others" refused 'not allowed' whoever pgbouncer
pooler_down

is "auth_type = trust" pooler_up trust session
is "who is in etc/userlist.txt gets in as himself: bardb is bazdb" gives 'ann|bazdb|f' as ann bardb \
    'select current_user, current_database(), inet_server_addr() is null'
is "foodb is foodb, by the local socket" gives 'ann|foodb|t' as ann foodb 'select current_user, current_database(), inet_server_addr() is null'
is "forcedb makes him baz" gives 'baz|forcedb' as ann forcedb 'select current_user, current_database()'
is "who is not in it does not" refused 'authentication failed' whoever foodb
is "a database that the file does not name is not there" refused 'no such database' ann bazdb
pooler_down

# crypt is spoken by no client any more, and means md5.
for auth in crypt md5; do
    rm -f pgbouncer.log
    is "auth_type = $auth" pooler_up $auth session
    is "$auth: with the password" eval "PGPASSWORD=anns-secret gives ann as ann bardb 'select current_user'"
    is "$auth: as md5 in the file, too" eval "PGPASSWORD=bobs-secret gives bob as bob foodb 'select current_user'"
    is "$auth: with another one nobody gets in" eval "PGPASSWORD=bobs-secret refused 'authentication failed' ann bardb"
    is "$auth: nor without" refused 'no password supplied' ann bardb
    is "$auth: nor who is not in the file" eval "PGPASSWORD=x refused 'authentication failed' whoever bardb"
    is "$auth: nor admin to the console" eval "PGPASSWORD=wrong refused 'authentication failed' admin pgbouncer"
    is "$auth: but with his" eval "PGPASSWORD=open gives 1 eval \"as admin pgbouncer 'SHOW VERSION' | wc -l\""
    [ $auth = md5 ] || is "crypt: the log says what it means" grep -q 'WARNING .*auth_type: crypt .* means md5' pgbouncer.log
    pooler_down
done

# ---- pool_mode

is "pool_mode = session" pooler_up trust session
client a foodb
client b foodb
ask a 'select pg_backend_pid()' && a=$answer
ask b 'select pg_backend_pid()' && b=$answer
is "session: each client has a server to itself" test "$a" != "$b"
tell a 'create temp table t (n int)'
tell a 'insert into t values (1)'
ask a 'select n from t'
is "session: as long as it stays connected" test "$answer" = 1
leave a
is "session: then another one gets it" until_true 30 eval "[ \"\$(as ann foodb 'select pg_backend_pid()')\" = $a ]"
is "session: cleaned" refuses 42P01 foodb 'select n from t'
leave b
pooler_down

is "pool_mode = transaction" pooler_up trust transaction
client a foodb
client b foodb
ask a 'select pg_backend_pid()' && a=$answer
ask b 'select pg_backend_pid()' && b=$answer
is "transaction: idle clients share a server" test "$a" = "$b"
tell a 'begin'
ask a 'select pg_backend_pid()' && a=$answer
ask b 'select pg_backend_pid()' && b=$answer
is "transaction: one in a transaction has it to itself" test "$a" != "$b"
ask a 'select pg_backend_pid()'
is "transaction: until that ends" test "$a" = "$answer"
ask a 'commit; select pg_backend_pid()'
ask b 'select pg_backend_pid()'
servers() { sql foodb "select count(*) from pg_stat_activity where datname = 'foodb' and usename = 'ann'"; }
is "transaction: two servers are all that there are" eval "PGPORT=$server_port gives 2 servers"
leave a
leave b
pooler_down

is "pool_mode = statement" pooler_up trust statement
client a foodb
client b foodb
ask a 'select pg_backend_pid()' && a=$answer
ask b 'select pg_backend_pid()' && b=$answer
is "statement: clients share a server" test "$a" = "$b"
ask a 'begin'
is "statement: transactions of several statements are disallowed" eval '[[ $answer == *"transaction blocks not allowed in statement pooling mode"* ]]'
is "statement: a DO block is one" gives 'NOTICE:  two' as ann foodb "do 'begin perform 1; raise notice ''two''; end'"
leave b
pooler_down
done_testing
