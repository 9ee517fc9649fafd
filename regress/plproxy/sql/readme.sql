-- The examples of extensions/plproxy/README.md, in their order, in a database of their own.
\set SHOW_CONTEXT never
set client_min_messages = warning;
drop database if exists plproxy_readme;
create database plproxy_readme;
create role app;
select current_database() as proxy_db \gset
\c plproxy_readme
set client_min_messages = warning;
\set examples `sed -n '/^\x60\{3\}sql$/,/^\x60\{3\}$/{/^\x60/d;p}' ../../extensions/plproxy/README.md`
:examples
\df get_user
select srvname, srvoptions from pg_foreign_server;
\c :proxy_db
drop database plproxy_readme;
drop role app;
