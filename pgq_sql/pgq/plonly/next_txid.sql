create or replace function pgq._next_txid(i_after bigint default null) returns bigint
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Finds a transaction id above all that have been given by now.
--
-- Parameters: i_after - a transaction that the caller sees: so does whoever gets a
--     later id.
-- Returns: the id.
declare
    v_own bigint := pg_catalog.txid_current_if_assigned();
    v_sub bigint;
begin
    if v_own is null then
        -- given at this moment
        return pg_catalog.txid_current() + 1;
    end if;
    -- Ours is old. A subtransaction gets a new one when it writes; a row that
    -- is taken back at once shows it, without the epoch.
    begin
        insert into pgq.event_template as e (ev_id, ev_time) values (0, pg_catalog.now())
        returning e.xmin::text::bigint into v_sub;
        raise exception 'take it back' using errcode = 'PGQ00';
    exception
        when sqlstate 'PGQ00' then
            null;
    end;
    v_sub := (v_own >> 32 << 32) + v_sub;
    if v_sub < v_own then
        v_sub := v_sub + (1::bigint << 32);
    end if;
    return v_sub + 1;
end;
$$;
