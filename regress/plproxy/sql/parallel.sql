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

-- one call after another on the same partitions, on others, within each other,
-- and on partitions whose sessions have ended in between
create function hashes(i_a int4[]) returns setof int4 language sql as 'select unnest(i_a)';
create function where_are(i_a int4[]) returns setof text language plproxy as $$
    cluster 'four'; run on hashes(i_a); target whoami_after;
$$;
create function pid_on(i_a int4[]) returns setof int4 language plproxy as $$
    cluster 'four'; run on hashes(i_a); select pg_backend_pid();
$$;
create function names(i_a int4[]) returns text language sql as
    $$ select string_agg(right(w, 1), '' order by w) from where_are(i_a) w $$;
select count(*) from everywhere($$ create function whoami_after(i_a int4[]) returns text language sql as 'select whoami()' $$);

select i, names('{0,1,2,3}'), names('{3,1,0,2}'), names('{1,2}'), names('{2,1}'), names('{3,2}'), names('{0}')
from generate_series(1, 3) i;
select names(array(select right(w, 1)::int4 from where_are(array(select right(v, 1)::int4 from where_are('{0,1,2,3}') v)) w));
do $$
begin
    for i in 1..20 loop
        assert names('{0,1,2,3}') = '0123';
        perform pg_terminate_backend(pid_on(array[i % 4]), 10000);
        assert names(case when i % 3 = 0 then '{2,1}'::int4[] else '{0,1,2,3}' end) = case when i % 3 = 0 then '12' else '0123' end;
        assert attempt($s$ select count(*) from where_are('{0,1,2,null}') $s$) like '22004%';
        assert (select count(distinct p) = 4 from pid_on('{0,1,2,3}') p);
    end loop;
end;
$$;

drop function names, where_are, pid_on, hashes;
