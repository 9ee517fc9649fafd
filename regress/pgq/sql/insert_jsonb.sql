--
-- JSON as payload is stored as its text; text stays text.
--
set client_min_messages = warning;
\set SHOW_CONTEXT never
\pset null NULL
select pgq.create_queue('json');
select pgq.insert_event('json', 'object', '{"b": [1, 2.50, null],   "a": "it''s \"quoted\""}'::jsonb);
select pgq.insert_event('json', 'extras', jsonb_build_object('k', true), 'e1', null, 'e3', null);
select pgq.insert_event('json', 'null', null::jsonb);
select pgq.insert_event('json', 'JSON null', 'null'::jsonb);
select pgq.insert_event(queue_name => 'json', ev_type => 'named', ev_data => to_jsonb(7));
-- what has no type means text, as ever
select pgq.insert_event('json', 'untyped', '{"a":   1}');
prepare untyped as select pgq.insert_event($1, $2, $3);
execute untyped('json', 'parameters', '{"a":   2}');
select pgq.insert_event('json', 'untyped null', null);
select pgq.insert_event('json', 'varchar', 'v'::varchar);

select pgq.insert_events('json', array['many'], array['{"n":   1}', null, '[]']::jsonb[]);
select pgq.insert_events('json', array['a', 'b'], array[to_jsonb(1), to_jsonb('x'::text)], array['e1', null]);
select pgq.insert_events('json', '{untyped}', '{x,y}');
prepare untyped_many as select pgq.insert_events($1, $2, $3);
execute untyped_many('json', '{parameters}', '{x,y}');
select pgq.insert_events('json'::text, '{text}', '{x,y}');
select ev_id, ev_type, ev_data, ev_extra1, ev_extra3, ev_data::jsonb ->> 'a' as a
from pgq.event_template where ev_type not in ('varchar', 'untyped', 'parameters', 'text') or ev_data like '{%' order by ev_id;
select ev_type, ev_data from pgq.event_template where ev_type in ('varchar', 'untyped', 'parameters', 'text') order by ev_id;
deallocate untyped;
deallocate untyped_many;
select pgq.drop_queue('json');
