package batch

// Errors that are no alarm at first.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
)

func TestErrorsByTheirClasses(t *testing.T) {
	server := func(code string) error {
		return fmt.Errorf("apply batch 7: %w", &pgconn.PgError{Severity: "ERROR", Code: code, Message: "x"})
	}
	_, noFile := os.Open("/nonexistent/file")
	refused := &ConnectError{Host: "h", Err: &net.OpError{Op: "dial", Err: errors.New("connection refused")}}
	for _, tc := range []struct {
		name string
		err  error
		in   []string
		out  []string
	}{
		{"a server that stops", server("57P01"),
			[]string{"57P01", "57", "OperationalError", "psycopg2.OperationalError", "psycopg2.errors.AdminShutdown", "DatabaseError", "psycopg2.Error", "Exception"},
			[]string{"57P02", "08", "ProgrammingError", "InterfaceError", "OSError", "TimeoutError"}},
		{"a deadlock", server("40P01"),
			[]string{"40", "DeadlockDetected", "psycopg2.extensions.TransactionRollbackError", "OperationalError"},
			[]string{"SerializationFailure", "IntegrityError"}},
		{"no such table", server("42P01"), []string{"42", "psycopg2.ProgrammingError"}, []string{"OperationalError", "DataError"}},
		{"a refused connection", refused, []string{"OperationalError", "InterfaceError", "ConnectionError", "psycopg2.Error"}, []string{"08", "IntegrityError", "TimeoutError"}},
		{"a lost connection", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), []string{"OperationalError"}, []string{"DataError"}},
		{"no such file", noFile, []string{"OSError", "IOError", "EnvironmentError", "socket.error"}, []string{"Error", "OperationalError"}},
		{"no answer in time", context.DeadlineExceeded, []string{"TimeoutError", "socket.timeout"}, []string{"OSError"}},
		{"an error of the program", errors.New("unknown field"), []string{"Exception", "StandardError"}, []string{"Error", "KeyError", "XX000"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, name := range tc.in {
				if !(Quiet{Classes: []string{"23", name}}).covers(tc.err) {
					t.Errorf("%s does not cover it", name)
				}
			}
			if (Quiet{Classes: tc.out}).covers(tc.err) {
				t.Errorf("one of %v covers it", tc.out)
			}
		})
	}
}

// Warnings within the grace, which begins anew only after a long time without errors.
func TestQuietErrorsBecomeAlarms(t *testing.T) {
	const grace, reset = 300 * time.Second, 900 * time.Second
	quiet := &pgconn.PgError{Code: "57P01", Message: "terminating connection"}
	loud := &pgconn.PgError{Code: "42P01", Message: "no such table"}
	type step struct {
		at   time.Duration
		err  error  // nil is success
		want string // level told, "" for none
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"a short trouble", []step{{0, quiet, "WARNING"}, {200 * time.Second, quiet, ""}, {250 * time.Second, nil, "INFO"}}},
		{"a long one", []step{{0, quiet, "WARNING"}, {299 * time.Second, quiet, ""}, {300 * time.Second, quiet, "ERROR"}, {320 * time.Second, quiet, ""}, {5000 * time.Second, quiet, ""}}},
		{"another error", []step{{0, loud, "ERROR"}, {10 * time.Second, quiet, "WARNING"}, {20 * time.Second, loud, ""}}},
		{"one that comes and goes", []step{{0, quiet, "WARNING"}, {10 * time.Second, nil, "INFO"},
			{200 * time.Second, quiet, "WARNING"}, {210 * time.Second, nil, "INFO"}, {301 * time.Second, quiet, "ERROR"}}},
		{"a second one after long peace", []step{{0, quiet, "WARNING"}, {10 * time.Second, nil, "INFO"},
			{910 * time.Second, quiet, "WARNING"}, {1209 * time.Second, quiet, ""}, {1210 * time.Second, quiet, "ERROR"}}},
		{"one too soon", []step{{0, quiet, "WARNING"}, {10 * time.Second, nil, "INFO"}, {899 * time.Second, quiet, "ERROR"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			job, out := setupJob(t, JobConfig{LogLevel: "info"})
			begin := time.Now()
			var now time.Time
			trouble := Trouble{Quiet: Quiet{Classes: []string{"OperationalError"}, Grace: grace, Reset: reset}, now: func() time.Time { return now }}
			for _, s := range tc.steps {
				now = begin.Add(s.at)
				before := len(out.String())
				if s.err != nil {
					trouble.Note(job.Log, s.err, time.Second)
				} else {
					trouble.Over(job.Log)
				}
				told := out.String()[before:]
				if (s.want == "") != (told == "") || !strings.Contains(told, s.want) {
					t.Errorf("after %s: %v is told as %q, want %q", s.at, s.err, told, s.want)
				}
			}
		})
	}
}

// The keys, and an error of a real server.
func TestQuietErrorIsAWarning(t *testing.T) {
	d := pgtest.DB(t)
	ini := writeIni(t, "[cleaner]\ndb = "+d.DSN+"\nloop_delay = 3600\nexception_sleep = 0.001\nexception_quiet = psycopg2.OperationalError, 0A, KeyError\n")
	var cfg cleanerConfig
	out := &console{}
	rounds := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := RunWorker(ctx, "cleaner", &cfg, Options{Path: ini, Stderr: out}, func(job *Job) (Worker, error) {
		return WorkerFunc(func(ctx context.Context) (bool, error) {
			db, err := job.DB(ctx, "db", cfg.DB)
			if err != nil {
				return false, err
			}
			if rounds++; rounds == 2 {
				_, err = db.Exec(ctx, `select pg_terminate_backend(pg_backend_pid())`)
				return false, err
			}
			if rounds == 3 {
				cancel()
			}
			return true, nil
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"0A", "KeyError"}; !slices.Equal(cfg.ExceptionQuiet[1:], want) || cfg.ExceptionGrace != 5*time.Minute || cfg.ExceptionReset != 15*time.Minute {
		t.Errorf("got %v, %s, %s", cfg.ExceptionQuiet, cfg.ExceptionGrace, cfg.ExceptionReset)
	}
	log := out.String()
	for _, want := range []string{
		"WARNING work failed, will be tried again error=", "SQLSTATE 57P01", "INFO recovered",
		`[cleaner] exception_quiet = "psycopg2.OperationalError, 0A, KeyError": "KeyError" names no errors that a job can have`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	if strings.Contains(log, " ERROR ") {
		t.Errorf("an alarm:\n%s", log)
	}
}
