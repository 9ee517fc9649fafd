#!/usr/bin/env bash
# Slide "pgBouncer console": the session as printed, in its order, each answer checked; who
# may say what; and that PAUSE holds the clients that it names and no others.
set -uo pipefail
# shellcheck source=regress/presentation/09_pgbouncer.sh
. "$(dirname "$0")/09_pgbouncer.sh"
pooler_up trust transaction || exit 1

# console [OPTION...] COMMAND: "psql -d pgbouncer -U admin -p 6432", with the test's port.
console() { timeout 60 "$PGBIN/psql" -X -A -P footer=off -w -d pgbouncer -U admin -p "$PGPORT" "${@:1:$#-1}" -c "${*: -1}" 2>&1; }
# column NAME ROW COMMAND: of the row that begins with ROW.
column() {
    console "$3" | awk -F'|' -v name="$1" -v row="$2" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) n = i }
        NR > 1 && $1 == row { print $n }'
}
paused() { for db in forcedb bardb foodb; do column paused "$db" 'SHOW DATABASES;'; done | paste -sd' '; }
# refuses_command MESSAGE USER COMMAND
refuses_command() {
    local got
    got=$(console -U "$2" "$3") && { echo "$got"; return 1; }
    [ "$got" = "ERROR:  $1" ] || { echo "$got"; return 1; }
}
# waits DB COUNT: so many of the database's clients wait.
waits() { becomes "$2" column cl_waiting "$1" 'SHOW POOLS;'; }

# ---- the session

help=$(console 'SHOW HELP;')
for command in SHOW SET RELOAD PAUSE RESUME; do
    is "SHOW HELP names $command" grep -qE "^\s+$command( |$)" <<<"$help"
done
is "SHOW CONFIG has what the file says" gives 'etc/userlist.txt transaction 100 20 admin, postgres stats' eval \
    'for key in auth_file pool_mode max_client_conn default_pool_size admin_users stats_users; do column value $key "SHOW CONFIG;"; done | paste -sd" "'
# mended: SHOW CONFIG ends with a semicolon, not a colon.
is "with a colon it is no command" grep -q "ERROR:  invalid command 'SHOW CONFIG:', use SHOW HELP;" <(console 'SHOW CONFIG:')
is "SHOW DATABASES has the databases" gives "bardb|127.0.0.1|$server_port|bazdb|
foodb||5432|foodb|
forcedb|127.0.0.1|$server_port|forcedb|baz
pgbouncer||$PGPORT|pgbouncer|pgbouncer" eval "console -t 'SHOW DATABASES;' | cut -d'|' -f1-5"
is "they have the file's pool_size" gives 20 column pool_size foodb 'SHOW DATABASES;'
is "SET default_pool_size = 50" gives 'SET default_pool_size=50' eval "console 'SET default_pool_size = 50;' | head -1"
is "it holds" gives '50 50' eval 'echo $(column value default_pool_size "SHOW CONFIG;") $(column pool_size foodb "SHOW DATABASES;")'
is "RELOAD" gives RELOAD console 'RELOAD;'
is "reads the file again, which wins" gives 20 column value default_pool_size 'SHOW CONFIG;'
sed -i 's/^default_pool_size = .*/default_pool_size = 30/' pgbouncer.ini
is "a changed file" gives RELOAD console 'RELOAD;'
is "counts from then on" gives 30 column pool_size foodb 'SHOW DATABASES;'
echo 'default_pool_siz = 1' >>pgbouncer.ini
is "a wrong file" grep -q 'ERROR:  RELOAD failed' <(console 'RELOAD;')
is "changes nothing" gives 30 column value default_pool_size 'SHOW CONFIG;'
sed -i '$d' pgbouncer.ini

client a foodb
client b bardb
client f forcedb
ask a "select 'foodb answers'"
ask a 'select 2'
tell a 'begin'
ask a 'select 3'
is "SHOW POOLS: a transaction has a server" gives '1 0 1 transaction' eval \
    'for c in cl_active cl_waiting sv_active pool_mode; do column $c foodb "SHOW POOLS;"; done | paste -sd" "'
