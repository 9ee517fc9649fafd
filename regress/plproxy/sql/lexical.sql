-- How bodies are read: case, comments, names, strings, argument references.
select everywhere($$
    create function echo(i_text text) returns text language sql as 'select i_text';
    create schema "Odd Name";
    create function "Odd Name"."F"(i_a int4, i_b int4) returns text language sql as
        'select format(''odd %s %s'', i_a, i_b)';
$$);

create function f(i_text text) returns text language plproxy as $$
    -- a comment
    ClUsTeR /* in between */ 'four' ;
    RUN/**/ON 0; TARGET public . echo ;  -- the end
$$;
select f('hello');

create or replace function f(i_text text) returns text language plproxy as 'cluster''four'';run on 0;select echo(I_TEXT);';
select f('case of names does not count');

create or replace function f(int4, second int4) returns text language plproxy as $$
    cluster 'four'; run on 0; target "Odd Name"."F";
$$;
select f(1, 2);

-- strings and quoted names are not looked into; $n and names are replaced
create or replace function f(i_text text) returns text language plproxy as $f$
    cluster 'four'; run on 0;
    select 'i_text; ''' || E'\'i_text;' || $x$ ; i_text $x$ || $$;$$ /* ; i_text */
        || "i_text" || i_text || $1 -- i_text ;
        || lower('I_TEXT')
    from (select '<q>'::text as "i_text") q;
$f$;
select f('<a>');

-- a name behind a dot, ::, AS or before "(" is no argument
create or replace function f(count int4, a int4, text text) returns text language plproxy as $$
    cluster 'four'; run on 0;
    select (count(*) * count + max(a.b))::text as text from (select 1 as b union all select 2) as a;
$$;
select f(10, 3, 'x');

-- numbers keep their letters, arrays their subscripts, operators their signs
create or replace function f(e4 int4[], x text) returns text language plproxy as $$
    cluster 'four'; run on 0;
    select concat_ws(' ', 1e4, 1.5e-1, .5, e4[2], (e4)[1:2], b'101', x'1f', x, 5 % 3, -e4[1]);
$$;
select f('{7,8,9}'::int4[], 'x');

-- the same argument twice is one parameter
create or replace function f(a text, b text) returns text language plproxy as $$
    cluster 'four'; run on 0;
    select a || b || a || coalesce(b, '');
$$;
select f('1', '2'::text), f(null, '2'::text);

-- OUT arguments do not count for $n, INOUT ones do
create function g(out o text, inout p int4, in q int4) language plproxy as $$
    cluster 'four'; run on 0;
    select ($1 + $2)::text as o, q as p;
$$;
select * from g(3, 4);

-- an argument that is called like a keyword
create function h("run" int4, "all" int4) returns int4 language plproxy as $$
    cluster 'four'; run on $1; select "all" + 1 from (select $2 as "all") s;
$$;
select h(0, 41);

drop function f(text), f(int4, int4), f(int4, int4, text), f(int4[], text), f(text, text), g, h;
