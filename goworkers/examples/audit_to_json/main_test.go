package main

// The program as users run it, killed in the middle of a batch.

import (
	"bufio"
	"context"
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

// read reads the lines of all files, by the file's name.
func read(t *testing.T, dir string) map[string][]entry {
	t.Helper()
	all := map[string][]entry{}
	paths, err := filepath.Glob(filepath.Join(dir, "*.json"))
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
			all[filepath.Base(path)] = append(all[filepath.Base(path)], e)
		}
	}
	return all
}

const done = `select sub_batch is null and sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription`

func TestChangesAreWrittenByDay(t *testing.T) {
	t.Parallel()
	program, db, dir := example.Build(t, &config{}), shop(t), t.TempDir()
	ctx, conn := context.Background(), db.Conn(t)
	db.Exec(t, `insert into public.users values ('O''Reilly', e'"õ"\n\\')`)
	db.Exec(t, `update public.users set note = null`)
	db.Exec(t, `truncate public.users`)
	db.Exec(t, `select pgq.insert_event('audit', 'other', 'x')`)
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	midnight := time.Date(2026, 3, 1, 0, 0, 0, 0, time.FixedZone("", 2*60*60)) // a day earlier in UTC
	_, err = pgq.BulkInsert(ctx, tx, "audit", func(yield func(*pgq.Event, error) bool) {
		for day := range 5 {
			ev := pgq.Event{Type: pgq.Text("D:name"), Data: pgq.Text("name=x"), Extra1: pgq.Text("public.users"), Time: midnight.AddDate(0, 0, day)}
			if !yield(&ev, nil) {
				return
			}
		}
	})
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "select pgq.force_tick('audit'); select pgq.ticker()")
	program.Start(t, "src_db="+db.DSN, "audit_dir="+dir)
	db.WaitFor(t, done)
	all := read(t, dir)
	for day, want := range []string{"2026-02-28", "2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"} {
		if got := all[want+".json"]; len(got) != 1 || !got[0].Time.Equal(midnight.AddDate(0, 0, day)) || got[0].Op != "D" {
			t.Errorf("%s has %+v", want, got)
		}
		delete(all, want+".json")
	}
	var today []entry
	for _, lines := range all {
		today = append(today, lines...)
	}
	row, changed := pgq.Row{"name": pgq.Text("O'Reilly"), "note": pgq.Text("\"õ\"\n\\"), "n": pgq.Text("0")}, pgq.Row{"name": pgq.Text("O'Reilly"), "note": {}, "n": pgq.Text("0")}
	for i, want := range []entry{
		{Op: "I", Table: "public.users", Row: row}, {Op: "U", Table: "public.users", Row: changed, Old: row}, {Op: "R", Table: "public.users", Row: pgq.Row{}},
	} {
		if len(today) != 3 {
			t.Fatalf("today's lines are %+v", today)
		}
		got := today[i]
		got.Event, got.Batch, got.Time = 0, 0, time.Time{}
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
	var want []int64
	size := func() (n int64) {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil {
				n += info.Size()
			}
		}
		return n
	}
	for round := range 3 {
		db.Exec(t, `insert into public.users select format('u%s.%s', $1::int, n), repeat('x', 100) from generate_series(1, $2::int) n`, round, rows)
		db.Exec(t, "select pgq.force_tick('audit'); select pgq.ticker()")
		before := size()
		run := program.Start(t, "src_db="+db.DSN, "audit_dir="+dir)
		pgtest.Eventually(t, 20*time.Second, "a part of the batch is written", func() bool { return size() > before+100000 })
		run.Kill()
		if pgtest.Value[bool](t, db, done) {
			t.Errorf("round %d: the batch was done before the kill", round)
		}
		// What was written last was cut off, in a way that no process killed here may show.
		paths, _ := filepath.Glob(filepath.Join(dir, "*.json"))
		slices.Sort(paths)
		if err := os.Truncate(paths[len(paths)-1], func() int64 { info, _ := os.Stat(paths[len(paths)-1]); return info.Size() - 20 }()); err != nil {
			t.Fatal(err)
		}
		run = program.Start(t, "src_db="+db.DSN, "audit_dir="+dir)
		db.WaitFor(t, done)
		run.Kill()
	}
	rowsWant, err := db.Conn(t).Query(context.Background(), "select ev_id from pgq.event_template order by ev_id")
	if err != nil {
		t.Fatal(err)
	}
	for rowsWant.Next() {
		var id int64
		if err := rowsWant.Scan(&id); err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	var got []int64
	for _, lines := range read(t, dir) {
		for _, line := range lines {
			got = append(got, line.Event)
		}
	}
	slices.Sort(got)
	if len(want) != 3*rows || !slices.Equal(got, want) {
		t.Errorf("%d lines, %d events, or they differ", len(got), len(want))
	}
}

func TestFilesOfSeveralWritersAreRefused(t *testing.T) {
	t.Parallel()
	program := example.Build(t, &config{})
	run := program.Start(t, "src_db=dbname=none", "consumer_slots=2", "audit_dir="+t.TempDir())
	pgtest.Eventually(t, 10*time.Second, "it says why", func() bool { return len(run.Log()) > 0 })
	if said := run.Log(); said != "audit_to_json: audit_to_json: the files have one writer: take consumer_slots away\n" {
		t.Errorf("it said %q", said)
	}
}
