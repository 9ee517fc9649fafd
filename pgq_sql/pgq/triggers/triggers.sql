-- triggers.sql: triggers that turn changes of rows into events.
--
-- create trigger NAME after insert or update or delete on TABLE
--     for each row execute function pgq.logutriga('QUEUE' [, ARGUMENT ...]);
-- The arguments and the formats are in the README beside this file.

create or replace function pgq.logutriga()
returns trigger as '$libdir/pgq_triggers', 'pgq_logutriga' language c;

create or replace function pgq.jsontriga()
returns trigger as '$libdir/pgq_triggers', 'pgq_jsontriga' language c;

create or replace function pgq.sqltriga()
returns trigger as '$libdir/pgq_triggers', 'pgq_sqltriga' language c;
