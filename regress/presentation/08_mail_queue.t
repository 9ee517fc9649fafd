#!/usr/bin/env bash
# Slide "PgQ API: insert complex event with pure SQL": the interface table for mails, whose
# INSERT makes an event and stores no row.
set -uo pipefail
# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "$0")/jobs.sh"
server server
sql postgres 'create database shop' 'create role webshop'
sql shop 'create extension pgq' 'create schema queue' "select pgq.create_queue('mail_events')" \
    "select pgq.register_consumer('mail_events', 'mail_sender')" >/dev/null
is "the table and its trigger as printed" sql shop <<'SQL'
CREATE TABLE queue.mailq (  
    mk_template bigint NOT NULL,  
    username text NOT NULL,  
    email text,  
    mk_language text,  
    payload text  
);  
  
CREATE TRIGGER send_mailq_trg  
    BEFORE INSERT ON queue.mailq  
    FOR EACH ROW  
    EXECUTE PROCEDURE pgq.logutriga('mail_events', 'SKIP');  
SQL
# The slide's INSERT stands in a function, whose arguments are _username and _email.
is "a function that sends a mail" sql shop <<'SQL'
create function welcome(_username text, _email text) returns void language plpgsql as $$
begin
-- send e-mail  
INSERT INTO queue.mailq (mk_template, username, email)  
VALUES(73, _username, _email);
end $$;
SQL
# mails [COLUMNS]: what the sender of mails has to do.
mails() { tick shop mail_events && events shop mail_events mail_sender "${1:-ev_data}"; }
rows() { sql shop 'select count(*) from queue.mailq'; }

is "it sends one" sql shop "select welcome('ann', 'ann@example.com')"
is "no row is stored" gives 0 rows
is "there is an event with all the columns" gives 'I:|queue.mailq|mk_template=73&username=ann&email=ann%40example.com&mk_language&payload' \
    mails 'ev_type, ev_extra1, ev_data'
is "INSERT says that nothing was stored" gives 'INSERT 0 0' \
    "$PGBIN/psql" -X -At -d shop -c "INSERT INTO queue.mailq (mk_template, username) VALUES (1, 'bob')"
is "what is rolled back is not sent" gives 'mk_template=1&username=bob&email&mk_language&payload' \
    eval "sql shop \"begin; select welcome('eve', 'eve@example.com'); rollback\" >/dev/null && mails"
is "many at once" gives 1000 \
    eval "sql shop \"insert into queue.mailq select 73, 'user' || n from generate_series(1, 1000) n\" && mails | sort -u | wc -l"
is "so COPY" gives 'mk_template=5&username=joe&email=&mk_language&payload=a%26b' \
    eval "printf '5\tjoe\t\t\\\\N\ta&b\n' | sql shop '\copy queue.mailq from stdin' && mails"

# ---- type safety, default values, sequences, constraints

is "a value of another type is refused" refuses 22P02 shop "INSERT INTO queue.mailq (mk_template, username) VALUES ('welcome', 'ann')"
is "so is NULL for a column that is NOT NULL" refuses 23502 shop "INSERT INTO queue.mailq (mk_template, email) VALUES (73, 'ann@example.com')"
is "a column that is not there, too" refuses 42703 shop "INSERT INTO queue.mailq (mk_template, name) VALUES (73, 'ann')"
sql shop 'create sequence queue.mail_nr start 100' "alter table queue.mailq add nr bigint default nextval('queue.mail_nr'),
    alter mk_language set default 'en', add check (email like '%@%'), add check (mk_template > 0)"
is "defaults are in the event, those of sequences, too" gives 'mk_template=73&username=ann&email=ann%40example.com&mk_language=en&payload&nr=100' \
    eval "sql shop \"select welcome('ann', 'ann@example.com')\" >/dev/null && mails"
is "constraints hold" refuses 23514 shop "INSERT INTO queue.mailq (mk_template, username, email) VALUES (0, 'ann', 'ann@example.com')"
is "all of them" refuses 23514 shop "select welcome('ann', 'at home')"
is "what was refused has made no event" gives '' mails

# ---- several tables, one queue

is "another table inserts into the same queue" sql shop <<'SQL'
create table queue.reminder (username text not null, day date not null);
create trigger send_reminder_trg before insert on queue.reminder for each row
    execute procedure pgq.logutriga('mail_events', 'SKIP', 'ev_type=lower(''REMIND'')');
insert into queue.reminder values ('ann', '2026-12-01');
insert into queue.mailq (mk_template, username) values (73, 'bob');
SQL
is "the consumer tells them by type and table" gives 'remind|queue.reminder|username=ann&day=2026-12-01
I:|queue.mailq|mk_template=73&username=bob&email&mk_language=en&payload&nr=103' mails 'ev_type, ev_extra1, ev_data'
done_testing
