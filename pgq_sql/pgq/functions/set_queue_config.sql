create or replace function pgq.set_queue_config(
    x_queue_name text,
    x_param_name text,
    x_param_value text)
returns integer
language plpgsql volatile parallel unsafe security definer
set search_path = pg_catalog, pgq, pg_temp
as $$
-- Changes one setting of a queue.
--
-- Parameters: x_queue_name; x_param_name - column of pgq.queue without its
--     queue_ prefix, one of those named below; x_param_value - as text;
--     null sets per_tx_limit, extra_maint, retention and consumer_expiry to none.
-- Returns: 1.
-- Raises: 22004 null parameter; PGQ01 queue not found; 22023 no such setting, or
--     a value that makes no sense for it (negative, or an expiry of no time);
--     what the cast raises for a value of the wrong type.
-- Tables written: pgq.queue
declare
    v_allowed text[] := array['ticker_max_count', 'ticker_max_lag', 'ticker_idle_period', 'ticker_paused',
                              'rotation_period', 'external_ticker', 'disable_insert', 'per_tx_limit',
                              'extra_maint', 'notify', 'ticker_min_lag', 'retention', 'consumer_expiry'];
    v_not_null boolean;
    v_type text;
    v_bad boolean := false;
begin
    if x_queue_name is null or x_param_name is null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = 'The name of the queue or of the setting is NULL.';
    end if;
    if not x_param_name = any (v_allowed) then
        raise exception 'cannot change parameter "%"', x_param_name
            using errcode = '22023',
                  hint = format('It can change: %s.', array_to_string(v_allowed, ', '));
    end if;
    perform 1 from pgq.queue q where q.queue_name = x_queue_name;
    if not found then
        raise exception 'No such event queue'
            using errcode = 'PGQ01', detail = format('There is no queue "%s".', x_queue_name),
                  hint = 'Create it with pgq.create_queue().';
    end if;

    select format_type(a.atttypid, a.atttypmod), a.attnotnull or x_param_name = 'rotation_period'
    into strict v_type, v_not_null
    from pg_attribute a
    where a.attrelid = 'pgq.queue'::regclass
      and a.attname = 'queue_' || x_param_name;
    if x_param_value is null and v_not_null then
        raise exception 'Invalid NULL value'
            using errcode = '22004', detail = format('The value for %s is NULL.', x_param_name);
    end if;
    if v_type = 'integer' then
        v_bad := x_param_value::integer < 0;
    elsif v_type = 'interval' then
        v_bad := x_param_value::interval < '0' or (x_param_name = 'consumer_expiry' and x_param_value::interval = '0');
    end if;
    if v_bad then
        raise exception 'invalid value for parameter "%": "%"', x_param_name, x_param_value
            using errcode = '22023', detail = format('Queue "%s" keeps the value it has.', x_queue_name);
    end if;
    execute format('update pgq.queue set %I = $1::%s where queue_name = $2', 'queue_' || x_param_name, v_type)
        using x_param_value, x_queue_name;
    return 1;
end;
$$;
