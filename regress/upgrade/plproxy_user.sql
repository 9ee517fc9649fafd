-- What a user of PL/Proxy has: two clusters, one of each kind, and functions.
create schema plproxy;
create function plproxy.get_cluster_version(i_name text) returns int4 language sql as 'select 1';
create function plproxy.get_cluster_config(i_name text, out key text, out val text) returns setof record language sql as $$
    select 'connection_lifetime', '3600' union all select 'disable_binary', '1';
$$;
create function plproxy.get_cluster_partitions(i_name text) returns setof text language sql as $$
    select format('host=127.0.0.1 port=%s dbname=plproxy_upgrade_part application_name=p%s', current_setting('port'), i)
    from generate_series(0, 1) i where i_name = 'by_functions';
$$;

alter foreign data wrapper plproxy options (add connection_lifetime '1800');
do $$
declare
    v_connstr text := (select p from plproxy.get_cluster_partitions('by_functions') p limit 1);
begin
    execute format('create server by_server foreign data wrapper plproxy options (partition_0 %1$L, p1 %1$L, query_timeout ''60'')',
        v_connstr);
end;
$$;
create user mapping for public server by_server;
grant usage on foreign data wrapper plproxy to plproxy_upgrade_user;
grant usage on foreign server by_server to plproxy_upgrade_user;

create function plus_one(i_a int4) returns int4 language plproxy as $$ cluster 'by_functions'; run on hashtext(i_a::text); $$;
create function on_all(i_a int4, out a int4, out b text) returns setof record language plproxy as $$ cluster 'by_functions'; run on all; $$;
create function by_server(i_a int4) returns int4 language plproxy as $$ cluster 'by_server'; run on i_a; target plus_one; $$;
create function split_sum(i_a int4[]) returns setof int8 language plproxy as $$
    cluster 'by_functions'; split i_a; run on i_a; select coalesce(sum(x), 0)::int8 from unnest(i_a) x;
$$;
create function direct(i_connstr text) returns text language plproxy as $$ connect i_connstr; select current_database()::text; $$;
