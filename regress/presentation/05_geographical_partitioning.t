#!/usr/bin/env bash
# 05_geographical_partitioning.t: "plProxy: Geographical Partitioning". Online users of Russia have a
# server of their own, the rest of the world has another; each call brings the country's code.
set -u
# shellcheck source=regress/presentation/suite.sh
. "$(dirname "$0")/suite.sh"

start proxy ru row
make_databases ru oltp_ru
make_databases row oltp_row_p00 oltp_row_p01
make_databases proxy userdb

for place in 'ru oltp_ru' 'row oltp_row_p00' 'row oltp_row_p01'; do
    # shellcheck disable=SC2086
    on $place <<'SQL'
create table users (username text primary key, cc text not null, email text not null);
create function set_user(i_key_cc text, i_username text, i_email text) returns text language sql as $$
    insert into users values (i_username, i_key_cc, i_email)
    on conflict (username) do update set email = excluded.email
    returning current_database()::text
$$;
create function get_user_email(i_key_cc text, i_username text) returns text language sql as $$
    select u.email from users u where u.username = i_username and u.cc = i_key_cc
$$;
create function count_users(out cc text, out users bigint) returns setof record language sql as $$
    select u.cc, count(*) from users u group by u.cc order by u.cc
$$;
SQL
done

on proxy userdb <<SQL
create extension plproxy;
create server oltp_ru foreign data wrapper plproxy options (p0 'host=127.0.0.1 port=${port[ru]} dbname=oltp_ru');
create server oltp_row foreign data wrapper plproxy options (
    p0 'host=127.0.0.1 port=${port[row]} dbname=oltp_row_p00', p1 'host=127.0.0.1 port=${port[row]} dbname=oltp_row_p01');
create user mapping for public server oltp_ru;
create user mapping for public server oltp_row;
SQL
# the slide's function
on proxy userdb <<'SQL'
CREATE FUNCTION get_cluster(
    i_key_cc text)
RETURNS text AS $$
BEGIN
    IF i_key_cc = 'ru' THEN
        RETURN 'oltp_ru';
    ELSE
        RETURN 'oltp_row';
    END IF;
END;
$$ LANGUAGE plpgsql;
SQL
on proxy userdb <<'SQL'
create function set_user(i_key_cc text, i_username text, i_email text) returns text as $$
    cluster get_cluster(i_key_cc);
    run on hashtext(i_username);
$$ language plproxy;
create function get_user_email(i_key_cc text, i_username text) returns text as $$
    cluster get_cluster(i_key_cc);
    run on hashtext(i_username);
$$ language plproxy;
create function count_users(i_key_cc text, out cc text, out users bigint) returns setof record as $$
    cluster get_cluster(i_key_cc);
    run on all;
    select cc, users from count_users();
$$ language plproxy;
SQL

on proxy userdb <<'SQL' >"$dir/placed"
select cc, set_user(cc, cc || i, cc || i || '@example.com')
  from unnest('{ru,ee,us,jp}'::text[]) cc, generate_series(1, 50) i;
SQL
placed() { diff <(printf '%s\n' "${@}") <(sort "$dir/placed" | uniq -c | sed -E 's/^ *//' | grep -E '\|oltp_ru$|^50 '); }
is "Russia's users, and no others, are in Russia's database" placed '50 ru|oltp_ru'
is "that is what is there" gives ru oltp_ru "select * from count_users()" 'ru|50'
is "the rest of the world is spread over its two partitions" gives proxy userdb \
    "select cc, count(*), sum(users) from count_users('us') group by cc order by cc" 'ee|2|50' 'jp|2|50' 'us|2|50'
is "each user is found by the code" gives proxy userdb "select cc, count(*) from unnest('{ru,ee,us,jp}'::text[]) cc, generate_series(1, 50) i
    where get_user_email(cc, cc || i) = cc || i || '@example.com' group by cc order by cc" 'ee|50' 'jp|50' 'ru|50' 'us|50'
is "with the wrong code nobody is" gives proxy userdb \
    "select get_user_email('us', 'ru1') is null, get_user_email('ru', 'us1') is null" 't|t'
is "as the slide has it, no code and RU are the rest of the world" \
    gives proxy userdb "select get_cluster(null), get_cluster('RU'), get_cluster('')" 'oltp_row|oltp_row|oltp_row'

# One region away: the other does not notice.
"$TOP/scripts/pgcluster" stop "$dir/ru" immediate
is "with Russia's server away the rest of the world works" gives proxy userdb \
    "select get_user_email('ee', 'ee7'), sum(users) from count_users('ee')" 'ee7@example.com|150'
is "and Russia's calls fail, by name" refused 08001 'cluster "oltp_ru"' proxy userdb "select get_user_email('ru', 'ru7')"
port[ru]=$("$TOP/scripts/pgcluster" start "$dir/ru" "$SKYTOOLS_TEST_TREE")
on proxy userdb -c "alter server oltp_ru options (set p0 'host=127.0.0.1 port=${port[ru]} dbname=oltp_ru')"
is "it is back" gives proxy userdb "select get_user_email('ru', 'ru7')" ru7@example.com

# The function is the application's own: what it gives must be a cluster.
on proxy userdb -c "create or replace function get_cluster(i_key_cc text) returns text language sql as
    'select case i_key_cc when ''ru'' then ''oltp_ru'' when ''ee'' then ''oltp_eu'' end'"
is "a cluster that does not exist is an error" refused 42704 'cluster "oltp_eu" does not exist' proxy userdb "select get_user_email('ee', 'ee7')"
is "and so is none" refused 22004 'null' proxy userdb "select get_user_email('us', 'us7')"

done_testing
