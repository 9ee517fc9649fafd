-- standby_figures.sql: figures of the standby; a line each, name=value.
select 'standby0.rows=' || count(*) from users;
select 'standby0.xacts=' || xact_commit + xact_rollback from pg_stat_database where datname = current_database();
