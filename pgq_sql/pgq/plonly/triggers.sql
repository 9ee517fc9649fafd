create or replace function pgq._triga_names(i_list text, i_columns text[]) returns text[]
language plpgsql immutable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Splits the list of columns of ignore= or pkey=, separated by commas or blanks. A
-- name with blanks in it is one name if the table has such a column.
declare
    v_item  text;
    v_names text[] := '{}';
begin
    foreach v_item in array coalesce(pg_catalog.string_to_array(i_list, ','), '{}') loop
        v_item := pg_catalog.btrim(v_item, E' \t\n');
        if v_item = any (i_columns) then
            v_names := v_names || v_item;
        else
            v_names := v_names || array(select w from pg_catalog.regexp_split_to_table(v_item, E'[ \t\n]+') w where w <> '');
        end if;
    end loop;
    return v_names;
end;
$$;

create or replace function pgq._triga_url(i_value text) returns text
language plpgsql stable strict parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Encodes a value for a url: bytes outside [0-9A-Za-z_.-] become %xx, a space +.
declare
    v_bytes bytea;
begin
    if i_value ~ '^[0-9A-Za-z_.-]*$' collate "C" then
        return i_value;
    end if;
    v_bytes := pg_catalog.convert_to(i_value, pg_catalog.getdatabaseencoding()::name);
    return (
        select pg_catalog.string_agg(
                   case
                       when b.byte = 32 then '+'
                       when b.byte in (45, 46, 95) or b.byte between 48 and 57
                            or b.byte between 65 and 90 or b.byte between 97 and 122
                       then pg_catalog.chr(b.byte)
                       else '%' || pg_catalog.lpad(pg_catalog.to_hex(b.byte), 2, '0')
                   end, '' order by b.i)
        from (select i, pg_catalog.get_byte(v_bytes, i)
              from pg_catalog.generate_series(0, pg_catalog.octet_length(v_bytes) - 1) i) b (i, byte));
end;
$$;

create or replace function pgq._triga_expression(i_expression text, i_columns text[]) returns text
language plpgsql stable parallel safe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Writes $1."col" where an SQL expression names a column: a word spelled exactly as the
-- column, neither quoted nor qualified nor called as a function.
--
-- Parameters: i_expression - SQL; i_columns - names.
declare
    v_sql    text := '';
    v_token  text;
    v_tokens text[];
    v_before text;
    v_after  text;
    v_blank  constant text := E'^([ \\t\\n\\r\\f]+|--.*|/\\*.*)$';
