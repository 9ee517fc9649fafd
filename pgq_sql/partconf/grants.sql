-- grants.sql: everybody may ask; what changes the configuration is for its owner, and for
-- those to whom the owner grants it.

grant usage on schema partconf to public;
grant select on partconf.status, partconf.shard_conf to public;
-- what these show anyway; so that who may dump the rest of a database may dump them
grant select on partconf.conf, partconf.global_id_seq to public;
revoke all on function
    partconf._conf_changed(), partconf._probes(text), partconf._lock_conf(interval),
    partconf._conf_for_update(),
    partconf.set_conf(integer, integer, integer), partconf.set_hash(regprocedure), partconf.accept_hash(),
    partconf.fence(interval), partconf.unfence()
    from public;
