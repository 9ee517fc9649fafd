package main

// The program as users run it, killed in the middle of a batch.

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/internal/pgtest/example"
	"goworkers/pgq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shop(t *testing.T) *pgtest.Database {
	t.Helper()
	schema := t.TempDir() + "/shop.sql"
	if err := os.WriteFile(schema, []byte(`
		select pgq.create_queue('audit');
		select pgq.register_consumer('audit', 'audit_to_json');
		create table public.users (name text primary key, note text, n int default 0);
		create trigger log after insert or update or delete on public.users
			for each row execute function pgq.logutriga('audit', 'backup');
		create trigger log_all after truncate on public.users for each statement execute function pgq.jsontriga('audit');`), 0o600); err != nil {
		t.Fatal(err)
	}
	return example.Database(t, schema)
}

// read reads the lines of all files that are whole, by the files' names.
func read(t *testing.T, dir string) (all []entry, paths []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for lines := bufio.NewScanner(file); lines.Scan(); {
			var e entry
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatalf("%s: %q: %v", path, lines.Text(), err)
			}
			all = append(all, e)
		}
	}
	return all, paths
}

const done = `select sub_batch is null and sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription`

func TestChangesAreWrittenByDay(t *testing.T) {
	t.Parallel()
	program, db, dir := example.Build(t, &config{}), shop(t), t.TempDir()
	db.Exec(t, `insert into public.users values ('O''Reilly', e'"õ"\n\\')`)
	db.Exec(t, `update public.users set note = null`)
	db.Exec(t, `truncate public.users`)
	db.Exec(t, `select pgq.insert_event('audit', 'other', 'x')`)
	db.Exec(t, "select pgq.force_tick('audit'); select pgq.ticker()")
	db.Exec(t, "update pgq.tick set tick_time = '2026-03-01 00:30+02' where tick_id = (select max(tick_id) from pgq.tick)") // a day earlier in UTC
	db.Exec(t, "select pgq.force_tick('audit'); select pgq.ticker()")                                                       // a batch without events
	program.Start(t, "src_db="+db.DSN, "audit_dir="+dir, "pgq_batch_collect_interval=0")
	db.WaitFor(t, done)
	all, paths := read(t, dir)
	if len(paths) != 1 || filepath.Dir(paths[0]) != filepath.Join(dir, "2026-02-28") {
		t.Errorf("files %q, want one of 2026-02-28", paths)
	}
	row, changed := pgq.Row{"name": pgq.Text("O'Reilly"), "note": pgq.Text("\"õ\"\n\\"), "n": pgq.Text("0")}, pgq.Row{"name": pgq.Text("O'Reilly"), "note": {}, "n": pgq.Text("0")}
	for i, want := range []entry{
		{Op: "I", Table: "public.users", Row: row}, {Op: "U", Table: "public.users", Row: changed, Old: row}, {Op: "R", Table: "public.users", Row: pgq.Row{}},
	} {
		if len(all) != 3 {
			t.Fatalf("the lines are %+v", all)
		}
		got := all[i]
		if got.Event == 0 || time.Since(got.Time) > time.Hour {
			t.Errorf("line %d has id %d and time %s", i+1, got.Event, got.Time)
		}
		got.Event, got.Time = 0, time.Time{}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("line %d is %+v, want %+v", i+1, got, want)
		}
	}
	if got := example.Reasons(t, db); len(got) != 1 {
		t.Errorf("given up for %q", got)
	}
}

func TestKillsLoseAndDoubleNoLine(t *testing.T) {
	t.Parallel()
	program, db, dir := example.Build(t, &config{}), shop(t), t.TempDir()
	const rows = 20000
	for round := range 3 {
		db.Exec(t, `insert into public.users select format('u%s.%s', $1::int, n), repeat('x', 100) from generate_series(1, $2::int) n`, round, rows)
		db.Exec(t, "select pgq.force_tick('audit'); select pgq.ticker()")
		run := program.Start(t, "src_db="+db.DSN, "audit_dir="+dir, "pgq_batch_collect_interval=0")
		pgtest.Eventually(t, 20*time.Second, "a part of the batch is written", func() bool {
			paths, _ := filepath.Glob(filepath.Join(dir, "*", "*.new"))
			info, err := os.Stat(append(paths, dir+"/none")[0])
			return err == nil && info.Size() > 100000
		})
		run.Kill()
		if pgtest.Value[bool](t, db, done) {
			t.Errorf("round %d: the batch was done before the kill", round)
		}
		run = program.Start(t, "src_db="+db.DSN, "audit_dir="+dir, "pgq_batch_collect_interval=0")
		db.WaitFor(t, done)
		run.Kill()
		// The last finish is undone: the batch comes again, and replaces its file.
		db.Exec(t, "select pgq.register_consumer_at('audit', 'audit_to_json', (select max(tick_id) - 1 from pgq.tick))")
		run = program.Start(t, "src_db="+db.DSN, "audit_dir="+dir, "pgq_batch_collect_interval=0")
		db.WaitFor(t, done)
		run.Kill()
	}
	var want, got []string
	want = db.Rows(t, "select ev_id from pgq.event_template order by ev_id")
	all, _ := read(t, dir)
	slices.SortFunc(all, func(a, b entry) int { return int(a.Event - b.Event) })
	for _, line := range all {
		got = append(got, fmt.Sprint(line.Event))
	}
	if len(want) != 3*rows || !slices.Equal(got, want) {
		t.Errorf("%d lines, %d events, or they differ", len(got), len(want))
	}
}