begin
    -- strings, names in quotes, comments, words with the numbers, blanks, all else
    v_tokens := array(
        select m[1]
        from pg_catalog.regexp_matches(i_expression,
            $re$([eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$([A-Za-z_]*)\$.*?\$\2\$|--[^\n]*|/\*.*?\*/|[A-Za-z_\u0080-\uffff][A-Za-z_0-9$\u0080-\uffff]*|[0-9][0-9A-Za-z_.]*|[ \t\n\r\f]+|::|.)$re$,
            'g') m);
    for i in 1 .. coalesce(pg_catalog.array_length(v_tokens, 1), 0) loop
        v_token := v_tokens[i];
        v_after := null;
        for j in i + 1 .. pg_catalog.array_length(v_tokens, 1) loop
            v_after := v_tokens[j];
            exit when v_after !~ v_blank;
        end loop;
        if v_token = any (i_columns) and coalesce(v_before, '') not in ('.', '::', 'as', 'AS')
           and coalesce(v_after, '') not in ('.', '(') and v_token !~ '^["'']' then
            v_sql := v_sql || '$1.' || pg_catalog.quote_ident(v_token);
        elsif v_token ~ '^"' and pg_catalog.replace(pg_catalog.substr(v_token, 2, pg_catalog.length(v_token) - 2), '""', '"') = any (i_columns)
           and coalesce(v_before, '') not in ('.', '::', 'as', 'AS') and coalesce(v_after, '') not in ('.', '(') then
            v_sql := v_sql || '$1.' || v_token;
        else
            v_sql := v_sql || v_token;
        end if;
        if v_token !~ v_blank then
            v_before := v_token;
        end if;
    end loop;
    return v_sql;
end;
$$;

create or replace function pgq._triga_evaluate(
    in i_option text,
    in i_expression text,
    in i_columns text[],
    in i_row anyelement,
    in i_path text,
    out value text,
    out type oid)
returns record
language plpgsql stable parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Evaluates an option that is SQL over the row. Being stable, it may not write, and
-- sees what the changing statement saw when it began.
--
-- Parameters: i_option, i_expression, i_columns, i_row; i_path - the search_path that
--     the expression is meant for.
-- Returns: the text of the value; its type if it is no text and no null, 0 of nothing.
-- Raises: 21000 not one value.
declare
    v_path  constant text := pg_catalog.current_setting('search_path');
    v_sql   text := 'select ' || pgq._triga_expression(i_expression, i_columns);
    v_row   record;
    v_count bigint;
begin
    perform pg_catalog.set_config('search_path', i_path, true);
    execute v_sql into v_row using i_row;
    get diagnostics v_count = row_count;
    perform pg_catalog.set_config('search_path', v_path, true);
    if v_count <> 1 then
        raise exception 'Expect 1 row from override query, got %', v_count
            using errcode = '21000',
                  detail = pg_catalog.format('The expression of %s= is: %s', i_option, i_expression);
    end if;
    select count(*) into v_count from pg_catalog.json_object_keys(pg_catalog.row_to_json(v_row));
    if v_count > 1 then
        raise exception 'trigger argument %= must be one value, got % columns', i_option, v_count
            using errcode = '21000', detail = pg_catalog.format('The expression is: %s', i_expression);
    end if;
    type := 0;
    if v_count = 0 then
        return;
    end if;
    -- What it is as text stands in the text of the row, in parentheses and, if need
    -- be, in quotes.
    value := v_row::text;
    value := nullif(pg_catalog.substr(value, 2, pg_catalog.length(value) - 2), '');
    if value like '"%' then
        value := pg_catalog.regexp_replace(pg_catalog.substr(value, 2, pg_catalog.length(value) - 2),
                                           '(["\\])\1', '\1', 'g');
    end if;
    if i_option = 'when' then
        v_sql := 'select pg_catalog.pg_typeof(x) from (' || v_sql || E'\n) t (x)';
        perform pg_catalog.set_config('search_path', i_path, true);
        execute v_sql into type using i_row;
    end if;
end;
$$;

create or replace function pgq._triga_check_row(
    i_relid oid,
    i_row anyelement)
returns void
language plpgsql stable parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Refuses a row that breaks a NOT NULL or CHECK constraint of its table. The server looks
-- at them when it stores a row, so never at one that SKIP keeps from being stored.
--
-- Parameters: i_relid - the table; i_row - the new row, its generated columns not computed.
-- Raises: 23502, 23514; without the row in the detail, which not all may see.
declare
    v_table   text;
    v_columns text;
    v_check   record;
    v_holds   boolean;
begin
    select c.relname,
           pg_catalog.string_agg(case when a.attgenerated = '' then pg_catalog.quote_ident(a.attname)
                                 else pg_catalog.format('(%s) as %I', pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.attname) end,
                                 ', ' order by a.attnum)
    into v_table, v_columns
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
    where c.oid = i_relid
    group by c.relname;
    for v_check in
        select 1 as kind, a.attnum, a.attname as name, pg_catalog.format('%I is distinct from null', a.attname) as condition
        from pg_catalog.pg_attribute a
        where a.attrelid = i_relid and a.attnotnull and a.attnum > 0 and not a.attisdropped
        union all
        -- PostgreSQL 18 has constraints that are not enforced.
        select 2, 0, k.conname, pg_catalog.pg_get_expr(k.conbin, k.conrelid)
        from pg_catalog.pg_constraint k
        where k.conrelid = i_relid and k.contype = 'c'
          and coalesce((pg_catalog.to_jsonb(k) ->> 'conenforced')::boolean, true)
        order by 1, 2, 3
    loop
        execute pg_catalog.format('select %1$s from (select %2$s from (select ($1).*) as %3$I) as %3$I',
                                  v_check.condition, v_columns, v_table)
            into v_holds using i_row;
        if v_holds is not false then
            continue;
        elsif v_check.kind = 1 then
            raise exception 'null value in column "%" of relation "%" violates not-null constraint', v_check.name, v_table
                using errcode = '23502', column = v_check.name, table = v_table;
        else
            raise exception 'new row for relation "%" violates check constraint "%"', v_table, v_check.name
                using errcode = '23514', constraint = v_check.name, table = v_table;
        end if;
    end loop;
end;
$$;

create or replace function pgq._triga_fire(
    i_format text,
    i_op text,
    i_when text,
    i_level text,
    i_trigger text,
    i_relid oid,
    i_args text[],
    i_new anyelement,
    i_old anyelement,
    i_path text)
returns boolean
language plpgsql stable parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- What a queue trigger does when it fires; the arguments and formats are in
-- pgq_sql/pgq/triggers/README.md.
--
-- It writes by insert_event alone, which takes care of itself; stable are this and the
-- trigger functions so that expressions see what the changing statement saw.
--
-- Parameters: i_format - json, url or sql; i_op .. i_args - the trigger's TG_ values;
--     i_new, i_old - the rows, anything where the operation has none;
--     i_path - the search_path for the trigger's expressions and the event table's triggers.
-- Returns: whether the row's operation is to be skipped.
-- Calls: insert_event, _triga_check_row
declare
    c_names constant text[] := array['ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4', 'when'];
    v_queue   text;
    v_schema  text;
    v_table   text;
    v_skip    boolean := false;
    v_backup  boolean := false;
    v_deny    boolean := false;
    v_ignore  text;
    v_pkey    text;
    v_given   boolean := false;
    v_source  text[] := pg_catalog.array_fill(null::text, array[7]);
    v_has     boolean := false;
    v_arg     text;
    v_n       integer;
    v_useless text;
    v_keys    text[] := '{}';
    v_ignored text[] := '{}';
    v_names   text[];
    v_fields  text[] := pg_catalog.array_fill(null::text, array[6]);
    v_isset   boolean[] := pg_catalog.array_fill(false, array[6]);
    v_value   record;
    v_col     record;
    v_sql     text;
    v_texts   text[];
    v_changed boolean[];
    v_same    boolean;
    v_other   boolean := false;
    v_hidden  boolean := false;
    v_letter  text;
    v_in_row  text;
    v_parts   text[];
    v_columns record;
    v_image   text;
begin
    -- the arguments
    if coalesce(pg_catalog.array_length(i_args, 1), 0) < 1 then
        raise exception 'pgq trigger must have destination queue as argument'
            using errcode = '22023',
                  hint = pg_catalog.format('Create trigger "%s" with the queue''s name as first argument.', i_trigger);
    end if;
    i_args := i_args[pg_catalog.array_lower(i_args, 1):pg_catalog.array_upper(i_args, 1)];
    v_queue := i_args[pg_catalog.array_lower(i_args, 1)];
    foreach v_arg in array i_args[pg_catalog.array_lower(i_args, 1) + 1:] loop
        if v_arg in ('SKIP', 'skip') then
            v_skip := true;
        elsif v_arg = 'backup' then
            v_backup := true;
        elsif v_arg = 'deny' then
            v_deny := true;
        elsif v_arg like 'ignore=%' then
            v_ignore := pg_catalog.substr(v_arg, 8);
        elsif v_arg like 'pkey=%' then
            v_given := true;
            v_pkey := pg_catalog.substr(v_arg, 6);
        else
            v_n := pg_catalog.array_position(c_names, pg_catalog.split_part(v_arg, '=', 1));
            if v_n is null or v_arg not like '%=%' then
                raise exception 'bad param to pgq trigger'
                    using errcode = '22023',
                          detail = pg_catalog.format('Trigger "%s" has the argument "%s".', i_trigger, v_arg),
                          hint = 'After the queue it takes SKIP, backup, deny, ignore=, pkey=, ev_type=, ev_data=, '
                              'ev_extra1= to ev_extra4= and when=.';
            end if;
            -- Of an option given twice the first one counts.
            v_source[v_n] := coalesce(v_source[v_n], pg_catalog.substr(v_arg, pg_catalog.strpos(v_arg, '=') + 1));
            v_has := true;
        end if;
    end loop;

    -- the table: live columns, those that rows hold
    select n.nspname, c.relname into v_schema, v_table
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = i_relid;
    select pg_catalog.array_agg(a.attname::text order by a.attnum) into v_names
    from pg_catalog.pg_attribute a
    where a.attrelid = i_relid and a.attnum > 0 and not a.attisdropped;
    v_ignored := pgq._triga_names(v_ignore, v_names);
    if v_given then
        v_keys := pgq._triga_names(v_pkey, v_names);
        if v_keys = '{}' then
            v_pkey := null;
        end if;
    else
        select coalesce(pg_catalog.array_agg(a.attname::text order by k.n), '{}') into v_keys
        from pg_catalog.pg_index i
        cross join pg_catalog.unnest(i.indkey::smallint[]) with ordinality k (attnum, n)
        join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        where i.indrelid = i_relid and i.indisprimary and k.n <= i.indnkeyatts;
        v_pkey := nullif(pg_catalog.array_to_string(v_keys, ','), '');
    end if;
    -- What the columns are, in their order. A virtual column has no value in a row.
    select coalesce(pg_catalog.array_agg(a.attname::text order by a.attnum), '{}') as name,
           coalesce(pg_catalog.array_agg(a.atttypid order by a.attnum), '{}') as type,
           coalesce(pg_catalog.array_agg(a.attgenerated <> '' order by a.attnum), '{}') as generated,
           coalesce(pg_catalog.array_agg(case when a.attname ~ '^_pgq_ev_' then
                                  coalesce(pg_catalog.array_position(c_names[:6], pg_catalog.substr(a.attname, 6)), 0) end
                              order by a.attnum), '{}') as magic
    into v_columns
    from pg_catalog.pg_attribute a
    where a.attrelid = i_relid and a.attnum > 0 and not a.attisdropped and a.attgenerated in ('', 's');
    v_names := v_columns.name;
    v_n := pg_catalog.array_position(v_columns.magic, 0);
    if v_n is not null then
        raise exception 'Unknown magic column: %', v_names[v_n]
            using errcode = '42611',
                  detail = pg_catalog.format('Table "%s.%s" has it.', v_schema, v_table),
                  hint = 'Names that begin with _pgq_ev_ are kept for _pgq_ev_type, _pgq_ev_data and _pgq_ev_extra1 to '
                      '_pgq_ev_extra4.';
    end if;
    foreach v_arg in array v_keys loop
        if v_arg <> all (v_names) then
            raise exception 'table "%.%" has no column "%"', v_schema, v_table, v_arg
                using errcode = '42703', detail = pg_catalog.format('The argument pkey= of trigger "%s" names it.', i_trigger);
        end if;
    end loop;

    -- what does not go together
    if i_op <> 'TRUNCATE' and i_level <> 'ROW' then
        raise exception 'pgq Ins/Upd/Del trigger must be fired FOR EACH ROW'
            using errcode = '39P01', detail = pg_catalog.format('Trigger "%s" fires for a whole %s statement.', i_trigger, i_op);
    end if;
    if v_skip and i_when = 'AFTER' then
        raise exception 'SKIP does not work in AFTER trigger.'
            using errcode = '22023', hint = pg_catalog.format('Create trigger "%s" BEFORE the operation.', i_trigger);
    end if;
    if i_op = 'TRUNCATE' then
        v_useless := case
            when v_ignore is not null then 'Column ignore does not make sense for truncate trigger'
            when v_given then 'Custom pkey_list does not make sense for truncate trigger'
            when v_backup then 'Backup does not make sense for truncate trigger'
            when v_has then 'Custom expressions do not make sense for truncater trigger'
        end;
        if v_useless is not null then
            raise exception '%', v_useless
                using errcode = '22023',
                      hint = pg_catalog.format('Create a trigger of its own for TRUNCATE beside "%s", without that argument.', i_trigger);
        end if;
    end if;
    if v_deny then
        raise exception 'Table ''%.%'' to queue ''%'': change not allowed (%)', v_schema, v_table, v_queue, i_op
            using errcode = '42501',
                  hint = pg_catalog.format('Change it where its events come from, or drop the trigger "%s".', i_trigger);
    end if;

    if i_op in ('UPDATE', 'DELETE') and v_pkey is null then
        raise exception 'Update/Delete on table without pkey'
            using errcode = '55000',
                  detail = pg_catalog.format('Table "%s.%s" has no primary key, and trigger "%s" names none.',
                                  v_schema, v_table, i_trigger),
                  hint = 'Add a primary key, or name the columns that stand for it in the trigger argument pkey=.';
    end if;

    if i_op = 'UPDATE' then
        -- By the bytes, since 1.0 and 1.00 are two values for whoever gets the row.
        -- A generated column is not computed yet BEFORE the row is changed.
        select pg_catalog.string_agg(case when c.generated and i_when = 'BEFORE' then 'false'
                               else pg_catalog.format('not pg_catalog.record_image_eq(row($1.%1$I), row($2.%1$I))', c.name) end,
                          ',' order by c.n) into v_sql
        from unnest(v_names, v_columns.generated) with ordinality c (name, generated, n);
        execute pg_catalog.format('select array[%s]::boolean[]', v_sql) into v_changed using i_new, i_old;
        for i in 1 .. pg_catalog.cardinality(v_names) loop
            continue when not v_changed[i];
            -- the key by its type's equality, as its index does it
            if v_names[i] = any (v_keys) then
                begin
                    execute pg_catalog.format('select pg_catalog.record_eq(row($1.%1$I), row($2.%1$I))', v_names[i])
                        into v_same using i_new, i_old;
                exception
                    when undefined_function then
                        v_same := false;
                end;
                if not v_same then
                    raise exception 'primary key update not allowed'
                        using errcode = '55000',
                              detail = pg_catalog.format('Events of table "%s.%s" name their row by its key: %s.',
                                              v_schema, v_table, v_pkey),
                              hint = 'Delete the row and insert it anew.';
                end if;
            end if;
            if v_columns.magic[i] is null then
                if v_names[i] = any (v_ignored) then
                    v_hidden := true;
                else
                    v_other := true;
                end if;
            end if;
        end loop;
    end if;

    if v_skip and i_op in ('INSERT', 'UPDATE') then
        perform pgq._triga_check_row(i_relid, i_new);
    end if;

    if v_source[7] is not null then
        v_value := pgq._triga_evaluate('when', v_source[7], v_names, i_new, i_path);
        if v_value.type <> 'boolean'::regtype then
            raise exception 'when= query result must be boolean, got=%', v_value.type
                using errcode = '42804',
                      detail = case v_value.type when 0 then 'The option is empty.'
                               else pg_catalog.format('The type of the expression is %s: %s', v_value.type::regtype, v_source[7]) end;
        elsif v_value.value is null then
            raise exception 'when= should not be NULL'
                using errcode = '22004',
                      detail = pg_catalog.format('The expression is: %s', v_source[7]),
                      hint = 'Say with coalesce() what a NULL means.';
        elsif not v_value.value::boolean then
            return v_skip;
        end if;
    end if;
    -- An UPDATE of nothing but ignored columns makes no event; one of nothing does.
    if v_hidden and not v_other then
        return v_skip;
    end if;

    -- The fields: what the format writes, unless a magic column gives it, unless an
    -- expression does.
    v_letter := case i_op when 'TRUNCATE' then 'R' else pg_catalog.left(i_op, 1) end;
    v_fields[1] := case i_format
        when 'sql' then v_letter
        when 'url' then v_letter || case i_op when 'TRUNCATE' then '' else ':' || coalesce(v_pkey, '') end
        else pg_catalog.format('{"op":"%s","table":[%s,%s],"pkey":[%s]}', i_op, pg_catalog.to_json(v_schema), pg_catalog.to_json(v_table),
                    (select pg_catalog.string_agg(pg_catalog.to_json(k.name)::text, ',' order by k.n)
                     from pg_catalog.unnest(v_keys) with ordinality k (name, n)))
    end;
    v_fields[3] := v_schema || '.' || v_table;
    if i_op = 'TRUNCATE' then
        v_fields[2] := case i_format when 'json' then '{}' else '' end;
    else
        -- Each value as its type writes it; not by a cast, which can differ.
        select pg_catalog.string_agg(pg_catalog.format('case when $1.%1$I is not distinct from null then null else pg_catalog.format(%2$L, $1.%1$I) end',
                                 c.name, '%s'), ',' order by c.n) into v_in_row
        from pg_catalog.unnest(v_names) with ordinality c (name, n);
        execute pg_catalog.format('select array[%s]::text[]', v_in_row) into v_texts using i_new;
        for i in 1 .. pg_catalog.cardinality(v_names) loop
            if v_columns.magic[i] > 0 then
                v_fields[v_columns.magic[i]] := v_texts[i];
                v_isset[v_columns.magic[i]] := true;
            end if;
        end loop;
        for i in 1 .. 6 loop
            if v_source[i] is not null then
                v_value := pgq._triga_evaluate(c_names[i], v_source[i], v_names, i_new, i_path);
                v_fields[i] := v_value.value;
                v_isset[i] := true;
            end if;
        end loop;
        if not v_isset[2] then
            if i_format = 'sql' then
                v_fields[2] := pgq._triga_sql(i_op, v_names, v_columns.magic, v_columns.generated, v_ignored, v_keys,
                                              v_changed, i_new, i_old, v_in_row, v_schema, v_table);
            else
                v_fields[2] := pgq._triga_image(i_format, v_names, v_columns.type, v_columns.magic, v_columns.generated,
                                                v_ignored, i_when = 'BEFORE' and i_op <> 'DELETE', i_new, v_in_row);
            end if;
        end if;
        if v_backup and i_op = 'UPDATE' and not v_isset[4] then
            v_fields[4] := pgq._triga_image(case i_format when 'json' then 'json' else 'url' end, v_names, v_columns.type,
                                            v_columns.magic, v_columns.generated, v_ignored, false, i_old, v_in_row);
        end if;
    end if;

    if pg_catalog.to_regprocedure('pgq.insert_event(text, text, text, text, text, text, text)') is null then
        raise exception 'function pgq.insert_event(text, text, text, text, text, text, text) does not exist'
            using errcode = '42883';
    end if;
    perform pg_catalog.set_config('search_path', i_path, true);
    perform pgq.insert_event(v_queue, v_fields[1], v_fields[2], v_fields[3], v_fields[4], v_fields[5], v_fields[6]);
    return v_skip;
end;
$$;

create or replace function pgq._triga_image(
    i_format text,
    i_names text[],
    i_types oid[],
    i_magic integer[],
    i_generated boolean[],
    i_ignored text[],
    i_uncomputed boolean,
    i_row anyelement,
    i_values text)
returns text
language plpgsql stable parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Writes a row as JSON or url-encoded.
--
-- Parameters: i_format - json or url; i_names .. i_generated - the columns; i_ignored -
--     those left out; i_uncomputed - generated columns have no value yet; i_row;
--     i_values - SQL that gives the texts of $1.
declare
    v_texts text[];
    v_iso   text;
    v_json  text[];
    v_out   text := '';
    v_text  text;
begin
    execute pg_catalog.format('select array[%s]::text[]', i_values) into v_texts using i_row;
    if i_format = 'json' then
        -- Dates and times are ISO 8601 whatever DateStyle says.
        select pg_catalog.string_agg(
                   case when c.type in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
                        then pg_catalog.format('pg_catalog.to_json($1.%I)::text', c.name) else 'null' end, ',' order by c.n)
        into v_iso
        from unnest(i_names, i_types) with ordinality c (name, type, n);
        execute pg_catalog.format('select array[%s]::text[]', v_iso) into v_json using i_row;
    end if;
    for i in 1 .. pg_catalog.cardinality(i_names) loop
        continue when i_magic[i] is not null or i_names[i] = any (i_ignored) or (i_uncomputed and i_generated[i]);
        v_text := v_texts[i];
        if i_format = 'json' then
            v_out := v_out || ',' || pg_catalog.to_json(i_names[i]) || ':' ||
                case
                    when v_text is null then 'null'
                    when i_types[i] in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) then v_text
                    when i_types[i] = 'boolean'::regtype then case v_text when 't' then 'true' else 'false' end
                    else coalesce(v_json[i], pg_catalog.to_json(v_text)::text)
                end;
        else
            v_out := v_out || '&' || pgq._triga_url(i_names[i]) || coalesce('=' || pgq._triga_url(v_text), '');
        end if;
    end loop;
    v_out := pg_catalog.substr(v_out, 2);
    return case i_format when 'json' then '{' || v_out || '}' else v_out end;
