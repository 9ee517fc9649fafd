create or replace function pgq._age(i_since timestamptz, i_now timestamptz default pg_catalog.now()) returns interval
language sql immutable parallel safe
as $$
    -- How long ago a time was, for comparisons: infinite times, which before
    -- PostgreSQL 17 cannot be subtracted, are longer ago, or longer to come, than
    -- anything else. To subtract a setting from a time instead could overflow.
    select case when pg_catalog.isfinite(i_since) and pg_catalog.isfinite(i_now) then i_now - i_since
                when i_since < i_now then interval '80000000 years'
                when i_since > i_now then interval '-80000000 years'
                when i_since = i_now then interval '0' end;
$$;
