-- partition_figures.sql: figures of partition :nr, with its standby and its mover; a line
-- each, name=value.
select format('oltp%s.rows=%s', :'nr', count(*)) from users;
select format('oltp%s.xacts=%s', :'nr', xact_commit + xact_rollback) from pg_stat_database where datname = current_database();
select format('oltp%s.events=%s', :'nr', count(*)) from pgq.event_template;
select format('oltp%s.tick=%s', :'nr', last_tick_id) from pgq.get_queue_info('user_events');
select format('standby%s.lag=%s', :'nr', pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) from pg_stat_replication;
-- A queue at rest has an old tick, but a consumer that no event waits for is not behind.
select format(E'%s.waiting=%s\n%1$s.lag=%3$s', consumer_name, pending_events,
              to_char(case when pending_events > 0 then extract(epoch from lag) else 0 end, 'FM999990.0'))
  from pgq.get_consumer_info('user_events');
