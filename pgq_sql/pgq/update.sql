-- update.sql: what an update does to the tables of an older version, right behind the
-- definition of the function that does it.

select pgq.upgrade_schema();
