# shellcheck shell=bash
# users.sh: the demo without options; sourced by scripts/demo.
partitions="0 1 2 3"
words=/usr/share/dict/american-english

# ---- build and servers

build pooler pgqd queue_mover

step "starting two servers: proxy, data (four partitions and the queue database)"
start_servers proxy data
port[front]=$(free_port) port[back]=$(free_port)
metrics=$(free_port)
on_proxy() { on proxy proxydb "$@"; }
on_data() { on data "$@"; }

on proxy postgres -c "create database proxydb"
on_data postgres -c "create role proxy login password 'remote'"
for nr in $partitions; do
    on_data postgres -c "create database part$nr"
    on_data "part$nr" -f "$here/partition.sql"
done
on_data postgres -c "create database queuedb"
on_data queuedb -f "$here/queue.sql" -f "$TOP/goworkers/examples/user_report/report.sql"
on_proxy -v back="${port[back]}" -f "$here/proxy.sql"
by_password proxy data

# ---- sidecars

pooler_ini front scram-sha-256 200 app front <<INI
; before the proxy: many clients, few connections
proxydb = host=127.0.0.1 port=${port[proxy]} dbname=proxydb
INI
{
    echo "; between the proxy and its partitions"
    for nr in $partitions; do echo "part$nr = host=127.0.0.1 port=${port[data]} dbname=part$nr"; done
} | pooler_ini back md5 500 proxy remote
ticker_ini ticker data "metrics_listen = 127.0.0.1:$metrics"
for nr in $partitions; do
    job_ini "mover$nr" queue_mover data "part$nr" data queuedb <<INI
pgq_queue_name = user_events
dst_queue_name = all_events
INI
done
job_ini report user_report data queuedb data queuedb <<INI
queue_name = all_events
INI
step "starting the poolers: one before the proxy, one between the proxy and its partitions"
run pooler_front "$dir/bin/pooler" "$dir/conf/pooler_front.ini"
run pooler_back "$dir/bin/pooler" "$dir/conf/pooler_back.ini"
until_ok "the pooler before the proxy does not answer" as_app proxydb -c "select 1"
until_ok "the pooler before the partitions does not answer" as_app proxydb -c "select * from user_stats()"
step "starting the ticker, four queue movers and the report's consumer"
run ticker "$dir/bin/pgqd" "$dir/conf/ticker.ini"
for nr in $partitions; do run "mover$nr" "$dir/bin/queue_mover" "$dir/conf/mover$nr.ini"; done
run report "$dir/bin/user_report" "$dir/conf/report.ini"

# ---- 1. the users, from the word list

awk -v n="$users" '{ w = tolower($0); if (!(w in seen)) { seen[w]; all[++total] = w } }
    END { if (total < n) { print "only " total " words" > "/dev/stderr"; exit 1 }
          for (i = 1; i <= n; i++) print all[int((i - 1) * total / n) + 1] }' "$words" >out/users ||
    die "$words does not hold $users different words"
on_proxy -c "copy word (username) from stdin" <out/users
on_proxy -c "analyze word"
step "loading $users users of Debian's word list: SELECT set_user(...) through the pooler"
sed -e "s/'/''/g" -e "s/.*/select set_user('&', '&@example.com');/" out/users >out/load.sql
loading=$(date +%s%N)
half=$(((users + 1) / 2))
as_app proxydb -At -f <(sed "${half}q" out/load.sql) >out/loaded1 &
first=$!
as_app proxydb -At -f <(sed "1,${half}d" out/load.sql) >out/loaded2 &
second=$!
while kill -0 $first 2>/dev/null || kill -0 $second 2>/dev/null; do
    step "  $(cat out/loaded[12] | wc -l) of $users"
    pause 2
done
wait $first && wait $second || die "loading the users failed"
load_ms=$((($(date +%s%N) - loading) / 1000000))
loaded=$(cat out/loaded[12] | grep -c '^new$')
step "  $loaded users in $load_ms ms, $((loaded * 1000 / load_ms)) calls/s"

# ---- 2. the load, and 6. the consumer killed in the middle of it

step "pgbench: $clients clients, $seconds s of proxied calls, reads and writes"
(cd out && PGPASSWORD=front exec pgbench -n -p "${port[front]}" -U app -f "$here/load.pgbench" -D users="$users" -M extended \
    -c "$clients" -j 2 -T "$seconds" -P 5 -l --log-prefix=call proxydb) >out/pgbench 2>out/pgbench.progress &
bench=$!
echo $bench >pid/pgbench.pid
kills=0
for _ in 1 2 3; do
    pause "$(awk -v s="$seconds" 'BEGIN { print s / 4 }')"
    kill -KILL "$(cat pid/report.pid)" && kills=$((kills + 1))
    step "  the report's consumer was killed (SIGKILL) and is started again"
    run report "$dir/bin/user_report" "$dir/conf/report.ini"
