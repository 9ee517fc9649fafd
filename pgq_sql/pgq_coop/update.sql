-- update.sql: what an update from an older version wants first.

do $$
begin
    if not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = 'pgq.subscription'::regclass
          and a.attname = 'sub_paused'
    ) then
        raise exception 'extension pgq is older than this pgq_coop'
            using errcode = '55000', hint = 'ALTER EXTENSION pgq UPDATE, then this one.';
    end if;
end;
$$;
