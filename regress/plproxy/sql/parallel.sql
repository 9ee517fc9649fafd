-- Partitions work at the same time: each waits until all of them are there.
-- They meet by the names that their sessions show in pg_stat_activity; one after
-- another, the first would wait until it gives up.
\set SHOW_CONTEXT never
select count(*) from everywhere($$
    create function meet(i_name text) returns bool language plpgsql as $f$
    begin
        perform set_config('application_name', i_name, false);
        for i in 1..1000 loop
            perform pg_stat_clear_snapshot();
            if (select count(*) from pg_stat_activity where application_name = i_name) = 4 then
                return true;
            end if;
            perform pg_sleep(0.01);
        end loop;
        return false;
    end;
    $f$;
$$);
create function meet(i_name text) returns setof bool language plproxy as $$ cluster 'four'; run on all; $$;
select * from meet('plproxy meeting 1');
select * from meet('plproxy meeting 2');

-- when they must be connected first
\c -
select * from meet('plproxy meeting 3');

-- and when each gets a share of an array
create function meet_split(i_name text, i_a int4[]) returns setof bool language plproxy as $$
    cluster 'four'; split i_a; run on i_a; select meet(i_name) where i_a is not null;
$$;
select * from meet_split('plproxy meeting 4', '{3,2,1,0}');

drop function meet, meet_split;