done
wait $bench || { cat out/pgbench.progress >&2; die "pgbench failed"; }
read -r calls < <(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' out/pgbench)
read -r failed < <(sed -n 's/^number of failed transactions: \([0-9]*\).*/\1/p' out/pgbench)
read -r rate < <(sed -n 's/^tps = \([0-9]*\).*/\1/p' out/pgbench)
# percentile N: of the calls' latencies, in ms.
percentile() { cut -d' ' -f3 out/call.* | sort -n | awk -v p="$1" '{ v[NR] = $1 } END { printf "%.1f", v[int((NR - 1) * p / 100) + 1] / 1000 }'; }
step "  $calls calls, $rate calls/s, latency p50 $(percentile 50) ms, p90 $(percentile 90) ms, p99 $(percentile 99) ms"

# ---- 4. everything through the queues

made() { for nr in $partitions; do on_data "part$nr" -At -c "select count(*) from pgq.event_template"; done | paste -sd+ | bc_sum; }
bc_sum() { awk -F+ '{ for (i = 1; i <= NF; i++) s += $i; print s + 0 }'; }
applied() { on_data queuedb -At -c "select coalesce(sum(events), 0) from report.batches"; }
events=$(made)
step "waiting until the report has seen all $events events"
done_ok=no
for _ in {1..240}; do
    seen=$(applied)
    [ "$seen" -lt "$events" ] || { done_ok=yes; break; }
    [ $((_i = ${_i:-0} + 1)) -lt 8 ] || { _i=0; step "  $seen of $events"; }
    pause 0.25
done
[ $done_ok = yes ] || say "demo: the report saw only $(applied) of $events events in 60 s"

# ---- 5. all must agree

step "comparing the partitions, the proxy and the report row by row"
rows="select username, email, score from"
logins="select username, logins from"
as_app proxydb -At -c "select * from all_users() order by username collate \"C\"" >out/users.proxy
for nr in $partitions; do on_data "part$nr" -At -c "$rows users"; done | LC_ALL=C sort -t'|' -k1,1 >out/users.partitions
on_data queuedb -At -c "$rows report.users order by username collate \"C\"" >out/users.report
as_app proxydb -At -c "select * from all_logins() order by username collate \"C\"" >out/logins.proxy
for nr in $partitions; do on_data "part$nr" -At -c "$logins logins"; done | LC_ALL=C sort -t'|' -k1,1 >out/logins.partitions
on_data queuedb -At -c "$logins report.logins order by username collate \"C\"" >out/logins.report
as_app proxydb -At -c "select * from user_stats()" >out/stats.proxy
on_data queuedb -At -c "select 'logins', coalesce(sum(logins), 0) from report.logins
    union all select 'score', coalesce(sum(score), 0) from report.users
    union all select 'users', count(*) from report.users" >out/stats.report
moved=$(on_data queuedb -At -c "select count(*) from pgq.event_template")
read -r batches < <(on_data queuedb -At -c "select count(*) from report.batches")
latency=$(on_data queuedb -At -F ' ' -f "$here/latency.sql")
# pools NAME: SHOW POOLS of that pooler's console, without its columns about cancels and checks.
pools() {
    console "$1" -A -P footer=off -c "show pools" | awk -F'|' '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i !~ /cancel|sv_used|sv_tested|_us$|load_balance/) keep[++n] = i }
        { for (i = 1; i <= n; i++) printf i < n ? "%-12s" : "%s\n", $keep[i] }' | sed 's/^/  /'
}
pools front >out/pools.front
pools back >out/pools.back

same() { cmp -s "out/$1.proxy" "out/$1.partitions" && cmp -s "out/$1.proxy" "out/$1.report"; }
refused() {
    ! as_app proxydb -c "select * from plproxy.get_cluster_partitions('userdb')" >out/secrets 2>&1 &&
        grep -q '^ERROR:  permission denied for schema plproxy' out/secrets
}
spread() { local nr; for nr in $partitions; do [ "$(on_data "part$nr" -At -c "select count(*) from users")" -gt 0 ] || return 1; done; }

echo
echo "Summary"
check "users loaded through the proxy" "$loaded" test "$loaded" = "$users"
check "users on each of the four partitions" "$(for nr in $partitions; do on_data "part$nr" -At -c "select count(*) from users"; done | paste -sd' ')" spread
check "proxied calls of pgbench, none failed" "$calls" test "$calls" -gt 0 -a "${failed:-1}" = 0
row "  calls per second" "$rate" ""
row "  latency p50 / p90 / p99, ms" "$(percentile 50) / $(percentile 90) / $(percentile 99)" ""
check "connect strings that the application reads" 0 refused
check "events made by the partitions" "$events" test "$events" -gt "$users"
check "events moved into the one queue" "$moved" test "$moved" = "$events"
check "events applied to the report, each once" "$(applied)" test "$(applied)" = "$events"
row "  in batches" "$batches" ""
row "  latency call to report p50 / p99, s" "${latency/ / \/ }" ""
check "times the consumer was killed" "$kills" test "$kills" = 3
check "rows of users: partitions = proxy = report" "$(lines out/users.report)" same users
check "rows of logins: partitions = proxy = report" "$(lines out/logins.report)" same logins
check "statistics by RUN ON ALL = report" "$(cut -d'|' -f2 out/stats.proxy | paste -sd' ')" cmp -s out/stats.proxy out/stats.report
echo
echo "SHOW POOLS of the pooler before the proxy"
cat out/pools.front
echo
echo "SHOW POOLS of the pooler before the partitions"
cat out/pools.back
echo

verdict <<HOW
  as an application:   PGPASSWORD=front psql -h 127.0.0.1 -p ${port[front]} -U app -d proxydb
  to the proxy:        psql -h 127.0.0.1 -p ${port[proxy]} -U postgres -d proxydb
  to a partition:      psql -h 127.0.0.1 -p ${port[data]} -U postgres -d part0
  to the report:       psql -h 127.0.0.1 -p ${port[data]} -U postgres -d queuedb
  pooler console:      PGPASSWORD=console psql -h 127.0.0.1 -p ${port[front]} -U admin -d pgbouncer
  pooler console:      PGPASSWORD=console psql -h 127.0.0.1 -p ${port[back]} -U admin -d pgbouncer
  metrics (ticker):    http://127.0.0.1:$metrics/metrics
HOW
