package plproxy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// stormRemote is what partitions have for the storm; %d is the partition's number.
// Functions have the signatures of those that call them.
const stormRemote = `
create function public.part() returns int language sql immutable as 'select %d';
create table public.item (id int8, n int, constraint item_once unique (id, n) deferrable initially deferred);
create function public.num(i_cluster text, i_hash int, i int8) returns int8 language sql as 'select i * 10 + public.part()';
create function public.say(i_cluster text, i_hash int, i_text text) returns text language sql
    as 'select public.part() || '':'' || length(i_text) || '':'' || md5(i_text)';
create function public.blob(i_cluster text, i_hash int, i_n int) returns text language sql
    as 'select repeat(chr(97 + public.part()), i_n)';
create function public.lots(i_cluster text, i_n int) returns table (part int, k int, at date, ts timestamptz, t text) language sql as '
    select public.part(), k, date ''2000-01-01'' + k %% 9000, timestamptz ''2001-02-03 04:05:06+00'' + k * interval ''1 hour'', md5(k::text)
    from generate_series(1, i_n) k';
create function public.any_part(i_cluster text) returns int language sql as 'select 100 + public.part()';
create function public.spread(i_cluster text, i_keys int[], i_vals text[]) returns table (part int, n int, good bool) language sql as '
    select public.part(), count(*)::int, bool_and((k & 3) = public.part() and v = ''v'' || k) from unnest(i_keys, i_vals) u (k, v)';
create function public.nap(i_cluster text, i_hash int, i_ms int, i int) returns int language sql
    as 'select i from pg_sleep(i_ms / 1000.0)';
create function public.nap_all(i_cluster text, i_ms int) returns setof int language sql
    as 'select public.part() from pg_sleep(i_ms / 1000.0)';
create function public.bad(i_cluster text, i_hash int, i int) returns int language plpgsql as
    'begin raise notice ''soon''; raise exception ''bad %%'', i using errcode = ''P1234''; end';
create function public.bad_some(i_cluster text, i_n int) returns setof int language plpgsql as '
    begin
        if public.part() = 2 then
            raise exception ''bad'' using errcode = ''P1234'';
        end if;
        return query select generate_series(1, i_n);
    end';
create function public.put(i_cluster text, i_hash int, i_id int8, i_n int) returns int language sql
    as 'insert into public.item values (i_id, i_n) returning public.part()';
create function public.forget(i_cluster text, i_hash int) returns int language plpgsql
    as 'begin execute ''deallocate all''; return public.part(); end';
alter database %s set datestyle = 'sql, dmy';
alter database %s set intervalstyle = 'iso_8601'`

// stormFunctions are those of the proxy that are replaced now and then, by the same
// with other comments.
var stormFunctions = []string{
	`num(i_cluster text, i_hash int, i int8) returns int8 language plproxy as 'cluster i_cluster; run on i_hash; %s'`,
	`say(i_cluster text, i_hash int, i_text text) returns text language plproxy as 'cluster i_cluster; run on i_hash & 3; %s'`,
	`blob(i_cluster text, i_hash int, i_n int) returns text language plproxy as 'cluster i_cluster; run on i_hash; %s'`,
	`lots(i_cluster text, i_n int) returns table (part int, k int, at date, ts timestamptz, t text) language plproxy
	    as 'cluster i_cluster; run on all; %s'`,
	`any_part(i_cluster text) returns int language plproxy as 'cluster i_cluster; run on any; %s'`,
	`spread(i_cluster text, i_keys int[], i_vals text[]) returns table (part int, n int, good bool) language plproxy
	    as 'cluster i_cluster; split i_keys, i_vals; run on i_keys; %s'`,
	`nap(i_cluster text, i_hash int, i_ms int, i int) returns int language plproxy as 'cluster i_cluster; run on i_hash; %s'`,
	`nap_all(i_cluster text, i_ms int) returns setof int language plproxy as 'cluster i_cluster; run on all; %s'`,
	`bad(i_cluster text, i_hash int, i int) returns int language plproxy as 'cluster i_cluster; run on i_hash; %s'`,
	`bad_some(i_cluster text, i_n int) returns setof int language plproxy as 'cluster i_cluster; run on all; %s'`,
	`put(i_cluster text, i_hash int, i_id int8, i_n int) returns int language plproxy as 'cluster i_cluster; run on i_hash; %s'`,
	`forget(i_cluster text, i_hash int) returns int language plproxy as 'cluster i_cluster; run on i_hash; %s'`,
	// its hash is a call itself
	`deep(i_cluster text, i int8) returns int8 language plproxy
	    as 'cluster i_cluster; run on (public.num(i_cluster, i::int, i) - i * 10); select i * 10 + public.part(); %s'`,
	`by_connect(i_connstr text, i int8) returns int8 language plproxy as 'connect i_connstr; select i * 10 + public.part(); %s'`,
}

