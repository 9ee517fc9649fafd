-- The tutorial of extensions/pgq/README.md, in its order, in a database of its own.
\set SHOW_CONTEXT never
\pset null NULL
set client_min_messages = warning;
drop database if exists pgq_tutorial;
create database pgq_tutorial;
select current_database() as suite \gset
\c pgq_tutorial
set client_min_messages = warning;
\set tutorial `sed -n '/^## Tutorial/,/^## Writing/p' ../../extensions/pgq/README.md | sed -n '/^\x60\{3\}sql$/,/^\x60\{3\}$/{/^\x60/d;p}'`
:tutorial
\c :suite
drop database pgq_tutorial;
drop role shop, mailer;
