package consumers

// What the tests of all jobs share: jobs made from ini files, run like processes.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// starter starts a job with the text of its ini section, as a new process would.
type starter func(job *batch.Job) (batch.Worker, error)

// load reads the text as a section into cfg.
func load(t *testing.T, service string, cfg batch.Config, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job.ini")
	if err := os.WriteFile(path, []byte("["+service+"]\n"+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := batch.LoadConfig(service, cfg, batch.Options{Path: path}); err != nil {
		t.Fatal(err)
	}
}

// logText is a log that a test may read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// newJob makes a job that is closed when the test ends.
func newJob(t *testing.T, service string, cfg batch.JobConfig) (*batch.Job, *logText) {
	t.Helper()
	log := new(logText)
	job, err := batch.NewJob(service, cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { job.Close() })
	return job, log
}

// drain works as a process of its own until there is nothing more to do.
func drain(t *testing.T, service string, cfg batch.JobConfig, start starter) (string, error) {
	t.Helper()
	job, log := newJob(t, service, cfg)
	defer job.Close()
	worker, err := start(job)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if more, err := worker.Work(t.Context()); err != nil || !more {
			return log.String(), err
		}
	}
}

// stopAtEachStep cuts a job off before and after each of its requests, and runs it
// again. Produce makes work, and check looks whether all of it is done.
func stopAtEachStep(t *testing.T, faults *pgtest.Faults, produce func(), run func() error, check func() error) {
	t.Helper()
	produce()
	faults.Count()
	if err := run(); err != nil {
		t.Fatal(err)
	}
	steps := faults.Steps()
	for step := 1; step <= steps; step++ {
		for _, mode := range []struct {
			name string
			cut  func(int)
		}{{"before", faults.CutBefore}, {"after", faults.CutAfter}} {
			produce()
			mode.cut(step)
			if err := run(); err == nil || !faults.Cut() {
				t.Fatalf("cut %s step %d: error %v, cut %v", mode.name, step, err, faults.Cut())
			}
			if err := run(); err != nil {
				t.Fatalf("cut %s step %d of %d: not recovered: %v", mode.name, step, steps, err)
			}
			if err := check(); err != nil {
				t.Fatalf("cut %s step %d of %d: %v", mode.name, step, steps, err)
			}
		}
	}
	t.Logf("stopped before and after each of %d requests", steps)
}

// sameRows compares what is there with what should be there.
func sameRows(got, want []string) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("\ngot  %s\nwant %s", brief(got), brief(want))
	}
	return nil
}

// noneLost is sameRows where rows may come twice.
func noneLost(got, want []string) error {
	return sameRows(slices.Compact(slices.Sorted(slices.Values(got))), slices.Compact(slices.Sorted(slices.Values(want))))
}

func brief(rows []string) string {
	var out strings.Builder
	for _, row := range rows {
		if len(row) > 100 {
			row = fmt.Sprintf("%s… (%d bytes)", row[:100], len(row))
		}
		fmt.Fprintf(&out, "%s; ", row)
	}
	return out.String()
}

// batchOf makes a batch of events.
func batchOf(t *testing.T, conn *pgx.Conn, queue string, events ...pgq.Event) {
	t.Helper()
	insert(t, conn, queue, events...)
	tick(t, conn, queue)
}

// users are rows that are hard to carry.
var users = []pgq.Row{
	{"username": pgq.Text("ann"), "email": pgq.Text("ann@example.com"), "score": pgq.Text("1")},
	{"username": pgq.Text("O'Hara; drop table public.users --"), "email": {}, "score": pgq.Text("-2")},
	{"username": pgq.Text(`back\slash "quoted" $1 %(x)s %%`), "email": pgq.Text(""), "score": {}},
	{"username": pgq.Text("Õie Järv 日本 🦫"), "email": pgq.Text("a&b=c+d%20\t\r\n"), "score": pgq.Text("9223372036854775807")},
}

// bigUser has a value of 10 MB.
func bigUser() pgq.Row {
	return pgq.Row{"username": pgq.Text("big"), "email": pgq.Text(strings.Repeat("Õ'\\&=%", 10<<20/7)), "score": pgq.Text("3")}
}

func userRow(u pgq.Row) string {
	text := func(name string) string {
		if v := u[name]; v.Valid {
			return v.String
		}
		return "NULL"
	}
	return text("username") + "|" + text("email") + "|" + text("score")
}

// rowEvent is an event as pgq.logutriga writes it.
func rowEvent(u pgq.Row) pgq.Event {
	return pgq.Event{Type: pgq.Text("I:username"), Data: pgq.Text(u.Encode()), Extra1: pgq.Text("public.users")}
}

// usersDB is a target with a table without a key, so that what comes twice shows, and
// a function that refuses what is not to be borne.
func usersDB(t *testing.T) *pgtest.Database {
	t.Helper()
	db := pgtest.DB(t, "pgq_ext")
	db.Exec(t, usersSQL)
	return db
}

const usersSQL = `
	create table public.users (n bigserial, username text, email text, score bigint);
	create function public.note(i_username text, i_email text, i_score bigint) returns table (noted text) language plpgsql as $$
	begin
		if i_username = 'evil' then
			raise exception 'no such user: %', i_username;
		end if;
		insert into public.users (username, email, score) values (i_username, i_email, i_score);
		return query select i_username;
	end $$`

// noted are the rows of the target in the order in which they came.
func noted(t *testing.T, db *pgtest.Database) []string {
	t.Helper()
	return db.Rows(t, `select username, email, score from public.users order by n`)
}

// running runs a worker under the job's own loop until the test ends.
func running(t *testing.T, service string, cfg batch.JobConfig, start starter) *logText {
	t.Helper()
	cfg.LoopDelay, cfg.ExceptionSleep = time.Millisecond, 10*time.Millisecond
	job, log := newJob(t, service, cfg)
	worker, err := start(job)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- job.Run(ctx, worker.Work) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: Run = %v", service, err)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", service, log)
		}
	})
	return log
}