end;
$$;

create or replace function pgq._triga_sql(
    i_op text,
    i_names text[],
    i_magic integer[],
    i_generated boolean[],
    i_ignored text[],
    i_keys text[],
    i_changed boolean[],
    i_new anyelement,
    i_old anyelement,
    i_values text,
    i_schema text,
    i_table text)
returns text
language plpgsql stable parallel unsafe
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Writes a change as the tail of an SQL statement. Generated columns are left out, as
-- the receiving server computes them itself.
--
-- Parameters: i_names .. i_keys - the columns; i_changed - which of them an UPDATE
--     changed; i_new, i_old - the rows; i_values - SQL that gives the texts of $1;
--     i_schema, i_table - for the message.
-- Raises: 22004 a key column is null.
declare
    v_new   text[];
    v_old   text[];
    v_names text[] := '{}';
    v_set   text[] := '{}';
    v_where text[] := '{}';
begin
    execute pg_catalog.format('select array[%s]::text[]', i_values) into v_new using i_new;
    execute pg_catalog.format('select array[%s]::text[]', i_values) into v_old using i_old;
    for i in 1 .. pg_catalog.cardinality(i_names) loop
        if i_magic[i] is null and not i_names[i] = any (i_ignored) and not i_generated[i] then
            if i_op = 'INSERT' then
                v_names := v_names || pg_catalog.quote_ident(i_names[i]);
                v_set := v_set || coalesce(pg_catalog.ltrim(pg_catalog.quote_literal(v_new[i])), 'null');
            elsif i_changed[i] then
                v_set := v_set || (pg_catalog.quote_ident(i_names[i]) || '='
                                   || coalesce(pg_catalog.ltrim(pg_catalog.quote_literal(v_new[i])), 'NULL'));
            end if;
        end if;
        if i_names[i] = any (i_keys) and i_op <> 'INSERT' then
            if v_old[i] is null then
                raise exception 'logtriga: Unexpected NULL key value'
                    using errcode = '22004',
                          detail = pg_catalog.format('Column "%s" of table "%s.%s" is NULL.', i_names[i], i_schema, i_table),
                          hint = 'Name columns that are never NULL in the trigger argument pkey=.';
            end if;
            v_where := v_where || (pg_catalog.quote_ident(i_names[i]) || '='
                                   || pg_catalog.ltrim(pg_catalog.quote_literal(v_old[i])));
        end if;
    end loop;
    if i_op = 'INSERT' then
        if v_names = '{}' then
            return 'default values';
        end if;
        return '(' || pg_catalog.array_to_string(v_names, ',') || ') values (' || pg_catalog.array_to_string(v_set, ',') || ')';
    elsif i_op = 'DELETE' then
        return pg_catalog.array_to_string(v_where, ' and ');
    end if;
    -- Something must be set: a key column to what it is.
    if v_set = '{}' then
        v_set := v_where[1:1];
    end if;
    return pg_catalog.array_to_string(v_set, ',') || ' where ' || pg_catalog.array_to_string(v_where, ' and ');
