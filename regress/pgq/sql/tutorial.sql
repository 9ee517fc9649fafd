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

-- the reference names every function with its arguments, each table's columns that one sets,
-- and each view
\set reference `cat ../../extensions/pgq/README.md ../../pgq_sql/pgq/triggers/README.md`
select p.proname, p.missing
from (select p.proname, array(select a.name
                              from unnest(p.proname || coalesce(p.proargnames[:p.pronargs], '{}')) a (name)
                              where :'reference' !~ ('\m' || a.name || '\M')) as missing
      from pg_proc p
      where p.pronamespace = 'pgq'::regnamespace and p.proname !~ '^_') p
where p.missing <> '{}'
order by 1;
select a.attrelid::regclass as table, a.attname
from pg_attribute a
join pg_class c on c.oid = a.attrelid
where c.relnamespace = 'pgq'::regnamespace and c.relkind in ('r', 'v') and a.attnum > 0
  and (a.attname like 'queue\_%' and c.relname = 'queue' or c.relkind = 'v')
  and :'reference' !~ ('\m' || a.attname || '\M')
  and a.attname !~ '^(ev_|queue_(id|ntables|cur_table|switch_|data_pfx|event_seq|tick_seq))'
order by a.attrelid::regclass::text, a.attnum;
