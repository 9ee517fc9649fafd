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

-- where no set is possible
select case when true then series(1, 2) end;

drop function series, plus_one;
