-- Who must bring a password: whoever defines where to connect and is no superuser.
\set SHOW_CONTEXT never
create role plproxy_bob login;
create role plproxy_trusted login;
create role plproxy_asked login password 'it''s \ secret';
grant usage on foreign data wrapper plproxy to plproxy_bob;
grant usage on schema plproxy to plproxy_bob;
grant select on all tables in schema plproxy to plproxy_bob;

-- the server asks plproxy_asked for a password, and nobody else
select pg_read_file(current_setting('hba_file')) as hba \gset
create procedure hba_write(i_content text) language plpgsql as $$
declare
    v_object oid := lo_from_bytea(0, convert_to(i_content, 'UTF8'));
begin
    perform lo_export(v_object, current_setting('hba_file'));
    perform lo_unlink(v_object);
    perform pg_reload_conf();
end;
$$;
create function ask(i_connstr text) returns text language plproxy as $$ connect i_connstr; select current_user::text; $$;
call hba_write(E'host all plproxy_asked 127.0.0.1/32 scram-sha-256\n' || :'hba');
do $$
begin
    -- until the new rules are in force
    for i in 1 .. 600 loop
        perform ask(connstr('plproxy_part0') || ' user=plproxy_asked password=wrong' || i);
        perform pg_sleep(0.1);
    end loop;
    raise exception 'the rules are not in force';
exception when sqlstate '08001' then
    null;
end;
$$;

-- a server of plproxy_bob
create function who() returns text language plproxy as $$ cluster 'pw'; select current_user::text; $$;
create function pw_server(i_options text) returns void language plpgsql as $$
begin
    set local client_min_messages = warning;
    drop server if exists pw cascade;
    execute format('create server pw foreign data wrapper plproxy options (p0 %L)', connstr('plproxy_part0') || i_options);
    alter server pw owner to plproxy_bob;
end;
$$;
select pw_server('');
create user mapping for public server pw options (user 'plproxy_trusted');
select attempt('select who()');
alter user mapping for public server pw options (add password '');
select attempt('select who()');
-- one that nobody asks for
alter user mapping for public server pw options (set password 'anything');
select attempt('select who()');
select attempt('select who()');
alter user mapping for public server pw options (set user 'plproxy_asked');
\set VERBOSITY sqlstate
select who();
\set VERBOSITY default
alter user mapping for public server pw options (set password 'it''s \ secret');
select who();
-- whoever calls, superusers and the owner too
set role plproxy_bob;
select who();
set plproxy.password_required = off;
reset role;
-- with all rights of the server's user there is no rule
alter server pw owner to current_user;
alter user mapping for public server pw options (set user 'plproxy_trusted', drop password);
select who();
-- and what was opened then is not used now
alter server pw owner to plproxy_bob;
select attempt('select who()');
set plproxy.password_required = off;
select who();
reset plproxy.password_required;

