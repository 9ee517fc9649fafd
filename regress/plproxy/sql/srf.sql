-- Sets keep to themselves wherever they stand: each call has its own state.
select count(*) from everywhere($$
    create function series(i_from int4, i_count int4) returns setof int4 language sql as
        'select generate_series(i_from, i_from + i_count - 1)';
$$);
create function series(i_from int4, i_count int4) returns setof int4 language plproxy as $$ cluster 'one'; $$;
create function plus_one(i_a int4) returns int4 language plproxy as $$ cluster 'one'; $$;

select series(10, 3), series(20, 3);
select series(10, 3), plus_one(5);
select series(10, 3), series(20, 1), plus_one(30);
select series(1, 2), a from series(100, 2) a;
select a, b, plus_one(a) from series(1, 2) a, lateral series(a * 10, 2) b;
select * from rows from (series(1, 3), series(5, 2)) r;
select plus_one(series(1, 3));
select series(series(1, 2), 2);
select * from series(1, 1000000) s limit 2;
select series(1, 3) limit 1;
select * from series(1, 3) s where exists (select from series(s, 1));
select * from series(1, 0);
select series(1, 3) except select series(2, 1) order by 1;

-- a cursor over one set while another is read
begin;
declare c scroll cursor for select * from series(1, 4);
fetch 2 from c;
select * from series(8, 2);
fetch 2 from c;
fetch backward 3 from c;
commit;

-- cursors left half read: by ROLLBACK, by an exception, by CLOSE, by the end
begin;
declare c cursor for select a, series(a, 2), plus_one(a) from series(1, 3) a;
fetch 3 from c;
savepoint s;
select series(1, 2), (select sum(x) from series(plus_one(1), 3) x);
rollback to s;
fetch 1 from c;
declare d cursor with hold for select * from series(5, 5);
fetch 2 from d;
close c;
commit;
select * from series(1, 1);
fetch 2 from d;
close d;
do $$
declare
    c cursor for select * from series(1, 100) s;
    v_a int4;
    v_sum int4 := 0;
begin
    for i in 1..20 loop
        begin
            open c;
            fetch c into v_a;
            fetch c into v_a;
            v_sum := v_sum + plus_one(v_a);
            if i % 2 = 0 then
                raise division_by_zero;
            end if;
            close c;
        exception when division_by_zero then
            v_sum := v_sum + 1000;
        end;
    end loop;
    raise notice '%', v_sum;
end
$$;

-- sets of different lengths, none, one in another, in every place of a query
select series(1, 3) a, series(10, 0) b, plus_one(3) c, series(20, 2) d;
select series(plus_one(0), plus_one(plus_one(0))), series(1, 1) + series(2, 1);
select s, count(*) over (order by s) from (select series(1, 2) s union all select series(2, 2)) t where plus_one(s) > 2;
select a, array(select series(a, 2)) from series(1, 2) a order by plus_one(-a);
with recursive r(n) as (select series(1, 1) union all select plus_one(n) from r where n < 4)
select n, (select max(s) from series(n, 2) s) from r;
-- where no set is possible
select case when true then series(1, 2) end;

drop function series, plus_one;
