-- schema.sql: pgq_coop has no tables: all it knows stands in pgq.subscription.
--
-- A group is a main consumer and its subconsumers, named MAIN.SUB, whose rows carry the
-- sub_id of the main one. The main row has the position of the group and never a batch;
-- a subconsumer's row has the batch that it works on, with the ticks it lies between, or
-- nulls. So rotation waits for every batch that is out. A batch whose subconsumer has
-- been unregistered keeps a row under the name MAIN.(batch ID) until somebody takes it.

create schema pgq_coop;
