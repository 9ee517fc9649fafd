-- What partition_merger keeps. The database also needs the extension pgq_ext.

create schema merged;

create table merged.users (
    username  text primary key,
    email     text,
    score     bigint      not null,
    changed   timestamptz not null,
    partition text        not null     -- where the user is
);