-- the password beside the user, both in the string or one of them in the mapping
select pw_server(' user=plproxy_asked password=''it\''s \\ secret''');
create user mapping for public server pw;
select who();
select pw_server(' user = plproxy_asked');
create user mapping for public server pw;
select attempt('select who()');
alter user mapping for public server pw options (add password 'it''s \ secret');
select who();
alter user mapping for public server pw options (add user 'plproxy_asked');
select who();
-- that of another user is not sent along
alter user mapping for public server pw options (set user 'plproxy_trusted');
select attempt('select who()');
-- a password on either side: the one beside the name of the user
select pw_server(' password=stale');
create user mapping for public server pw options (user 'plproxy_asked', password 'it''s \ secret');
select who();
alter user mapping for public server pw options (set password 'stale');
do $$ begin execute format('alter server pw options (set p0 %L)', connstr('plproxy_part0') || ' user=plproxy_asked password=''it\''s \\ secret'''); end $$;
select who();
alter user mapping for public server pw options (set user 'plproxy_trusted');
select who();
-- and that of the string for want of one in the mapping
do $$ begin execute format('alter server pw options (set p0 %L)', connstr('plproxy_part0') || ' password=''it\''s \\ secret'''); end $$;
alter user mapping for public server pw options (set user 'plproxy_asked', drop password);
select who();
alter user mapping for public server pw options (add password '');
select who();
-- the same in URIs
drop server pw cascade;
do $$ begin execute format('create server pw foreign data wrapper plproxy options (p0 %L)',
    format('postgresql://127.0.0.1:%s/plproxy_part0', current_setting('port'))); end $$;
alter server pw owner to plproxy_bob;
create user mapping for public server pw options (user 'plproxy_asked', password 'it''s \ secret');
select who();
do $$ begin execute format('alter server pw options (set p0 %L)',
    format('postgres://plproxy_asked@127.0.0.1:%s/plproxy_part0?application_name=a', current_setting('port'))); end $$;
select who();
alter user mapping for public server pw options (drop user);
select who();
do $$ begin execute format('alter server pw options (set p0 %L)',
    format('postgres://plproxy_asked:it%%27s%%20%%5c%%20secret@127.0.0.1:%s/plproxy_part0', current_setting('port'))); end $$;
alter user mapping for public server pw options (drop password);
select who();

-- files of the server's operating system user
create function try_option(i_option text) returns setof text language plpgsql as $$
begin
    perform pw_server(' user=plproxy_asked password=x ' || i_option);
    create user mapping for public server pw;
    return query select attempt('select who()');
end;
$$;
select o, try_option(o) from unnest(array['passfile=/x', 'service=x', 'sslkey=/x', 'sslcert=/x']) o;

-- clusters described by functions: the owner of the one that gives connect strings
drop server pw cascade;
insert into plproxy.cluster values ('pw');
insert into plproxy.partition values ('pw', 0, connstr('plproxy_part0') || ' user=plproxy_trusted');
select who();
alter function plproxy.get_cluster_partitions(text) owner to plproxy_bob;
select attempt('select who()');
update plproxy.partition set connstr = connstr('plproxy_part0') || ' user=plproxy_asked password=''it\''s \\ secret''' where name = 'pw';
update plproxy.cluster set version = 2 where name = 'pw';
select who();
do $$ begin execute format('alter function plproxy.get_cluster_partitions(text) owner to %I', session_user); end $$;
update plproxy.partition set connstr = connstr('plproxy_part0') || ' user=plproxy_trusted' where name = 'pw';
update plproxy.cluster set version = 3 where name = 'pw';
select who();
-- dropped and made anew, with no new version
do $$
declare
    v_function text := pg_get_functiondef('plproxy.get_cluster_partitions'::regproc);
begin
    drop function plproxy.get_cluster_partitions(text);
    execute v_function;
end;
$$;
select who();
alter function plproxy.get_cluster_partitions(text) rename to not_get_cluster_partitions;
select who();
alter function plproxy.not_get_cluster_partitions(text) rename to get_cluster_partitions;
begin;
drop function plproxy.get_cluster_partitions(text);
select attempt('select who()');
rollback;
select who();
delete from plproxy.cluster where name = 'pw';
delete from plproxy.partition where name = 'pw';

-- CONNECT: the owner of the function
select attempt(format('select ask(%L)', connstr('plproxy_part0') || ' user=plproxy_trusted'));
alter function ask(text) owner to plproxy_bob;
select attempt(format('select ask(%L)', connstr('plproxy_part0') || ' user=plproxy_trusted'));
select ask(connstr('plproxy_part0') || ' user=plproxy_asked password=''it\''s \\ secret''');
do $$ begin execute format('alter function ask(text) owner to %I', session_user); end $$;

-- strict: also what a role may have chosen itself
set role plproxy_bob;
select ask(connstr('plproxy_part0') || ' user=plproxy_trusted');
reset role;
select pw_server('');
alter server pw owner to current_user;
grant usage on foreign server pw to plproxy_bob;
set role plproxy_bob;
create user mapping for plproxy_bob server pw options (user 'plproxy_trusted');
select who();
reset role;
set plproxy.password_required = strict;
set role plproxy_bob;
select attempt(format('select ask(%L)', connstr('plproxy_part0') || ' user=plproxy_trusted'));
select ask(connstr('plproxy_part0') || ' user=plproxy_asked password=''it\''s \\ secret''');
select attempt('select who()');
alter user mapping for plproxy_bob server pw options (add password 'anything');
select attempt('select who()');
alter user mapping for plproxy_bob server pw options (set user 'plproxy_asked', set password 'it''s \ secret');
select who();
-- its own name is no choice
alter user mapping for plproxy_bob server pw options (drop user, drop password);
select who();
reset role;
-- superusers and mappings for everybody are trusted
create user mapping for public server pw options (user 'plproxy_trusted');
select who();
select ask(connstr('plproxy_part0') || ' user=plproxy_trusted');
reset plproxy.password_required;

drop server pw cascade;
call hba_write(:'hba');
drop function who, ask, pw_server, try_option;
drop procedure hba_write;
revoke all on schema plproxy from plproxy_bob;
drop owned by plproxy_bob;
drop role plproxy_bob, plproxy_trusted, plproxy_asked;