// stormLocal is what else the proxy has.
const stormLocal = `
create table public.done (id int8 primary key);
create function public.caught(i_cluster text, i_times int) returns int language plpgsql as $$
declare
    v_caught int := 0;
begin
    for i in 1..i_times loop
        begin
            perform public.num(i_cluster, i, i);
            perform public.bad(i_cluster, i, i);
        exception when sqlstate 'P1234' then
            v_caught := v_caught + 1;
            assert sqlerrm = 'bad ' || i, sqlerrm;
        end;
        begin
            perform count(*) from public.bad_some(i_cluster, i * 10);
        exception when sqlstate 'P1234' then
            v_caught := v_caught + 1;
        end;
        assert public.num(i_cluster, i, i) = i * 10 + (i & 3);
    end loop;
    return v_caught;
end $$;
create function public.looped(i_cluster text, i_n int) returns int8 language plpgsql as $$
declare
    v_row record;
    v_sum int8 := 0;
begin
    for v_row in select * from public.lots(i_cluster, i_n) loop
        v_sum := v_sum + public.num(i_cluster, v_row.part, v_row.k) - v_row.k * 10;
        exit when v_row.part = 3 and v_row.k = 2;
    end loop;
    return v_sum;
end $$;
-- a block that is undone, between two that are not
create function public.put_blocks(i_cluster text, i_id int8, i_n int) returns int language plpgsql as $$
begin
    perform public.put(i_cluster, i_n, i_id, i_n);
    begin
        perform public.put(i_cluster, i_n, i_id, 1000 + i_n);
        perform public.put(i_cluster, i_n + 1, i_id, 1000 + i_n);
        begin
            perform public.put(i_cluster, i_n + 2, i_id, 1000 + i_n);
        end;
        perform public.bad(i_cluster, i_n + 1, 1);
    exception when sqlstate 'P1234' then
        null;
    end;
    begin
        perform public.put(i_cluster, i_n + 1, i_id, i_n + 1);
    end;
    return i_n;
end $$;`

// A stormCall is a statement with one text column, and what is right to come.
type stormCall struct {
	sql   string
	want  func(rows []string) bool
	state string // the SQLSTATE that it fails with if all is well, or empty
}

func exactly(want ...string) func([]string) bool {
	return func(rows []string) bool { return slices.Equal(rows, want) }
}

// stormKinds is how many kinds of calls there are.
const stormKinds = 17