end;
$$;

create or replace function pgq.jsontriga() returns trigger
language plpgsql stable
as $$
-- Makes an event of the change; see _triga_fire.
declare
    v_skip boolean := false;
    v_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
begin
    -- "local" is how an operator changes data behind the queues' back.
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.<>) 'local' then
        if tg_level operator(pg_catalog.<>) 'ROW' then
            v_skip := pgq._triga_fire('json', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, null::pg_catalog.text,
                                       null::pg_catalog.text, v_path);
        elsif tg_op operator(pg_catalog.=) 'INSERT' then
            v_skip := pgq._triga_fire('json', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, new, new, v_path);
        elsif tg_op operator(pg_catalog.=) 'UPDATE' then
            v_skip := pgq._triga_fire('json', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, new, old, v_path);
        else
            v_skip := pgq._triga_fire('json', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, old, old, v_path);
        end if;
    end if;
    if v_skip or tg_level operator(pg_catalog.<>) 'ROW' or tg_when operator(pg_catalog.=) 'AFTER' then
        return null;
    end if;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        return old;
    end if;
    return new;
end;
$$;

create or replace function pgq.logutriga() returns trigger
language plpgsql stable
as $$
-- Makes an event of the change; see _triga_fire.
declare
    v_skip boolean := false;
    v_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
