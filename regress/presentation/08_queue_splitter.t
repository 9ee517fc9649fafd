#!/usr/bin/env bash
# Slide "PgQ: Queue Splitter": the events of an online database's one queue go to the
# queues of another database, by who produced them.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs queue_splitter.py
server server
sql postgres 'create database oltpdb' 'create database queuedb'
sql oltpdb 'create extension pgq' "select pgq.create_queue('all_events')" >/dev/null
sql queuedb 'create extension pgq' 'create extension pgq_ext' "select pgq.create_queue(q), pgq.register_consumer(q, 'reader')
    from unnest(array['public.users', 'public.orders', 'mails']) q" >/dev/null
# Producers are two tables with triggers and a caller; the queue's name is in ev_extra1.
sql oltpdb <<'SQL'
create table users (username text primary key, email text);
create table orders (id int primary key, price numeric);
create trigger to_queue after insert or update on users for each row execute function pgq.logutriga('all_events');
create trigger to_queue after insert or update on orders for each row execute function pgq.logutriga('all_events');
SQL
# The slide prints no file; these are the keys of the job's manual.
cat >splitter.ini <<'INI'
[queue_splitter]
job_name = events_to_queues
src_db = dbname=oltpdb
dst_db = dbname=queuedb
pgq_queue_name = all_events
queue_field = extra1
logfile = ~/log/%(job_name)s.log
pidfile = ~/pid/%(job_name)s.pid
INI
pidfile=pid/events_to_queues.pid log=log/events_to_queues.log
is "queue_splitter.py --register" queue_splitter.py splitter.ini --register
sql oltpdb "insert into users values ('ann', 'ann@example.com')" "insert into orders values (1, 9.50), (2, 7)" \
    "update users set email = null" "select pgq.insert_event('all_events', 'mail', 'welcome ann', 'mails', null, null, null)" >/dev/null
tick oltpdb all_events
is "queue_splitter.py -d" queue_splitter.py -d splitter.ini
split() { [ "$(sql queuedb 'select count(*) from pgq.event_template')" -ge "$1" ]; }
is "it moves them" until_true 30 split 5
for queue in public.users public.orders mails; do tick queuedb "$queue"; done
is "the queue of users has its events in order" gives 'I:username|username=ann&email=ann%40example.com|public.users
U:username|username=ann&email|public.users' events queuedb public.users reader 'ev_type, ev_data, ev_extra1'
is "that of orders" gives 'id=1&price=9.50
id=2&price=7' events queuedb public.orders reader ev_data
is "that of mails" gives 'mail|welcome ann' events queuedb mails reader 'ev_type, ev_data'

# An event for a queue that is not there stops the job, and what is behind it waits.
sql oltpdb "select pgq.insert_event('all_events', 'x', 'lost', 'maiIs', null, null, null)" \
    "select pgq.insert_event('all_events', 'mail', 'bye ann', 'mails', null, null, null)" >/dev/null
tick oltpdb all_events
is "a queue that is not there is told in the log" until_true 30 grep -q 'ERROR .*maiIs' $log
is "nothing of its batch has been moved" gives 5 sql queuedb 'select count(*) from pgq.event_template'
is "once it is there" sql queuedb "select pgq.create_queue('maiIs')"
is "all goes on" until_true 60 split 7
tick queuedb mails
is "with what was behind it" gives 'bye ann' events queuedb mails reader ev_data
is "-s ends it" queue_splitter.py -s splitter.ini
is "its pid file goes along" ended $pidfile
done_testing
