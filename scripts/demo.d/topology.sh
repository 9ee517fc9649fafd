# shellcheck shell=bash
# topology.sh: the demo with --topology, the overall picture; sourced by scripts/demo.
# The parts are called: servers proxy, oltp0, oltp1, standby0, queue, report; poolers front,
# back; ticker0, ticker1, ticker2; mover0, mover1; dispatcher, consumer.
own=$here/topology

# ---- build and servers

build pooler pgqd queue_mover table_dispatcher simple_consumer

step "starting five servers: proxy, oltp0, oltp1, queue, report"
start_servers proxy oltp0 oltp1 queue report
port[front]=$(free_port) port[back]=$(free_port)

# prepare SERVER DATABASE PSQL_ARGUMENT...: makes the database.
prepare() {
    on "$1" postgres -c "create database $2"
    on "$1" "$2" "${@:3}"
}
for nr in 0 1; do
    on "oltp$nr" postgres -c "create role proxy login password 'remote'"
    prepare "oltp$nr" oltpdb -f "$here/partition.sql"
done
prepare queue queuedb -f "$here/queue.sql"
prepare report reportdb -f "$own/report.sql"
prepare proxy proxy0 -v back="${port[back]}" -f "$here/proxy.sql" -f "$own/proxy.sql"
# A proxy database holds no state: the second is a copy of the first, and serves the same.
on proxy postgres -c "create database proxy1 template proxy0"
by_password proxy oltp0 oltp1 queue report

step "starting the sixth server: standby0, which streams from oltp0"
mkdir standby0
[ "$(id -u)" != 0 ] || chown "$(server_user)" standby0
as_server "$dir/tree/bin/pg_basebackup" -D "$dir/standby0/data" -R -X stream -c fast --no-sync \
    -d "host=127.0.0.1 port=${port[oltp0]} user=postgres" >out/basebackup 2>&1 || { cat out/basebackup >&2; die "pg_basebackup failed"; }
# The standby tells at once and then each second how far it is.
printf '%s\n' "unix_socket_directories = '$dir/standby0'" "wal_receiver_status_interval = 1s" >>standby0/data/postgresql.conf
echo "$dir/tree" >standby0/tree
free_port >standby0/port
start_servers standby0

# ---- sidecars

pooler_ini front scram-sha-256 200 app front <<INI
; before the proxies: many clients, few connections
proxy0 = host=127.0.0.1 port=${port[proxy]} dbname=proxy0
proxy1 = host=127.0.0.1 port=${port[proxy]} dbname=proxy1
INI
pooler_ini back md5 500 proxy remote <<INI
; between the proxies and the partitions: w to write, r to read
w0 = host=127.0.0.1 port=${port[oltp0]} dbname=oltpdb
w1 = host=127.0.0.1 port=${port[oltp1]} dbname=oltpdb
r0 = host=127.0.0.1 port=${port[standby0]} dbname=oltpdb
r1 = host=127.0.0.1 port=${port[oltp1]} dbname=oltpdb
INI
ticker_ini ticker0 oltp0
ticker_ini ticker1 oltp1
ticker_ini ticker2 queue
for nr in 0 1; do
    job_ini "mover$nr" queue_mover "oltp$nr" oltpdb queue queuedb <<INI
queue_name = user_events
dst_queue_name = all_events
INI
done
job_ini dispatcher table_dispatcher queue queuedb report reportdb <<INI
queue_name = all_events
dest_table = report.changes
INI
job_ini consumer simple_consumer queue queuedb report reportdb <<INI
queue_name = all_events
dst_query = insert into report.users values (%(username)s, %(email)s, %(score)s, %(updated)s)
    on conflict (username) do update set email = excluded.email, score = excluded.score, updated = excluded.updated
INI
step "starting two poolers, three tickers, two queue movers, a table_dispatcher, a simple_consumer"
for name in front back; do run "$name" "$dir/bin/pooler" "$dir/conf/pooler_$name.ini"; done
for name in ticker0 ticker1 ticker2; do run "$name" "$dir/bin/pgqd" "$dir/conf/$name.ini"; done
for name in mover0 mover1; do run "$name" "$dir/bin/queue_mover" "$dir/conf/$name.ini"; done
run dispatcher "$dir/bin/table_dispatcher" "$dir/conf/dispatcher.ini"
run consumer "$dir/bin/simple_consumer" "$dir/conf/consumer.ini"
until_ok "the pooler before the proxies does not answer" console front -c "show version"
until_ok "the pooler before the partitions does not answer" console back -c "show version"
# The consumers see what is made after they have registered.
registered() { [ "$(on "$1" "$2" -At -c "select count(*) from pgq.get_consumer_info()")" = "$3" ]; }
for nr in 0 1; do until_ok "mover$nr does not register" registered "oltp$nr" oltpdb 1; done
until_ok "the consumers of queuedb do not register" registered queue queuedb 2

# ---- figures: what the parts say, as lines name=value

