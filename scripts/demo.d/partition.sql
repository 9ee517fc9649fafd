-- partition.sql: one partition of the demo: the data, the functions that the proxy calls,
-- and the queue into which every change goes.
\set ON_ERROR_STOP 1
set client_min_messages = warning;

create extension pgq;
do $$ begin
    perform pgq.create_queue('user_events');
    perform pgq.set_queue_config('user_events', 'ticker_max_lag', '200 milliseconds');
    -- An event that commits just behind a tick waits for the next: with none after it, for an idle one.
    perform pgq.set_queue_config('user_events', 'ticker_idle_period', '2 seconds');
end $$;

create table users (
    username    text primary key,
    email       text,
    score       bigint not null default 0,
    updated     timestamptz not null default now()
);
create table logins (
    username    text primary key,
    logins      bigint not null
);

-- Changes of the table make events by themselves.
create trigger users_to_queue
after insert or update or delete on users
for each row execute function pgq.logutriga('user_events');

-- urlencode: one value as pgq's triggers encode it.
create function urlencode(i_value text)
returns text as $$
    select coalesce(string_agg(
               case when c = ' ' then '+'
                    when c ~ '[0-9A-Za-z_.-]' and octet_length(c) = 1 then c
                    else regexp_replace(encode(convert_to(c, 'UTF8'), 'hex'), '(..)', '%\1', 'g')
               end, '' order by nr), '')
      from unnest(string_to_array(i_value, null)) with ordinality u(c, nr);
$$ language sql immutable;

create function set_user(i_username text, i_email text)
returns text as $$
declare
    v_new   boolean;
begin
    insert into users as u (username, email)
    values (lower(i_username), i_email)
        on conflict (username) do update
           set email = excluded.email,
               updated = now()
    returning u.xmax = 0 into v_new;
    return case when v_new then 'new' else 'changed' end;
end;
$$ language plpgsql security definer set search_path = public, pg_temp;

create function add_score(i_username text, i_points integer)
returns bigint as $$
    update users set score = score + i_points, updated = now()
     where username = lower(i_username)
    returning score;
$$ language sql security definer set search_path = public, pg_temp;

-- user_login makes its event by hand: the table of logins has no trigger.
create function user_login(i_username text)
returns bigint as $$
declare
    v_logins    bigint;
begin
    insert into logins as l (username, logins)
    values (lower(i_username), 1)
        on conflict (username) do update
           set logins = l.logins + 1
    returning l.logins into v_logins;
    perform pgq.insert_event('user_events', 'user_login', 'username=' || urlencode(lower(i_username)));
    return v_logins;
end;
$$ language plpgsql security definer set search_path = public, pg_temp;

create function get_user(i_username text, out username text, out email text, out score bigint)
returns setof record as $$
    select u.username, u.email, u.score from users u where u.username = lower(i_username);
$$ language sql security definer set search_path = public, pg_temp;

create function all_users(out username text, out email text, out score bigint)
returns setof record as $$
    select u.username, u.email, u.score from users u;
$$ language sql security definer set search_path = public, pg_temp;

create function all_logins(out username text, out logins bigint)
returns setof record as $$
    select l.username, l.logins from logins l;
$$ language sql security definer set search_path = public, pg_temp;

create function user_stats(out stat_name text, out stat_value bigint)
returns setof record as $$
    select 'users', count(*) from users
    union all select 'score', coalesce(sum(score), 0)::bigint from users
    union all select 'logins', coalesce(sum(logins), 0)::bigint from logins;
$$ language sql security definer set search_path = public, pg_temp;
