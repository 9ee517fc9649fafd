-- report.sql: the reporting database of the topology: every change as a row, by the
-- table_dispatcher, and the users as they are now, by the simple_consumer.
\set ON_ERROR_STOP 1
set client_min_messages = warning;

create extension pgq_ext;
create schema report;
create table report.changes (
    username    text not null,
    email       text,
    score       bigint not null,
    updated     timestamptz not null
);
create table report.users (
    username    text primary key,
    email       text,
    score       bigint not null,
    updated     timestamptz not null
);
