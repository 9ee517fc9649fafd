-- As whom a user connects is remembered until something changes that it depends on:
-- each call sees the roles, privileges and mappings as they are now.
\set SHOW_CONTEXT never
create role regress_team;
create role regress_member login;
create role regress_other login;
create role regress_ann login;
create role regress_bob login;
do $$
begin
    execute format('create server logins foreign data wrapper plproxy options (p0 %L)', connstr('plproxy_part0'));
end
$$;
select count(*) from everywhere($$create function login_name() returns text language sql as 'select current_user::text'$$);
create function login_name() returns text language plproxy as $$ cluster 'logins'; $$;
create function login_definer() returns text language sql security definer as $$ select login_name() $$;
create user mapping for public server logins;

-- USAGE by way of a group
grant usage on foreign server logins to regress_team;
set role regress_member;
select login_name();
reset role;
grant regress_team to regress_member;
set role regress_member;
select login_name(), login_definer(), login_name();
reset role;
revoke regress_team from regress_member;
set role regress_member;
select login_name();
reset role;
alter role regress_member superuser;
set role regress_member;
select login_name();
reset role;
alter role regress_member nosuperuser;
set role regress_member;
select login_name();
reset role;
grant usage on foreign server logins to regress_member, regress_other;

-- several users of one cluster in turn
set role regress_member;
select login_name();
set role regress_other;
select login_name(), login_definer();
set role regress_member;
select login_name();
reset role;

-- mappings come, change and go
create user mapping for regress_member server logins options (user 'regress_ann');
set role regress_member;
select login_name();
reset role;
alter user mapping for regress_member server logins options (set user 'regress_bob');
set role regress_member;
select login_name();
reset role;
begin;
alter user mapping for regress_member server logins options (set user 'regress_ann');
set role regress_member;
select login_name();
rollback;
set role regress_member;
select login_name();
reset role;
drop user mapping for regress_member server logins;
set role regress_member;
select login_name();
reset role;
drop user mapping for public server logins;
set role regress_member;
select split_part(attempt('select login_name()'), ':', 1);
reset role;
create user mapping for public server logins;

-- a role changes its name; a setting its meaning
set role regress_member;
select login_name();
reset role;
alter role regress_member rename to regress_renamed;
set role regress_renamed;
select login_name();
reset role;
alter server logins options (add default_user 'session_user');
set role regress_renamed;
select login_name();
set role regress_other;
select login_name();
reset role;
grant usage on foreign server logins to current_user;
alter server logins options (set default_user 'current_user');
set role regress_other;
select login_name();
reset role;
revoke usage on foreign server logins from regress_other;
set role regress_other;
select login_name();
reset role;

-- a flood of changes by another session, so that this one only hears that anything
-- may have changed: connections are kept, and what did change counts
create user mapping for current_user server logins options (user 'regress_ann');
create function login_pid() returns int4 language plproxy as $$ cluster 'logins'; run on 0; select pg_backend_pid(); $$;
create function login_flood() returns void language plpgsql as $f$
begin
    for i in 1 .. 400 loop
        execute 'create table login_flood_' || i || ' (a int4 primary key, b text)';
        execute 'drop table login_flood_' || i;
    end loop;
end $f$;
create function login_flood_here(i_connstr text) returns void language plproxy as $$ connect i_connstr; select login_flood(); $$;
select login_pid() as before \gset
select login_flood_here(connstr(current_database()));
select login_pid() = :before as kept;
drop user mapping for current_user server logins;
drop function login_pid, login_flood, login_flood_here;

-- strings of CONNECT, more than are kept, each one again and again
create function at(i_connstr text) returns text language plproxy as $$ connect i_connstr; target whoami; $$;
select string_agg(distinct right(at(connstr('plproxy_part' || i % 4) || ' connect_timeout=' || 10 + i % 20), 1), '')
from generate_series(1, 100) i;
set role regress_other;
select right(at(connstr('plproxy_part1') || ' connect_timeout=11'), 1);
reset role;

select count(*) from everywhere('drop function login_name()');
drop function login_name, login_definer, at;
drop server logins cascade;
drop role regress_team, regress_renamed, regress_other, regress_ann, regress_bob;
