-- Errors and notices of partitions come through whole, and connections survive.
select count(*) from everywhere($$
    create table account (id int4 constraint account_key primary key, balance int4 constraint not_negative check (balance >= 0));
    insert into account values (1, 10);
    create function withdraw(i_id int4, i_amount int4) returns int4 language sql as
        'update account set balance = balance - i_amount where id = i_id returning balance';
    create function complain(i_level text) returns text language plpgsql as $f$
    begin
        case i_level
            when 'error' then raise exception 'that is %', 'wrong' using errcode = 'ZZ123', detail = 'in detail', hint = 'ask, 100%';
            when 'warning' then raise warning 'careful' using errcode = '01ZZZ', detail = 'in detail';
            when 'notice' then raise notice 'by the way, 100%%';
            when 'info' then raise info 'note this';
            when 'many' then for i in 1..3 loop raise notice 'notice %', i; end loop;
            when 'both' then raise notice 'first'; raise exception 'then';
        end case;
        return i_level;
    end;
    $f$;
$$);
create function withdraw(i_id int4, i_amount int4) returns int4 language plproxy as $$ cluster 'four'; run on i_id; $$;
create function complain(i_level text) returns text language plproxy as $$ cluster 'four'; run on 2; $$;
create function pid() returns int4 language plproxy as $$ cluster 'four'; run on 2; $$;

-- the port is all that is masked
create function report(i_sql text) returns setof text language plpgsql as $$
declare
    v_state text;
    v_message text;
    v_detail text;
    v_hint text;
    v_context text;
    v_schema text;
    v_table text;
    v_constraint text;
begin
    execute i_sql;
exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_detail = pg_exception_detail,
        v_hint = pg_exception_hint, v_context = pg_exception_context, v_schema = schema_name, v_table = table_name,
        v_constraint = constraint_name;
    return query select u.name || ': ' || regexp_replace(u.value, 'port \d+', 'port PORT', 'g')
        from (values ('sqlstate', v_state), ('message', v_message), ('detail', v_detail), ('hint', v_hint),
            ('schema', v_schema), ('table', v_table), ('constraint', v_constraint), ('context', v_context)) u(name, value)
        where u.value <> '';
end;
$$;
select * from report('select complain(''error'')');
select * from report('select withdraw(1, 100)');

-- what an answer holds and cannot be taken: the value's column and partition are named
create domain small as int4 check (value < 10);
create type small_row as (a int4, b small);
create domain small_pair as small_row check ((value).a < (value).b);
create function big() returns small language plproxy as $$ cluster 'four'; run on 2; select 10; $$;
create function bigs() returns setof small language plproxy as $$ cluster 'four'; run on 2; select 10; $$;
create function big_row() returns small_row language plproxy as $$ cluster 'four'; run on 2; select 10 as b, 1 as a; $$;
create function big_rows() returns table (a int4, b varchar(2)[], c small) language plproxy as $$
    cluster 'four'; run on 2; select 10 as c, '{x}' as b, 'no number' as a;
$$;
create function big_pairs() returns setof small_pair language plproxy as $$ cluster 'four'; run on 2; select 9 as a, 9 as b; $$;
select * from report('select big()');
select * from report('select bigs()');
select * from report('select big_row()');
select * from report('select big_rows()');
select * from report('select big_pairs()');
drop function big, bigs, big_row, big_rows, big_pairs;
drop type small_row cascade;
drop domain small;

-- who may not log in is told where
create server closed foreign data wrapper plproxy options (p0 '');
create function closed() returns int4 language plproxy as $$ cluster 'closed'; $$;
create role plproxy_visitor;
set role plproxy_visitor;
select * from report('select closed()');
reset role;
drop function closed;
drop role plproxy_visitor;
drop server closed;

\set SHOW_CONTEXT never
select complain('notice');
select complain('info');
select complain('warning');
select complain('many');
select complain('both');
-- levels that the caller does not want
set client_min_messages = warning;
select complain('many');
reset client_min_messages;
-- a caught error costs no connection: the same backend goes on
create function keeps(i_n int4) returns text language plpgsql as $$
declare
    v_pid int4 := pid();
    v_caught int4 := 0;
begin
    for i in 1..i_n loop
        begin
            perform complain('error');
        exception when sqlstate 'ZZ123' then
            v_caught := v_caught + 1;
        end;
    end loop;
    return format('%s caught, %s', v_caught, case when pid() = v_pid then 'same backend' else 'another backend' end);
end;
$$;
select keeps(100);

-- texts that are not in our encoding: what does not fit is shown as "?"
select count(*) from everywhere($$
    create function latin(i_level text) returns text language plpgsql as $f$
    begin
        perform set_config('client_encoding', 'latin1', true);
        if i_level = 'notice' then
            raise notice 'café x' using detail = 'éé', hint = 'xé';
        else
            raise exception 'café x' using detail = 'éé', hint = 'xé', schema = 'sé', table = 'té', constraint = 'cé';
        end if;
        return null;
    end;
    $f$;
$$);
create function latin(i_level text) returns text language plproxy as $$ cluster 'four'; run on 2; $$;
select * from report('select latin(''error'')');
select latin('notice');
-- and those that are stay as they are
select count(*) from everywhere('create function accent() returns int4 language plpgsql as ''begin raise ''''café €''''; end''');
create function accent() returns int4 language plproxy as $$ cluster 'four'; run on 2; $$;
select attempt('select accent()');

-- one partition fails, the others are still at work: they are cancelled and kept
select count(*) from everywhere($$
    create function fail_on_two() returns int4 language plpgsql as $f$
    begin
        if current_database() like '%2' then
            raise exception 'not here' using errcode = 'ZZ124';
        end if;
        perform pg_sleep(60);
        return 1;
    end;
    $f$;
$$);
create function fail_on_two() returns setof int4 language plproxy as $$ cluster 'four'; run on all; $$;
create function pids() returns setof int4 language plproxy as $$ cluster 'four'; run on all; target pid; $$;
create table before as select pids() as pid;
select attempt('select fail_on_two()');
select count(*), count(distinct b.pid) from before b join pids() p on p = b.pid;
select count(*) from pg_stat_activity where query like '%fail_on_two%' and state = 'active' and application_name like 'plproxy %';
drop table before;

-- a statement_timeout over there is an error like any other, and hangs nobody
select count(*) from everywhere($$
    create function slow() returns int4 language plpgsql as $f$
    begin
        raise exception 'canceled there' using errcode = 'query_canceled';
    end;
    $f$;
$$);
create function slow() returns setof int4 language plproxy as $$ cluster 'four'; run on all; $$;
select slow();
select slow();
select pid() = pid();

drop function withdraw, complain, latin, accent, pid, report, keeps, fail_on_two, pids, slow;
