#!/usr/bin/env bash
# Slide "PgQ: Simple Serial Consumer": its Python program is the stock job of its name, which
# does each event just once by pgq_ext. Queue and target are two servers.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs simple_serial_consumer.py
server target
target=$PGPORT
server source
source=$PGPORT
sql postgres 'create database sourcedb'
PGPORT=$target sql postgres 'create database targetdb'
pooler "sourcedb = host=127.0.0.1 port=$source" "targetdb = host=127.0.0.1 port=$target"
sql sourcedb 'create extension pgq' "select pgq.create_queue('event_queue')" >/dev/null
# A call that is made twice would count twice.
sql targetdb 'create table balance (username text primary key, n bigint)'
sql targetdb <<'SQL'
create function function_to_be_run(i_username text, i_n bigint) returns bigint language sql as $$
    insert into balance values (i_username, i_n) on conflict (username) do update set n = balance.n + excluded.n returning n
$$;
SQL
# The program of the slide has the keys of simple_consumer.
cat >serial.ini <<'INI'
[simple_serial_consumer]
job_name      = job_to_be_done
src_db        = dbname=sourcedb
dst_db        = dbname=targetdb
pgq_queue_name = event_queue
dst_query     =
    SELECT * FROM function_to_be_run(%(username)s, %(n)s);

loop_delay    = 0.1
logfile       = ~/log/%(job_name)s.log
pidfile       = ~/pid/%(job_name)s.pid
INI
pidfile=pid/job_to_be_done.pid log=log/job_to_be_done.log
is "without pgq_ext on the target it does not start" fails 1 timeout 30 simple_serial_consumer.py serial.ini
is "with it" sql targetdb 'create extension pgq_ext'
is "it registers" simple_serial_consumer.py serial.ini --register
balance() { sql targetdb 'select username, n from balance order by 1'; }
produce() { sql sourcedb "select count(pgq.insert_event('event_queue', 'pay', 'username=' || u || '&n=' || n)) from generate_series($1, $2) n, unnest(array['ann', 'bob']) u" >/dev/null && tick sourcedb event_queue; }
produce 1 10
is "simple_serial_consumer.py -d" simple_serial_consumer.py -d serial.ini
is "events are done" becomes 'ann|55
bob|55' balance
is "queue and target are at the same place" becomes t eval \
    '[ "$(sql targetdb "select pgq_ext.get_last_tick('\''job_to_be_done'\'')")" = "$(sql sourcedb "select last_tick from pgq.get_consumer_info()")" ] && echo t'

for i in 1 2 3 4; do
    produce $((i * 1000 + 1)) $((i * 1000 + 1000))
    until_true 30 eval "[ \"\$(balance)\" != '$(balance)' ]"
    kill -KILL "$(cat $pidfile)"
    simple_serial_consumer.py -d serial.ini || break
done
sum=$(sql targetdb 'select 55 + sum(n) from generate_series(1001, 5000) n')
is "killed four times, each event was done once" becomes "ann|$sum
bob|$sum" balance

# The transaction of the batch was committed, finish_batch was not: the queue gives the batch again.
is "-s ends it" simple_serial_consumer.py -s serial.ini
is "its pid file goes along" ended $pidfile
before=$(sql sourcedb 'select last_tick from pgq.get_consumer_info()')
produce 1 1
simple_serial_consumer.py -d serial.ini
is "a further batch is done" becomes "ann|$((sum + 1))
bob|$((sum + 1))" balance
simple_serial_consumer.py -q -s serial.ini 2>/dev/null
ended $pidfile
sql sourcedb "select pgq.register_consumer_at('event_queue', 'job_to_be_done', $before)" >/dev/null
simple_serial_consumer.py -d serial.ini
produce 2 2
is "given a second time it is not done again" becomes "ann|$((sum + 3))
bob|$((sum + 3))" balance

# One event that fails takes its batch back.
sql targetdb 'alter table balance add check (n < 100000000)'
sql sourcedb "select pgq.insert_event('event_queue', 'pay', 'username=ann&n=' || n) from unnest(array[1, 100000000]) n" >/dev/null
tick sourcedb event_queue
is "what the target refuses is told in the log" until_true 30 grep -q 'ERROR .*balance_n_check' $log
is "nothing of the batch is done" gives "ann|$((sum + 3))
bob|$((sum + 3))" balance
sql targetdb 'alter table balance drop constraint balance_n_check'
is "then it is taken, whole" becomes "ann|$((sum + 100000004))
bob|$((sum + 3))" balance
is "-s ends it, too" simple_serial_consumer.py -s serial.ini
is "it has ended" ended $pidfile
done_testing
