-- report_figures.sql: figures of the reporting database; a line each, name=value.
select 'changes.rows=' || count(*) from report.changes;
select 'users.rows=' || count(*) from report.users;
