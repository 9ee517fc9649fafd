create or replace function pgq.maint_operations(out func_name text, out func_arg text)
returns setof record
language plpgsql volatile parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Tells what upkeep is due. The runner calls each function, in this order and
-- in a transaction of its own, with the argument unless that is null, and again
-- at once while it returns something else than 0. "vacuum" and "vacuum analyze"
-- are the SQL commands.
--
-- Returns: a row an operation, in the order in which to run them: expiry of
--     consumers where it is set, rotations, the queues' queue_extra_maint,
--     vacuums, and what pgq_node and londiste want if they are there.
-- Calls: maint_tables_to_vacuum
declare
    v_rotating boolean := false;
begin
    func_name := 'pgq.maint_expire_consumers';
    for func_arg in
        select q.queue_name from pgq.queue q where q.queue_consumer_expiry is not null order by 1
    loop
        return next;
    end loop;

    func_name := 'pgq.maint_rotate_tables_step1';
    for func_arg in
        select q.queue_name
        from pgq.queue q
        where q.queue_rotation_period is not null
          and q.queue_switch_step2 is not null
          and q.queue_rotation_period < pgq._age(q.queue_switch_time)
        order by 1
    loop
        v_rotating := true;
        return next;
    end loop;

    if v_rotating or exists (select 1 from pgq.queue q where q.queue_switch_step2 is null) then
        func_name := 'pgq.maint_rotate_tables_step2';
        func_arg := null;
        return next;
    end if;

    for func_name, func_arg in
        select m.name, q.queue_name
        from pgq.queue q, unnest(q.queue_extra_maint) with ordinality m (name, nr)
        where m.name is not null
        order by q.queue_name, m.nr
    loop
        return next;
    end loop;

    func_name := 'vacuum';
    for func_arg in select t.name from pgq.maint_tables_to_vacuum() t (name) loop
        return next;
    end loop;

    if pg_catalog.to_regprocedure('pgq_node.maint_watermark(text)') is not null then
        func_name := 'pgq_node.maint_watermark';
        for func_arg in execute
            'select n.queue_name from pgq_node.node_info n where n.node_type = ''root'' order by 1'
        loop
            return next;
        end loop;
    end if;
    if pg_catalog.to_regprocedure('londiste.root_check_seqs(text)') is not null then
        func_name := 'londiste.root_check_seqs';
        for func_arg in select q.queue_name from pgq.queue q order by 1 loop
            return next;
        end loop;
    end if;
    if pg_catalog.to_regprocedure('londiste.periodic_maintenance()') is not null then
        func_name := 'londiste.periodic_maintenance';
        func_arg := null;
        return next;
    end if;
end;
$$;