# state PID_FILE: up or DOWN; a process that waits to be reaped is gone.
state() { if grep -q '^State:.[^ZX]' "/proc/$(head -n 1 "$1")/status" 2>/dev/null; then echo up; else echo DOWN; fi; }
states() {
    local name
    for name in front back ticker0 ticker1 ticker2 mover0 mover1 dispatcher consumer; do
        echo "$name.state=$(state "pid/$name.pid")"
    done
    for name in proxy oltp0 oltp1 standby0 queue report; do
        echo "$name.state=$(state "$name/data/postmaster.pid")"
    done
}
pooler_figures() { console "$1" -A -P footer=off -c "show stats" -c "show pools" | awk -v name="$1" -f "$own/pooler_figures.awk"; }
# collect: writes out/now; what was there before is out/before.
loading=
collect() {
    local gone=0
    [ -z "$loading" ] || gone=$((($(date +%s%N) - loading) / 1000000000))
    {
        echo "now=$(date +%s.%N)"
        echo "clients=$clients"
        echo "seconds=$seconds"
        echo "gone=$((gone < seconds ? gone : seconds))"
        states
        pooler_figures front
        pooler_figures back
        for nr in 0 1; do on "oltp$nr" oltpdb -At -v nr=$nr -f "$own/partition_figures.sql"; done
        on standby0 oltpdb -At -f "$own/standby_figures.sql"
        # The report before the queue: a consumer that is at the last tick then has done what the report had.
        on report reportdb -At -f "$own/report_figures.sql"
        on queue queuedb -At -f "$own/queue_figures.sql"
    } >out/collected 2>>out/collect.log || true # what does not answer has no figures
    [ ! -e out/now ] || mv out/now out/before
    mv out/collected out/now
}
figure() { sed -n "s/^$1=//p" out/now; }
# sum FIGURE...: nothing if one of them is not there.
sum() {
    local name value total=0
    for name in "$@"; do
        value=$(figure "$name")
        [ -n "$value" ] || return 0
        total=$((total + value))
    done
    echo "$total"
}

# ---- drawing

draw() { awk "$@" -f "$own/draw.awk" out/before out/now "$own/picture.txt"; }
# redraw: over the picture before, in one write, line by line, so that nothing flickers.
redraw() {
    local size frame
    { read -r -a size < <(stty size <&3 2>/dev/null) || size=(0 0); } 3>&1
    frame=$(draw -v height="${size[0]}" -v width="${size[1]}" | sed $'s/$/\e[K/')
    printf '\e[H%s\e[J' "$frame"
}
print_picture() {
    echo
    draw
    echo
}
drawn=0
# show: collects and draws, each second on a terminal, else with --every, and returns when
# the next second begins.
show() {
    collect
    if [ -n "$screen" ]; then
        [ $((SECONDS - drawn)) -lt "${every:-1}" ] || { drawn=$SECONDS; redraw; }
    elif [ -n "$every" ] && [ $((SECONDS - drawn)) -ge "$every" ]; then
        drawn=$SECONDS
        print_picture
    fi
    pause "$(date +%N | awk '{ print 1 - $1 / 1e9 }')"
}

# ---- the load

step "loading $users users: SELECT set_user(...) through the poolers"
awk -v n="$users" 'BEGIN { for (i = 1; i <= n; i++) printf "select set_user('\''user%d'\'', '\''user%d@example.com'\'');\n", i, i }' >out/load.sql
as_app proxy0 -At -f out/load.sql >out/loaded || die "loading the users failed"

step "pgbench: $clients clients, $seconds s of calls through both proxies, six reads to four writes"
collect
loading=$(date +%s%N)
benches=()
for nr in 0 1; do
    PGPASSWORD=front pgbench -n -p "${port[front]}" -U app -f "$own/read.pgbench@6" -f "$own/write.pgbench@4" -D users="$users" \
        -M extended -c $(((clients + 1 - nr) / 2)) -T "$seconds" proxy$nr >out/pgbench$nr 2>out/pgbench$nr.errors &
    benches+=($!)
    echo $! >pid/pgbench$nr.pid
done
[ ! -t 1 ] || enter_screen
if [ -z "$screen" ] && [ -z "$every" ]; then
    pause 1
    collect
    print_picture
fi
load_over() { ! kill -0 "${benches[0]}" 2>/dev/null && ! kill -0 "${benches[1]}" 2>/dev/null; }
until load_over; do show; done
# A client whose call fails gives up; what is wrong is for the summary to say.
aborted=0
for nr in 0 1; do wait "${benches[nr]}" || aborted=$((aborted + 1)); done

# ---- until everything has come through: given up when nothing has moved for 10 s

# waiting: how many events wait, by their ids, which leaves out one that commits just behind a tick.
waiting() { sum mover0.waiting mover1.waiting dispatcher.waiting consumer.waiting; }
settled() {
    local events
    events=$(sum oltp0.events oltp1.events)
    [ -n "$events" ] && [ "$(figure changes.rows)" = "$events" ] && [ "$(waiting)" = 0 ] &&
        [ "$(figure consumer.tick)" = "$(figure queue.tick)" ] && [ "$(figure standby0.lag)" = 0 ]
}
progress() { grep -E '^(oltp[01]\.events|queue\.events|changes\.rows|.*\.waiting|standby0\.lag)=' out/now || true; }
last='' moved=$SECONDS
while show; ! settled; do
    [ "$(progress)" = "$last" ] || { last=$(progress) moved=$SECONDS; }
    [ $((SECONDS - moved)) -lt 10 ] || { given_up=yes; break; }
