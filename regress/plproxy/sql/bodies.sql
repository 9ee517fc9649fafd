-- Which bodies are accepted, one a row: what PL/Proxy 2 took is taken, and more.
\set SHOW_CONTEXT never
create table body (id int4 generated always as identity, body text, setof bool default true);

-- CREATE FUNCTION with this body, undone at once
create function try_body(i_body text, i_setof bool) returns text language plpgsql as $$
declare
    v_message text;
begin
    execute format('create function tried(id int4, ids int4[], "Name" text, names text[], run int8, "odd ""name" int4, out o int4)
        returns %s language plproxy as %L', case when i_setof then 'setof int4' else 'int4' end, i_body);
    raise exception using errcode = 'AAAAA';
exception
    when sqlstate 'AAAAA' then
        return 'ok';
    when others then
        get stacked diagnostics v_message = message_text;
        return sqlstate || ' ' || v_message;
end;
$$;

-- CLUSTER and CONNECT
insert into body (body) values
    ('cluster ''x'';'), ('CLUSTER ''x'' ;'), ('cluster''it''''s'';'), ('cluster '''';'), ('cluster ''two
lines'';'),
    ('cluster name;'), ('cluster NAME;'), ('cluster "Name";'), ('cluster $3;'), ('cluster id;'), ('cluster nosuch;'), ('cluster "name";'),
    ('cluster f();'), ('cluster f ( name ) ;'), ('cluster a . b (name);'), ('cluster "A"."b"($3);'), ('cluster f(name) || ''y'';'),
    ('cluster name || ''y'';'), ('cluster ''y'' || name;'), ('cluster (select name);'), ('cluster f(nosuch);'),
    ('cluster;'), ('cluster x y;'), ('cluster ''x'' ''y'';'), ('cluster 5;'), ('cluster f(;'), ('cluster f($9);'), ('cluster $0;'), ('cluster $7;'),
    ('connect '''';'), ('connect ''dbname=x'';'), ('connect name;'), ('connect $3;'), ('connect f(name);'), ('connect f($3) || '' port=1'';'),
    ('connect name || '' port=1'';'), ('connect ids;'), ('connect nosuch;'), ('connect ''x''; connect ''y'';'),
    ('connect ''x''; cluster ''x'';'), ('run on 0; connect ''x'';'), ('connect ''x''; split ids;'), ('connect ''x''; target f;'),
    ('connect ''x''; select 1;');
-- RUN
insert into body (body) values
    ('cluster ''x''; run on all;'), ('cluster ''x''; run on any;'), ('RUN ON ANY; cluster ''x'';'), ('cluster ''x''; run on 0;'), ('cluster ''x''; run on 007;'),
    ('cluster ''x''; run on id;'), ('cluster ''x''; run on ID;'), ('cluster ''x''; run on $1;'), ('cluster ''x''; run on run;'),
    ('cluster ''x''; run on "run";'), ('cluster ''x''; run on $5;'), ('cluster ''x''; run on "odd ""name";'), ('cluster ''x''; run on name;'), ('cluster ''x''; run on nosuch;'), ('cluster ''x''; run on $9;'),
    ('cluster ''x''; run on hashtext(name);'), ('cluster ''x''; run on pg_catalog . hashtext ( $3 ) ;'), ('cluster ''x''; run on hashtext(name) & 3;'),
    ('cluster ''x''; run on id & 3;'), ('cluster ''x''; run on (id);'), ('cluster ''x''; run on ids[1];'), ('cluster ''x''; run on 3 + id;'), ('cluster ''x''; run on id::int8;'),
    ('cluster ''x''; run on (case when id > 1 then 0 else 1 end);'),
    ('cluster ''x''; run on -1;'), ('cluster ''x''; run on 1.5;'), ('cluster ''x''; run on ''1'';'), ('cluster ''x''; run on 1x;'), ('cluster ''x''; run on 99999999999;'),
    ('cluster ''x''; run all;'), ('cluster ''x''; run;'), ('cluster ''x''; run on;'), ('cluster ''x''; run on all any;'), ('cluster ''x''; run on id split ids;'),
    ('cluster ''x''; run on all; run on all;');
-- a fragment is looked at as far as what it names exists
insert into body (body) values
    ('cluster ''x''; run on no_such_function(id);'), ('cluster ''x''; run on hashtext(no_such_argument);'), ('cluster ''x''; run on hashtext(id);'), ('cluster ''x''; run on (select h from no_such_table);'),
    ('cluster ''x''; run on id::no_such_type;'), ('cluster ''x''; run on no_such_schema.f(id);'), ('cluster ''x''; run on lower(name);'), ('cluster ''x''; run on id &;'), ('cluster ''x''; run on (id;'),
    ('cluster ''x''; run on abs(id) as h(a) where a > 1;'), ('cluster ''x''; run on generate_series(1, id);'), ('cluster ''x''; run on abs(ids); split ids;'), ('cluster ''x''; run on abs(ids);'),
    ('cluster abs(id);'), ('connect lower(name);'), ('connect abs(id);'), ('cluster array_to_string(names, ''-''); split names;'), ('cluster f(); run on f(); select 1;');
insert into body (body, setof) values ('cluster ''x''; run on all;', false), ('cluster ''x''; run on any;', false);
-- SPLIT
insert into body (body) values
    ('cluster ''x''; split all;'), ('split ids; cluster ''x'';'), ('cluster ''x''; split ids, names; run on ids;'), ('cluster ''x''; run on ids; split ids, names;'),
    ('cluster ''x''; split $2 , $4;'), ('cluster ''x''; run on f(ids, names); split all;'),
    ('cluster ''x''; split id;'), ('cluster ''x''; split nosuch;'), ('cluster ''x''; split $9;'), ('cluster ''x''; split ids, ids;'),
    ('cluster ''x''; split ids names;'), ('cluster ''x''; split ids,;'), ('cluster ''x''; split;'), ('cluster ''x''; split all, ids;'), ('cluster ''x''; split f(ids);'),
    ('cluster ''x''; run on ids;'), ('cluster ''x''; split all; split all;');
-- TARGET
insert into body (body) values
    ('cluster ''x''; target f;'), ('target a.b; cluster ''x'';'), ('cluster ''x''; target a . b . c ;'), ('cluster ''x''; target "F";'), ('cluster ''x''; target a."F ""x""";'),
    ('cluster ''x''; target;'), ('cluster ''x''; target $1;'), ('cluster ''x''; target ''f'';'), ('cluster ''x''; target f();'), ('cluster ''x''; target select;'), ('cluster ''x''; target a.;'), ('cluster ''x''; target a..b;'),
    ('cluster ''x''; target f; target g;'), ('cluster ''x''; target f; select 1;');
-- SELECT
insert into body (body) values
    ('cluster ''x''; select 1;'), ('select(1);cluster ''x'';'), ('cluster ''x''; SELECT id, $1, "id", t.id, id.t from f(id) as id;'), ('cluster ''x''; select $$;$$, $t$;$t$, e''\'';'', ''\'', '''''';'';'),
    ('cluster ''x''; select ((;'), ('cluster ''x''; select - ! # % & ( ) * + , / : < = > ? @ [ ] ^ { | } ~ .;'), ('cluster ''x''; select /* ; */ 1 -- ;
    ;'), ('cluster ''x''; select "unknown column", $5::int4[1], 1e-5, 0x1F, 1.5.a;'),
    ('cluster ''x''; select;'), ('cluster ''x''; select 1'), ('cluster ''x''; select `;'), ('cluster ''x''; select \d;'), ('cluster ''x''; select $;'), ('cluster ''x''; select $a;'), ('cluster ''x''; select $9;'),
    ('cluster ''x''; select ''a;'), ('cluster ''x''; select "a;'), ('cluster ''x''; select e''\'';'), ('cluster ''x''; select $$a;'), ('cluster ''x''; select /*;'),
    ('cluster ''x''; select 1; select 2;');
-- what is between
insert into body (body) values
    (''), (' '), ('-- nothing'), (';'), ('cluster ''x'';;'), ('cluster ''x'''), ('/* a */ cluster -- b
    ''x'' /* c; */ ; -- d'), ('/* /* not nested */ cluster ''x'';'), ('/* /* */ */ cluster ''x'';'), ('cluster ''x''; nothing;'), ('cluster ''x''; select.a;'),
    (E'cluster\t''x''\r\n;\f'), ('cluster ''x''; é;'), ('cluster ''x''; "a";'), ('cluster ''x''; \;'), ('cluster ''x'); 

select body, case when setof then '' else '(one row) ' end || try_body(body, setof) as result from body order by id;
-- and another string syntax
set standard_conforming_strings = off;
set escape_string_warning = off;
select try_body($$cluster 'x'; select '\';';$$, true), try_body($$cluster '\'; select 1;$$, true);
reset standard_conforming_strings;
reset escape_string_warning;

-- a body that was not looked at when it was made
set check_function_bodies = off;
select try_body('cluster', true);
reset check_function_bodies;

drop table body;
drop function try_body;
