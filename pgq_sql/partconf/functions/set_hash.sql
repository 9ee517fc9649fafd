create or replace function partconf.set_hash(i_function regprocedure) returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
-- Makes another function the hash of keys. All databases of the cluster must have the same,
-- and their rows must be where it says.
--
-- Parameters: i_function - takes one text, returns integer, is not volatile, and parallel
--      safe; null: the default, hashtext(lower(key)).
-- Returns: 1 the hash is another now, 0 it was this one; then the probes are recorded anew.
-- Raises: PX004 not configured; PX005 the function does not fit; 55P03 there were writers for
--      5 seconds.
-- Calls: _lock_conf, _conf_for_update, _probes
-- Tables written: partconf.conf
-- Locks taken: as _lock_conf
declare
    v_proc pg_proc;
    v_name text;
    v_old  text;
    v_flaw text;
begin
    if i_function is not null then
        select p.*
          into v_proc
          from pg_proc p
         where p.oid = i_function;
        v_flaw := case
            when v_proc.oid is null then 'There is no such function.'
            when v_proc.prokind <> 'f' or v_proc.proretset or v_proc.prorettype <> 'integer'::regtype
                then 'It does not return one integer.'
            when v_proc.pronargs <> 1 or v_proc.proargtypes[0] <> 'text'::regtype then 'It does not take one text.'
            when v_proc.provolatile = 'v' then 'It is volatile: the hash of a key must stay the same.'
            when v_proc.proparallel <> 's' then 'It is not parallel safe, which partconf.valid_hash() is.'
        end;
        if v_flaw is not null then
            raise exception 'function % cannot be the hash of keys', i_function
                using errcode = 'PX005',
                      detail = v_flaw,
                      hint = 'Give one that takes text and returns integer, declared IMMUTABLE or STABLE, and PARALLEL SAFE.';
        end if;
        v_name := (select format('%I.%I(text)', n.nspname, v_proc.proname)
                     from pg_namespace n
                    where n.oid = v_proc.pronamespace);
    end if;

    perform partconf._lock_conf('5 seconds');
    v_old := (partconf._conf_for_update()).hash_function;
    update partconf.conf
       set hash_function = v_name, probes = partconf._probes(v_name), set_at = now();
    return (v_name is distinct from v_old)::integer;
end;
$$;

create or replace function partconf.accept_hash() returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pg_temp
as $$
-- Records what the hash gives now, after a change that the operator knows of: the rows
-- here are those of this partition by the new hash, and the proxies follow it.
--
-- Returns: 1 the hash was another when it was configured, 0 it was the same.
-- Raises: PX004 not configured; PX005 the hash function is not there; 55P03 there were
--      writers for 5 seconds.
-- Calls: _lock_conf, _conf_for_update, _probes
-- Tables written: partconf.conf
-- Locks taken: as _lock_conf
declare
    v_conf   partconf.conf;
    v_probes integer[];
begin
    perform partconf._lock_conf('5 seconds');
    v_conf := partconf._conf_for_update();
    v_probes := partconf._probes(v_conf.hash_function);
    if v_probes = v_conf.probes then
        return 0;
    end if;
    update partconf.conf
       set probes = v_probes, set_at = now();
    return 1;
end;
$$;
