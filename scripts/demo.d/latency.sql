-- latency.sql: p50 and p99 over all events of the time from the call to its row in the
-- report, in seconds. A row of report.latency stands for that many events.
select to_char(min(seconds) filter (where seen >= 0.5 * total), 'FM990.00'),
       to_char(min(seconds) filter (where seen >= 0.99 * total), 'FM990.00')
  from (select seconds,
               sum(events) over (order by seconds) as seen,
               sum(events) over () as total
          from report.latency) l;
