-- What a function body may not look like: every message names the line, and its
-- position in CREATE FUNCTION; in a call, its position in the body.
\set SHOW_CONTEXT never

create function bad(a int, b int[], c text) returns setof int language plproxy as $$$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$ run on all; $$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run on every;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run
    on

    -1;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run on [a];
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run on 99999999999;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four'
    run on all;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    cluster 'five';
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run on any;
    RUN on any;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    connect 'dbname=x';
    cluster 'four';
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    connect 'dbname=x';
    run on all;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    target f;
    select 1;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    select;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    select 'x
    ;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    select $tag$ x $tga$;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    select 1
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four'; /* no end
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    select `a`;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    select $4;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run on nosuch;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run on c;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster a;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    connect nosuch;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    split b, c;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    split b, $2;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    frobnicate;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'vier' é;
$$;
-- in an expression PostgreSQL tells what is wrong
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';
    run on hashtext(c) & /* mask */ 3 3;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster lower(cc);
$$;
-- with the line in the body
\set SHOW_CONTEXT always
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'four';

    run on hashtext(
        cc);
$$;
\set SHOW_CONTEXT never
-- of another type than is wanted
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    cluster 'vierß';
    run on /* é */ lower(
        c);
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    -- not text
    cluster a + 1;
$$;
create function bad(a int, b int[], c text) returns setof int language plproxy as $$
    connect abs(a);
$$;

-- the shape of the function
create function bad(a int) returns int language plproxy as $$ cluster 'four'; run on all; $$;
create function bad(a int) returns int stable language plproxy as $$ cluster 'four'; $$;
create function bad(variadic a int[]) returns int language plproxy as $$ cluster 'four'; $$;
create function bad(a anyelement) returns int language plproxy as $$ cluster 'four'; $$;
create function bad(a int) returns cstring language plproxy as $$ cluster 'four'; $$;
create function bad() returns trigger language plproxy as $$ cluster 'four'; $$;
do language plproxy $$ cluster 'four'; $$;

-- a restore creates functions in any order, so it does not look at bodies
set check_function_bodies = off;
create function bad(a int) returns int language plproxy as $$ cluster 'four'; run on nosuch; $$;
reset check_function_bodies;
select bad(1);
\set SHOW_CONTEXT always
select bad(1);
drop function bad(int);
