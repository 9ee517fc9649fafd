-- queue_figures.sql: figures of the queue database and its consumers; a line each, name=value.
select 'queue.events=' || count(*) from pgq.event_template;
select format(E'queue.tick=%s\nqueue.new=%s', last_tick_id, ev_new) from pgq.get_queue_info('all_events');
-- See partition_figures.sql.
select format(E'%s.waiting=%s\n%1$s.tick=%3$s\n%1$s.lag=%4$s', consumer_name, pending_events, last_tick,
              to_char(case when pending_events > 0 then extract(epoch from lag) else 0 end, 'FM999990.0'))
  from pgq.get_consumer_info('all_events');
