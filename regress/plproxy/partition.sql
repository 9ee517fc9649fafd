-- partition.sql: read by sql/00_setup.sql in each partition's database.
create function run_statement(i_sql text) returns void language plpgsql as $$
begin
    execute i_sql;
end;
$$;
