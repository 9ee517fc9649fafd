#!/usr/bin/env bash
# Slide "PgQ: Simple Consumer": the ini file as printed, as a daemon between two databases;
# and what the slide warns of, an event that is done twice.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
programs simple_consumer.py
server server
sql postgres 'create database sourcedb' 'create database targetdb'
sql sourcedb 'create extension pgq' "select pgq.create_queue('event_queue')" 'create table users (username text primary key, email text, note text)' \
    "create trigger to_queue after insert or update on users for each row execute function pgq.logutriga('event_queue')" >/dev/null
# The target needs no extension. A duplicate call is ignored by the function.
sql targetdb <<'SQL'
create table calls (n serial, username text, email text);
create table done (username text primary key, email text);
create function function_to_be_run(i_username text, i_email text) returns text language plpgsql as $$
begin
    insert into calls (username, email) values (i_username, i_email);
    insert into done values (i_username, i_email) on conflict (username) do update set email = excluded.email;
    return 'OK';
end $$;
SQL
cat >simple_consumer.ini <<'INI'
[simple_consumer]
job_name      = job_to_be_done
src_db        = dbname=sourcedb
dst_db        = dbname=targetdb
pgq_queue_name = event_queue
dst_query     =
    SELECT * FROM function_to_be_run(%(username)s, %(email)s);

logfile       = ~/log/%(job_name)s.log
pidfile       = ~/pid/%(job_name)s.pid
INI
pidfile=pid/job_to_be_done.pid log=log/job_to_be_done.log
rows() { sql targetdb 'select username, email from done order by username collate "C"'; }
calls() { sql targetdb 'select count(*) from calls'; }
is "simple_consumer.py --register" simple_consumer.py simple_consumer.ini --register
sql sourcedb "insert into users values ('ann', 'ann@example.com'), ('O''Hara', null), ('\"; drop table done; --', '%(email)s')"
tick sourcedb event_queue
is "simple_consumer.py -d" simple_consumer.py -d simple_consumer.ini
is "the statement is run for each event, values are never SQL" becomes '"; drop table done; --|%(email)s
O'\''Hara|
ann|ann@example.com' rows
is "NULL is NULL" gives t sql targetdb "select email is null from done where username = 'O''Hara'"
is "once for each" gives 3 calls
sql sourcedb "select pgq.insert_event('event_queue', 'chatter', 'hello')" "update users set email = 'oh@example.com' where username like 'O%'" >/dev/null
tick sourcedb event_queue
is "events of other types are passed by" becomes '"; drop table done; --|%(email)s
O'\''Hara|oh@example.com
ann|ann@example.com' rows
is "without a call" gives 4 calls

# The place is kept on the queue alone: what was done before a crash is done again.
is "-s ends it" simple_consumer.py -s simple_consumer.ini
is "its pid file goes along" ended $pidfile
is "the log has no errors" fails 1 grep -E ' (ERROR|WARNING) ' $log
position="select last_tick from pgq.get_consumer_info()"
before=$(sql sourcedb "$position")
sql sourcedb "insert into users values ('bob', 'bob@example.com')"
tick sourcedb event_queue
is "an event is done" eval "simple_consumer.py -d simple_consumer.ini && becomes 5 calls"
is "the queue knows of it" until_true 30 eval "[ \"\$(sql sourcedb \"$position\")\" != $before ]"
kill -KILL "$(cat $pidfile)"
sql sourcedb "select pgq.register_consumer_at('event_queue', 'job_to_be_done', $before)" >/dev/null # as after a crash before finish_batch
is "the batch comes a second time" eval "simple_consumer.py -d simple_consumer.ini && becomes 6 calls"
is "the function has to ignore that, and does" gives 1 sql targetdb "select count(*) from done where username = 'bob'"

# What fails is tried again, and nothing is passed by.
sql targetdb 'alter table done add check (length(username) < 10) not valid'
sql sourcedb "insert into users values ('very long name', null), ('joe', 'joe@example.com')"
tick sourcedb event_queue
is "a row that the target refuses is told in the log" until_true 30 grep -q 'ERROR .*done_username_check' $log
sql targetdb 'alter table done drop constraint done_username_check'
is "once it is taken, all of it comes" until_true 60 eval "[ \"\$(rows | grep -c 'very long name\\|joe')\" = 2 ]"
is "-k ends it" simple_consumer.py -k simple_consumer.ini
is "it has ended" ended $pidfile
is "a statement that the server does not take is said at the start" fails 1 \
    timeout 30 simple_consumer.py simple_consumer.ini --set 'dst_query=select no_such_function(%(username)s)'
done_testing