begin
    -- "local" is how an operator changes data behind the queues' back.
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.<>) 'local' then
        if tg_level operator(pg_catalog.<>) 'ROW' then
            v_skip := pgq._triga_fire('url', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, null::pg_catalog.text,
                                       null::pg_catalog.text, v_path);
        elsif tg_op operator(pg_catalog.=) 'INSERT' then
            v_skip := pgq._triga_fire('url', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, new, new, v_path);
        elsif tg_op operator(pg_catalog.=) 'UPDATE' then
            v_skip := pgq._triga_fire('url', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, new, old, v_path);
        else
            v_skip := pgq._triga_fire('url', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, old, old, v_path);
        end if;
    end if;
    if v_skip or tg_level operator(pg_catalog.<>) 'ROW' or tg_when operator(pg_catalog.=) 'AFTER' then
        return null;
    end if;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        return old;
    end if;
    return new;
end;
$$;

create or replace function pgq.sqltriga() returns trigger
language plpgsql stable
as $$
-- Makes an event of the change; see _triga_fire.
declare
    v_skip boolean := false;
    v_path constant pg_catalog.text := pg_catalog.current_setting('search_path');
begin
    -- "local" is how an operator changes data behind the queues' back.
    if pg_catalog.current_setting('session_replication_role') operator(pg_catalog.<>) 'local' then
        if tg_level operator(pg_catalog.<>) 'ROW' then
            v_skip := pgq._triga_fire('sql', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, null::pg_catalog.text,
                                       null::pg_catalog.text, v_path);
        elsif tg_op operator(pg_catalog.=) 'INSERT' then
            v_skip := pgq._triga_fire('sql', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, new, new, v_path);
        elsif tg_op operator(pg_catalog.=) 'UPDATE' then
            v_skip := pgq._triga_fire('sql', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, new, old, v_path);
        else
            v_skip := pgq._triga_fire('sql', tg_op, tg_when, tg_level, tg_name, tg_relid, tg_argv, old, old, v_path);
        end if;
    end if;
    if v_skip or tg_level operator(pg_catalog.<>) 'ROW' or tg_when operator(pg_catalog.=) 'AFTER' then
        return null;
    end if;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        return old;
    end if;
    return new;
end;
$$;
