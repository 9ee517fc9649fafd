create or replace function pgq.quote_fqname(i_name text) returns text
language plpgsql immutable strict parallel safe
as $$
-- Quotes a table name for use in SQL.
--
-- Parameters: i_name - [schema.]name, split at the first dot; schema public if
--     there is none.
-- Returns: schema.name, each part quoted where needed; null for null.
declare
    v_dot integer := pg_catalog.strpos(i_name, '.');
begin
    if v_dot operator(pg_catalog.=) 0 then
        return pg_catalog.format('%I.%I', 'public', i_name);
    end if;
    return pg_catalog.format('%I.%I', pg_catalog.substr(i_name, 1, v_dot operator(pg_catalog.-) 1),
                             pg_catalog.substr(i_name, v_dot operator(pg_catalog.+) 1));
end;
$$;
