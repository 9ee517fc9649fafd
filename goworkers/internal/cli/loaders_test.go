package cli

// The loaders as processes: their ini files, and a kill in the middle of a batch.

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"goworkers/internal/pgtest"
)

func TestLoadersRunAsTheirHelpSays(t *testing.T) {
	t.Parallel()
	src, dst := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq_ext")
	src.Exec(t, `create table public.orders (id int primary key, username text, amount numeric, ordered_at timestamp);
		select pgq.create_queue('orders');
		create trigger q after insert or update or delete on public.orders for each row execute function pgq.logutriga('orders')`)
	dst.Exec(t, `create schema stats; create role reporting_of_the_test;
		create table public.orders (id int, username text, amount numeric, ordered_at timestamp);
		create table stats.orders (id int primary key, username text, amount numeric, ordered_at timestamp)`)
	t.Cleanup(func() { dst.Exec(t, "drop owned by reporting_of_the_test; drop role reporting_of_the_test") })
	dbs := fmt.Sprintf("src_db = %s\ndst_db = %s\nloop_delay = 0\npgq_queue_name = orders\n", src.DSN, dst.DSN)
	jobs := map[string]string{
		"table_dispatcher": dbs + `job_name = by_day
dest_table = public.orders
fields = id, username, amount, ordered_at
part_field = ordered_at
part_method = daily
part_template = create table _DEST_TABLE (like _PARENT including all);
    grant select on _DEST_TABLE to reporting_of_the_test;
`,
		"cube_dispatcher": dbs + `job_name = cube
mode = keep_latest
dateformat = YYYY_"cube"
part_template = create table _DEST_TABLE (like _PARENT);
    alter table only _DEST_TABLE add primary key (_PKEY);
`,
		"bulk_loader":  dbs + "job_name = bulk\nremap_tables = public.orders:stats.orders\nload_method = 0\n",
		"queue_loader": dbs + "job_name = all\nrow_mode = bulk\ntable_mode = split\nsplit_part = %(table_name)s_%(year)s_all\n",
	}
	inis := map[string]string{}
	for job, text := range jobs {
		inis[job] = setupIni(t, job, text)
		if code, _, stderr := call(t, link(t, job), "--register", inis[job]); code != 0 {
			t.Fatalf("%s --register: %d, %q", job, code, stderr)
		}
	}
	src.Exec(t, `insert into public.orders select i, 'user ' || i, i * 1.5, timestamp '2026-11-30 12:00' + i * interval '1 hour' from generate_series(1, 20) i;
		update public.orders set amount = 7 where id = 1; delete from public.orders where id = 2`)
	src.Exec(t, "select pgq.force_tick('orders'); select pgq.ticker('orders')")
	for job, ini := range inis {
		if code, _, stderr := call(t, link(t, job), ini); code != 0 || !strings.Contains(stderr, "{count: 22, duration: ") {
			t.Errorf("%s: %d, %q", job, code, stderr)
		}
		if code, stdout, stderr := call(t, link(t, job), "--ini"); code != 0 || !strings.Contains(stdout, "["+job+"]") || !strings.Contains(stdout, "on_bad_event") {
			t.Errorf("%s --ini: %d, %q, %q", job, code, stdout, stderr)
		}
	}
	year := pgtest.Value[string](t, dst, "select to_char(now(), 'YYYY')")
	want := src.Rows(t, "select * from public.orders order by id")
	for _, table := range []string{"public.orders_" + year + "_cube", "stats.orders", "public.orders_" + year + "_all"} {
		if got := dst.Rows(t, "select * from "+table+" order by id"); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", table, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if got := pgtest.Value[string](t, dst, `select (select count(*) from public.orders_2026_11_30) || ' ' || (select count(*) from public.orders_2026_12_01)
		|| ' ' || has_table_privilege('reporting_of_the_test', 'public.orders_2026_12_01', 'select')`); got != "13 9 true" {
		t.Errorf("parts of the table dispatcher: %s", got)
	}
}

func TestBulkLoaderKeepsCountThroughKills(t *testing.T) {
	t.Parallel()
	src, dst := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq_ext")
	const table = "create table public.items (id int primary key, value text)"
	src.Exec(t, table+`; select pgq.create_queue('items');
		create trigger q after insert or update or delete on public.items for each row execute function pgq.logutriga('items')`)
	dst.Exec(t, table)
	ini := setupIni(t, "bulk_loader", fmt.Sprintf("job_name = loader\nsrc_db = %s\ndst_db = %s\npgq_queue_name = items\nloop_delay = 0.01\nexception_sleep = 0.01\n", src.DSN, dst.DSN))
	loader := link(t, "bulk_loader")
	if code, _, stderr := call(t, loader, "--register", ini); code != 0 {
		t.Fatalf("--register: %d, %q", code, stderr)
	}
	// Each batch holds the target up for a moment in another step of it.
	dst.Exec(t, `create function public.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(0.002); return new; end $$;
		create trigger slow before insert or update on public.items for each row when (new.id % 50 = 0) execute function public.slow()`)
	const rounds = 8
	for round := range rounds {
		src.Exec(t, fmt.Sprintf(`insert into public.items select i, 'ä' || %d from generate_series(%d, %d) i on conflict (id) do update set value = excluded.value;
			delete from public.items where id %% 7 = %[1]d %% 7`, round, round*200, round*200+600))
		src.Exec(t, "select pgq.force_tick('items'); select pgq.ticker('items')")
		cmd := exec.Command(loader, "-q", ini)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round < rounds-1 {
			dst.WaitFor(t, `select exists (select from pg_stat_activity where application_name = 'loader' and datname = current_database() and state <> 'idle')
				or exists (select from pgq_ext.completed_tick where last_tick_id > $1)`, round+1)
		} else {
			src.WaitFor(t, `select s.sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription s`)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
	}
	got, want := dst.Rows(t, "select * from public.items order by id"), src.Rows(t, "select * from public.items order by id")
	if len(want) < 500 || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d rows at the target, %d at the source, and they differ", len(got), len(want))
	}
}
