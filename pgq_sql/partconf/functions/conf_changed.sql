-- Trigger on partconf.conf: makes all sessions read the row anew; see
-- pgq_sql/partconf/hash/conf.c.
create or replace function partconf._conf_changed() returns trigger
language c
as '$libdir/partconf', 'partconf_conf_changed';

create trigger conf_changed after insert or update or delete or truncate on partconf.conf
    for each statement execute function partconf._conf_changed();
-- Also where changes come by replication.
alter table partconf.conf enable always trigger conf_changed;
