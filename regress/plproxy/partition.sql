-- partition.sql: read by sql/00_setup.sql in each partition's database.
create function run_statement(i_sql text) returns void language plpgsql as $$
begin
    execute i_sql;
end;
$$;

create function whoami() returns text language sql as 'select current_database()::text';
create function whoami(i_ignored anyelement) returns text language sql as 'select current_database()::text';
create function plus_one(i_a int4) returns int4 language sql as 'select i_a + 1';
create function pid() returns int4 language sql as 'select pg_backend_pid()';