done
leave_screen
[ $aborted = 0 ] || head -n 3 out/pgbench?.errors >&2
step "the load has ended${given_up:+; nothing has moved for 10 s, but not everything has come through}"
print_picture

# ---- all must agree

step "comparing the partitions, the standby, the proxies and the report row by row"
rows="select username, email, score from"
sorted() { LC_ALL=C sort -t'|' -k1,1; }
for name in oltp0 oltp1 standby0; do on "$name" oltpdb -At -c "$rows users" | sorted >out/users.$name || true; done
cat out/users.oltp[01] | sorted >out/users.partitions
for name in proxy0 proxy1; do as_app "$name" -At -c "select * from all_users()" | sorted >out/users.$name || true; done
on report reportdb -At -c "$rows report.users" | sorted >out/users.report || true
# of_pgbench PATTERN: the sum of the numbers that sed finds by it in what the two have printed.
of_pgbench() { sed -n "$1" out/pgbench[01] | awk '{ n += $1 } END { print n + 0 }'; }
made=$(of_pgbench 's/^number of transactions actually processed: //p')
failed=$(of_pgbench 's/^number of failed transactions: //p')
reads=$(of_pgbench '/^SQL script 1:/,/^SQL script 2:/s/^ - \([0-9]*\) transactions.*/\1/p')
loaded=$(grep -c '^new$' out/loaded || true)
calls=$((loaded + made)) writes=$((loaded + made - reads))
positive() { local n; for n in "$@"; do [ "${n:-0}" -gt 0 ] || return 1; done; }
same() { cmp -s "out/users.$1" "out/users.$2"; }
all_same() { same partitions proxy0 && same partitions proxy1 && same partitions report; }
running() { grep -c '\.state=up$' out/now; }
parts() { grep -c '\.state=' out/now; }

echo
echo "Summary"
check "servers and sidecars running" "$(running) of $(parts)" test "$(running)" = "$(parts)"
check "users loaded through the poolers" "$loaded" test "$loaded" = "$users"
check "users on each of the partitions" "$(figure oltp0.rows) $(figure oltp1.rows)" positive "$(figure oltp0.rows)" "$(figure oltp1.rows)"
check "calls that the applications made, none failed" "$calls" test "$made" -gt 0 -a "$failed$aborted" = 00
check "  seen by the pooler before the proxies" "$(figure front.calls)" test "$(figure front.calls)" = "$calls"
check "  each proxy" "$(figure proxy0.calls) $(figure proxy1.calls)" positive "$(figure proxy0.calls)" "$(figure proxy1.calls)"
check "  seen by the pooler before the partitions" "$(figure back.calls)" test "$(figure back.calls)" = "$calls"
check "  that read, by the standby and by oltp1" "$(figure r0.calls) $(figure r1.calls)" test "$(sum r0.calls r1.calls)" = "$reads"
check "  that write, by oltp0 and by oltp1" "$(figure w0.calls) $(figure w1.calls)" test "$(sum w0.calls w1.calls)" = "$writes"
check "events made by oltp0 and oltp1, one a write" "$(figure oltp0.events) $(figure oltp1.events)" test "$(sum oltp0.events oltp1.events)" = "$writes"
check "events moved into queuedb" "$(figure queue.events)" test "$(figure queue.events)" = "$writes"
check "changes in the report, one an event" "$(figure changes.rows)" test "$(figure changes.rows)" = "$writes"
check "events that wait for a consumer" "$(waiting)" test "$(waiting)" = 0
check "bytes of WAL that the standby is behind" "$(figure standby0.lag)" test "$(figure standby0.lag)" = 0
check "rows of users: standby = its primary" "$(lines out/users.standby0)" same standby0 oltp0
check "rows of users: partitions = proxies = report" "$(lines out/users.report)" all_same
echo

verdict <<HOW
  as an application:   PGPASSWORD=front psql -h 127.0.0.1 -p ${port[front]} -U app -d proxy0
  as an application:   PGPASSWORD=front psql -h 127.0.0.1 -p ${port[front]} -U app -d proxy1
  to a partition:      psql -h 127.0.0.1 -p ${port[oltp0]} -U postgres -d oltpdb
  to a partition:      psql -h 127.0.0.1 -p ${port[oltp1]} -U postgres -d oltpdb
  to the standby:      psql -h 127.0.0.1 -p ${port[standby0]} -U postgres -d oltpdb
  to the queue:        psql -h 127.0.0.1 -p ${port[queue]} -U postgres -d queuedb
  to the report:       psql -h 127.0.0.1 -p ${port[report]} -U postgres -d reportdb
  pooler console:      PGPASSWORD=console psql -h 127.0.0.1 -p ${port[front]} -U admin -d pgbouncer
  pooler console:      PGPASSWORD=console psql -h 127.0.0.1 -p ${port[back]} -U admin -d pgbouncer
HOW
