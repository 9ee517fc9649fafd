-- The tutorial of extensions/partconf/README.md, in its order, in a database of its own.
\set SHOW_CONTEXT never
\set VERBOSITY terse
set client_min_messages = warning;
drop database if exists partconf_tutorial;
create database partconf_tutorial;
select current_database() as suite \gset
\c partconf_tutorial
\set tutorial `sed -n '/^## Tutorial/,/^## Functions/p' ../../extensions/partconf/README.md | sed -n '/^\x60\{3\}sql$/,/^\x60\{3\}$/{/^\x60/d;p}'`
:tutorial

-- the other hash that the reference shows
\set other `sed -n '/create function my_hash/,/select partconf.set_hash/p' ../../extensions/partconf/README.md`
:other
select partconf.get_hash('Bob') = partconf.get_hash('bob') as caseless, partconf.get_hash('bob') <> hashtext('bob') as another;
\c :suite
drop database partconf_tutorial;

-- the reference names every function with its arguments, each column of the views and each field
\set reference `cat ../../extensions/partconf/README.md`
select p.proname, p.missing
  from (select p.proname, array(select a.name
                                  from unnest(p.proname || coalesce(p.proargnames[:p.pronargs], '{}')) a (name)
                                 where :'reference' !~ ('\m' || a.name || '\M')) as missing
          from pg_proc p
         where p.pronamespace = 'partconf'::regnamespace and p.proname !~ '^_') p
 where p.missing <> '{}'
 order by 1;
select a.attrelid::regclass as relation, a.attname
  from pg_attribute a
  join pg_class c on c.oid = a.attrelid
 where c.relnamespace = 'partconf'::regnamespace and c.relkind in ('c', 'v') and a.attnum > 0
   and :'reference' !~ ('\m' || a.attname || '\M')
 order by a.attrelid::regclass::text, a.attnum;