// newStormCall makes a call of a kind. "partial" says that partitions may be left out
// of those that run on all.
func newStormCall(r *rand.Rand, kind int, cluster, connstr string, partial bool) stormCall {
	hash, i := r.IntN(16), r.IntN(1000000)
	switch kind {
	case 0, 1:
		return stormCall{sql: fmt.Sprintf("select public.num('%s', %d, %d)::text", cluster, hash, i), want: exactly(strconv.Itoa(i*10 + hash&3))}
	case 2:
		// parameters beyond what a socket takes at once
		n := r.IntN(20)
		if n == 0 {
			n = 300000
		}
		return stormCall{
			sql: fmt.Sprintf("select public.say('%s', %d, x) = %d || ':' || length(x) || ':' || md5(x) from (select repeat('y%d', %d) x) y",
				cluster, hash, hash&3, i, n),
			want: exactly("t"),
		}
	case 3:
		n := 1 + r.IntN(1<<(1+r.IntN(20)))
		return stormCall{
			sql:  fmt.Sprintf("select (b = repeat('%c', %d))::text from public.blob('%s', %d, %d) b", 'a'+hash&3, n, cluster, hash, n),
			want: exactly("true"),
		}
	case 4, 5:
		n := 1 + r.IntN(1<<(1+r.IntN(12)))
		return stormCall{
			sql: fmt.Sprintf(`select count(*) || ' ' || count(*) filter (where at is distinct from date '2000-01-01' + k %% 9000
				or ts is distinct from timestamptz '2001-02-03 04:05:06+00' + k * interval '1 hour' or t is distinct from md5(k::text)
				or k <> (o - 1) %% %d + 1) || ' ' || count(distinct part) from public.lots('%s', %d) with ordinality l (part, k, at, ts, t, o)`, n, cluster, n),
			want: func(rows []string) bool {
				for parts := 4; parts > 0; parts-- {
					if exactly(fmt.Sprintf("%d 0 %d", parts*n, parts))(rows) {
						return true
					}
					if !partial {
						break
					}
				}
				return false
			},
		}
	case 6:
		return stormCall{sql: fmt.Sprintf("select public.any_part('%s')::text", cluster), want: func(rows []string) bool {
			return len(rows) == 1 && slices.Contains([]string{"100", "101", "102", "103"}, rows[0])
		}}
	case 7:
		n := 1 + r.IntN(2000)
		return stormCall{
			sql: fmt.Sprintf(`select sum(n) || ' ' || bool_and(good) from public.spread('%s', array(select generate_series(1, %d)),
				array(select 'v' || generate_series(1, %d)))`, cluster, n, n),
			want: exactly(fmt.Sprintf("%d true", n)),
		}
	case 8:
		return stormCall{sql: fmt.Sprintf("select public.nap('%s', %d, %d, %d)::text", cluster, hash, r.IntN(1<<r.IntN(6)), i), want: exactly(strconv.Itoa(i))}
	case 9:
		return stormCall{sql: fmt.Sprintf("select string_agg(p::text, '' order by p) from public.nap_all('%s', %d) p", cluster, r.IntN(1<<r.IntN(6))),
			want: func(rows []string) bool {
				return len(rows) == 1 && (rows[0] == "0123" || partial && len(rows[0]) > 0 && strings.Trim(rows[0], "0123") == "")
			}}
	case 10:
		return stormCall{sql: fmt.Sprintf("select public.bad('%s', %d, %d)::text", cluster, hash, i), state: "P1234"}
	case 11:
		call := stormCall{sql: fmt.Sprintf("select count(*)::text from public.bad_some('%s', %d)", cluster, 1+r.IntN(3000)), state: "P1234"}
		if partial {
			call.state, call.want = "", func(rows []string) bool { return len(rows) == 1 }
		}
		return call
	case 12:
		times := 1 + r.IntN(8)
		want := 2 * times
		if partial {
			want = times
		}
		return stormCall{sql: fmt.Sprintf("select public.caught('%s', %d)::text", cluster, times), want: func(rows []string) bool {
			// a partition that is left out raises nothing
			return exactly(strconv.Itoa(want))(rows) || partial && len(rows) == 1
		}}
	case 13:
		n := 2 + r.IntN(60)
		return stormCall{sql: fmt.Sprintf("select public.looped('%s', %d)::text", cluster, n), want: func(rows []string) bool {
			return exactly(strconv.Itoa(n+2*n+3*2))(rows) || partial && len(rows) == 1
		}}
	case 14:
		// several sets in one target list, and one of which not all is wanted
		return stormCall{
			sql: fmt.Sprintf(`select a || ' ' || b || ' ' || c from (select (public.lots('%[1]s', 2)).k a, (public.lots('%[1]s', 2)).part b,
				public.num('%[1]s', %[2]d, %[3]d) c limit 5) x limit 2`, cluster, hash, i),
			want: func(rows []string) bool {
				last := " " + strconv.Itoa(i*10+hash&3)
				return exactly("1 0"+last, "2 0"+last)(rows) || partial && len(rows) == 2
			},
		}
	case 15:
		return stormCall{sql: fmt.Sprintf("select public.deep('%s', %d)::text", cluster, hash), want: exactly(strconv.Itoa(hash*10 + hash&3))}
	default:
		return stormCall{sql: fmt.Sprintf("select public.by_connect('%s', %d)::text", connstr, i), want: exactly(strconv.Itoa(i * 10))}
	}
}
