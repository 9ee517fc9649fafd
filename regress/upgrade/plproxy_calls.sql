-- One call of each function that plproxy_user.sql makes.
select plus_one(41);
select * from on_all(7) order by b;
select by_server(1);
select * from split_sum('{1,2,3,4}') order by 1;
select direct(format('host=127.0.0.1 port=%s dbname=plproxy_upgrade_part', current_setting('port')));
