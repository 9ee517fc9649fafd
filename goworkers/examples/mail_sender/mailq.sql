-- What mail_sender works with, in a database with the extension pgq.

create schema queue;

select pgq.create_queue('mail_events');

-- Who wants to send a mail inserts a row. It becomes an event; the table stays empty.
create table queue.mailq (
    mk_template bigint not null,
    username    text   not null,
    email       text,
    mk_language text,
    payload     text
);

create trigger send_mailq_trg before insert on queue.mailq
    for each row execute procedure pgq.logutriga('mail_events', 'SKIP');

create table queue.mail_template (
    mk_template bigint not null,
    mk_language text   not null,
    subject     text   not null,
    body        text   not null,    -- with {username} and {payload}
    primary key (mk_template, mk_language)
);

-- The whole mail as it is sent, or null when there is no such template.
create function queue.mail_text(
    i_id bigint, i_from text, i_template bigint, i_language text, i_username text, i_email text, i_payload text)
returns text
language sql stable
as $$
    select format(E'From: <%s>\nTo: <%s>\nSubject: =?utf-8?B?%s?=\nMessage-ID: <mail_event.%s.%s>\n'
                  'Content-Type: text/plain; charset=utf-8\n\n%s',
                  i_from, i_email, translate(encode(convert_to(t.subject, 'utf8'), 'base64'), E'\n', ''), i_id, i_from,
                  replace(replace(t.body, '{username}', i_username), '{payload}', coalesce(i_payload, '')))
      from queue.mail_template t
     where t.mk_template = i_template and t.mk_language = coalesce(i_language, 'en')
$$;

-- A mail that the server does not take now is tried again after 1, 2, 4 … minutes, ten times.
select pgq.register_consumer('mail_events', 'mail_sender');
select pgq.set_consumer_config('mail_events', 'mail_sender', 'max_retries', '10');
select pgq.set_consumer_config('mail_events', 'mail_sender', 'retry_delay', '1 minute');
