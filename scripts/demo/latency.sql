-- latency.sql: p50 and p99 of the time from a call to its row in the report, in seconds.
select to_char(percentile_disc(0.5) within group (order by seconds), 'FM990.00'),
       to_char(percentile_disc(0.99) within group (order by seconds), 'FM990.00')
  from report.latency;