tell a 'commit'
is "and none behind it" becomes '0|1' eval 'echo "$(column sv_active foodb "SHOW POOLS;")|$(column sv_idle foodb "SHOW POOLS;")"'
is "SHOW STATS counts transactions and queries" gives '3 5' eval 'echo $(column total_xact_count foodb "SHOW STATS;") $(column total_query_count foodb "SHOW STATS;")'
is "by database" gives 0 column total_query_count bardb 'SHOW STATS;'
ask b "select 'bardb answers'"
ask f "select 'forcedb answers'"

is "PAUSE" gives PAUSE console 'PAUSE;'
is "pauses all databases" gives '1 1 1' paused
for c in a b f; do tell $c "select '$c goes on'"; done
is "their clients wait" eval 'waits foodb 1 && waits bardb 1 && waits forcedb 1'
is "no server is left" gives 0 eval "PGPORT=$server_port sql postgres \"select count(*) from pg_stat_activity where datname in ('forcedb', 'bazdb', 'foodb')\""
is "PAUSE of one that is paused" gives PAUSE console 'PAUSE foodb;'
is "RESUME" gives RESUME console 'RESUME;'
is "resumes all of them" gives '0 0 0' paused
for c in a b f; do
    heard $c
    is "a held client gets its answer" test "$answer" = "$c goes on"
done
is "RESUME of one that is not paused is refused" refuses_command 'database foodb is not paused' admin 'RESUME foodb;'
is "so is RESUME when nothing is" grep -q 'ERROR:  pooler is not paused/suspended' <(console 'RESUME;')

# ---- PAUSE <db>, RESUME <db>

is "PAUSE foodb" gives PAUSE console 'PAUSE foodb;'
is "pauses foodb alone" gives '0 0 1' paused
tell a "select 'a second time'"
is "its client waits" waits foodb 1
ask b "select 'not held'"
is "that of bardb does not" test "$answer" = 'not held'
ask f "select 'nor this'"
is "nor that of forcedb" test "$answer" = 'nor this'
is "it waits still" waits foodb 1
is "RESUME foodb" gives RESUME console 'RESUME foodb;'
heard a
is "gives it its answer" test "$answer" = 'a second time'
is "no database is left paused" gives '0 0 0' paused
is "a database that is not there is refused" refuses_command 'no such database: nodb' admin 'PAUSE nodb;'

# PAUSE is answered when nobody is in a transaction any more.
tell a 'begin'
ask a 'select 1'
console 'PAUSE foodb;' >pause.out &
pause=$!
tell b "select 'meanwhile'" && heard b
until_true 30 gives 1 column paused foodb 'SHOW DATABASES;'
ask a 'select 2'
is "PAUSE lets a transaction go on" test "$answer" = 2
is "and waits for it" test ! -s pause.out
tell a 'commit'
wait $pause
is "until it ends" gives PAUSE cat pause.out
tell a 'select 4'
is "the next one waits" waits foodb 1
is "RESUME foodb" gives RESUME console 'RESUME foodb;'
heard a
is "lets it begin" test "$answer" = 4

# ---- who may

is "postgres is of admin_users, too" gives 'PAUSE RESUME' eval "echo \$(console -U postgres 'PAUSE bardb;') \$(console -U postgres 'RESUME bardb;')"
for command in 'SHOW HELP' 'SHOW CONFIG' 'SHOW DATABASES' 'SHOW POOLS' 'SHOW STATS'; do
    is "stats may $command" eval "! console -U stats '$command;' | grep ERROR"
done
for command in 'SET default_pool_size = 50' RELOAD PAUSE 'PAUSE foodb' RESUME 'RESUME foodb' SUSPEND 'KILL foodb' 'DISABLE foodb' 'RECONNECT' SHUTDOWN 'SHOW FDS'; do
    is "stats may not $command" refuses_command 'admin access needed' stats "$command;"
done
is "which has changed nothing" gives '0 0 0 30' eval 'echo $(paused) $(column value default_pool_size "SHOW CONFIG;")'
is "ann may not even look" refused 'not allowed' ann pgbouncer
is "nor who is not known" refused 'authentication failed' whoever pgbouncer
for c in a b f; do leave $c; done
is "what is no command is said" grep -q "use SHOW HELP" <(console 'SELECT FROM t;')
console 'SHUTDOWN;' >/dev/null
is "SHUTDOWN ends it" ended pgbouncer.pid
done_testing
