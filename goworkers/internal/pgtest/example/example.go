// Package example runs the programs of examples/ in tests as users run them: built, with
// the ini file of their package comment, in processes that can be killed.
package example

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// linesMax is what an example may have: more is not read.
const linesMax = 60

// Program is a built example with its ini file.
type Program struct {
	name, path, ini string
}

// Build builds the program whose source is in the test's own folder. Its ini file is the
// sample in the comment of main.go, which must have all that cfg requires.
func Build(t testing.TB, cfg batch.Config) *Program {
	t.Helper()
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "\n"); n >= linesMax {
		t.Errorf("main.go has %d lines, and shall have less than %d", n, linesMax)
	}
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{name: filepath.Base(folder)}
	p.path, p.ini = filepath.Join(t.TempDir(), p.name), filepath.Join(t.TempDir(), p.name+".ini")
	comment, _, _ := strings.Cut(string(source), "\npackage main")
	var sample strings.Builder
	for _, line := range strings.Split(comment, "\n") {
		if text, found := strings.CutPrefix(line, "//\t"); found {
			sample.WriteString(text + "\n")
		}
	}
	if err := os.WriteFile(p.ini, []byte(sample.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	section, err := batch.Load(p.ini, p.name, batch.LoadOptions{})
	if err != nil {
		t.Fatalf("the sample in main.go: %v", err)
	}
	if err := section.Decode(cfg); err != nil {
		t.Fatalf("the sample in main.go: %v", err)
	}
	if out, err := exec.Command("go", "build", "-o", p.path, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return p
}

// Process is a running program.
type Process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	log strings.Builder
}

// Start runs the program with settings (key=value) over its ini file. It is killed at the
// latest when the test ends.
func (p *Program) Start(t testing.TB, settings ...string) *Process {
	t.Helper()
	run := &Process{}
	var args []string
	for _, setting := range append([]string{"loop_delay=0.02", "exception_sleep=0.05", "log_level=debug"}, settings...) {
		args = append(args, "--set", setting)
	}
	run.cmd = exec.Command(p.path, append(args, p.ini)...)
	run.cmd.Stderr = run
	if err := run.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, run.Log())
		}
	})
	return run
}

// Kill ends the process at once, as kill -9 does, and waits for its end.
func (p *Process) Kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // it was killed
	}
}

// Write takes what the process says.
func (p *Process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(text)
}

// Log is what the process has said so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Database makes a database with pgq and what else is named, and with what a file of SQL
// creates in it.
func Database(t testing.TB, file string, extensions ...string) *pgtest.Database {
	t.Helper()
	db := pgtest.DB(t, append([]string{"pgq"}, extensions...)...)
	schema, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, string(schema))
	return db
}

// Tick ticks the queues of a database until the test ends.
func Tick(t testing.TB, db *pgtest.Database) { beat(t, db, "select") }

// TickAndRetry also brings events back at once that are to be retried later.
func TickAndRetry(t testing.TB, db *pgtest.Database) {
	beat(t, db, "update pgq.retry_queue set ev_retry_after = now() where ev_dead_time is null and ev_retry_after > now()")
}

func beat(t testing.TB, db *pgtest.Database, first string) {
	t.Helper()
	db.Exec(t, "update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	conn := db.Conn(t)
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		beat := time.NewTicker(20 * time.Millisecond)
		defer beat.Stop()
		for ctx.Err() == nil {
			_, err := conn.Exec(ctx, first)
			if err == nil {
				_, err = pgq.MaintRetryEvents(ctx, conn)
			}
			if err == nil {
				_, err = pgq.Ticker(ctx, conn)
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("ticker: %v", err)
				return
			}
			<-beat.C
		}
	}()
}

// Reasons are the reasons of all events that were given up, in order.
func Reasons(t testing.TB, db *pgtest.Database) []string {
	t.Helper()
	return db.Rows(t, "select reason from pgq.dead_letter order by reason")
}
