package batch

// A whole job, from its command line to its work on a real server.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"goworkers/internal/pgtest"
)

// cleanerConfig is the example of the package doc.
type cleanerConfig struct {
	JobConfig
	DB  ConnString `ini:"db" required:"true" help:"database to clean"`
	Max int        `ini:"max" default:"2"`
}

func cleaner(cfg *cleanerConfig) func(job *Job) (Worker, error) {
	return func(job *Job) (Worker, error) {
		return WorkerFunc(func(ctx context.Context) (bool, error) {
			db, err := job.DB(ctx, "db", cfg.DB)
			if err != nil {
				return false, err
			}
			tag, err := db.Exec(ctx, `delete from public.dirt where n in (select n from public.dirt order by n limit $1)`, cfg.Max)
			job.Stats.Add("count", int(tag.RowsAffected()))
			return tag.RowsAffected() > 0, err
		}), nil
	}
}

func TestMainDoesTheWork(t *testing.T) {
	d := pgtest.DB(t)
	d.Exec(t, `create table public.dirt as select n from generate_series(1, 5) n`)
	ini := writeIni(t, "[cleaner]\ndb = "+d.DSN+"\nloop_delay = 0\n")
	var cfg cleanerConfig
	var stdout, stderr bytes.Buffer
	err := mainRun(t.Context(), "cleaner", &cfg, []string{"--set", "max=3", ini}, &stdout, &stderr, cleaner(&cfg))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(stderr.String(), " INFO {count: 5}\n") || stdout.Len() != 0 {
		t.Errorf("got %q and %q", stdout.String(), stderr.String())
	}
	if n := pgtest.Value[int64](t, d, `select count(*) from public.dirt`); n != 0 {
		t.Errorf("%d rows left", n)
	}
}

func TestMainAnswers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		args   []string
		code   int
		stdout string // contained in it
		stderr string // all of it
	}{
		{"help", []string{"-h"}, 0, "usage: cleaner [options] CONFIG.ini", ""},
		{"sample", []string{"--ini"}, 0, "[cleaner]\n\n# database to clean\ndb =\n", ""},
		{"nothing", nil, 2, "", "cleaner: no configuration file given; usage: cleaner [options] CONFIG.ini (--ini prints a sample)\n"},
		{"bad switch", []string{"-z"}, 2, "", "cleaner: flag provided but not defined: -z; -h lists the options\n"},
		{"switch behind the file", []string{"a.ini", "--ini"}, 0, "[cleaner]", ""},
		{"two files", []string{"-v", "a.ini", "-q", "b.ini"}, 2, "", "cleaner: too many arguments: [\"a.ini\" \"b.ini\"]; want one, the ini file\n"},
		{"bad --set", []string{"--set", "x", "a.ini"}, 2, "", "cleaner: invalid value \"x\" for flag -set: --set \"x\": write key=value; -h lists the options\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var cfg cleanerConfig
			var stdout, stderr bytes.Buffer
			err := mainRun(t.Context(), "cleaner", &cfg, tc.args, &stdout, &stderr, cleaner(&cfg))
			code := Report(&stderr, "cleaner", err)
			if code != tc.code || !strings.Contains(stdout.String(), tc.stdout) || stderr.String() != tc.stderr {
				t.Errorf("got %d, %q, %q\nwant %d, %q, %q", code, stdout.String(), stderr.String(), tc.code, tc.stdout, tc.stderr)
			}
		})
	}
}

// A reload takes a right configuration, and refuses a wrong one whole.
func TestRunWorkerReloads(t *testing.T) {
	ini := writeIni(t, "[cleaner]\ndb = dbname=x\nloop_delay = 3600\nmax = 1\n")
	rewrite := func(text string) {
		if err := os.WriteFile(ini, []byte("[cleaner]\ndb = dbname=x\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	var cfg cleanerConfig
	out := &console{}
	var seen []int
	err := RunWorker(t.Context(), "cleaner", &cfg, Options{Path: ini, Stderr: out}, func(job *Job) (Worker, error) {
		max := cfg.Max
		if max == 99 {
			return nil, fmt.Errorf("99 is too many")
		}
		return WorkerFunc(func(context.Context) (bool, error) {
			seen = append(seen, max)
			switch len(seen) {
			case 1:
				rewrite("loop_delay = 3600\nmax = some\n")
			case 2:
				rewrite("loop_delay = 3600\nmax = 99\n")
			case 3:
				if cfg.Max != 1 {
					t.Errorf("max is %d after two refused reloads", cfg.Max)
				}
				rewrite("loop_delay = 0\nmax = 4\n")
			}
			return false, nil
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(seen) != "[1 1 1 4]" {
		t.Errorf("rounds saw max = %v, want [1 1 1 4]", seen)
	}
	log := out.String()
	if strings.Count(log, "ERROR reload failed, going on as before") != 2 || strings.Count(log, "INFO configuration reloaded") != 1 ||
		!strings.Contains(log, "99 is too many") || !strings.Contains(log, `max = \"some\": is not a whole number`) {
		t.Errorf("log:\n%s", log)
	}
}

// A reload with another connection string leads to another database, and what cannot
// change is told.
func TestReloadConnectsAnew(t *testing.T) {
	d, e := pgtest.DB(t), pgtest.DB(t)
	dir := t.TempDir()
	text := func(dsn, more string) string { return "[cleaner]\ndb = " + dsn + "\nloop_delay = 3600\n" + more }
	ini := writeIni(t, text(d.DSN, "logfile = "+dir+"/a.log\n"))
	var cfg cleanerConfig
	out := &console{}
	var databases []string
	var first *pgx.Conn
	err := RunWorker(t.Context(), "cleaner", &cfg, Options{Path: ini, Stderr: out}, func(job *Job) (Worker, error) {
		return WorkerFunc(func(ctx context.Context) (bool, error) {
			db, err := job.DB(ctx, "db", cfg.DB)
			if err != nil {
				return false, err
			}
			var name string
			if err := db.QueryRow(ctx, `select current_database()`).Scan(&name); err != nil {
				return false, err
			}
			databases = append(databases, name)
			switch len(databases) {
			case 1:
				first = db
				if err := os.WriteFile(ini, []byte(text(e.DSN, "job_name = other\nlogfile = "+dir+"/b.log\npidfile = "+dir+"/b.pid\n"+
					"metrics_listen = 127.0.0.1:0\nsyslog = 1\njournald = 1\nlog_format = json\nlog_level = debug\nlog_size = 1\nlog_count = 7\n")), 0o600); err != nil {
					return false, err
				}
				return false, syscall.Kill(os.Getpid(), syscall.SIGHUP)
			case 2:
				c := job.Config
				if c.JobName != "mover_a" || c.LogFile != dir+"/a.log" || c.PidFile != "" || c.MetricsListen != "" || c.UseSyslog || c.Journald {
					t.Errorf("what cannot change did: %+v", c)
				}
				if c.LogLevel != "debug" || job.file.limit != 1 || job.file.count != 7 {
					t.Errorf("what can change did not: %+v", c)
				}
				job.Log.Debug("the last word")
			}
			return false, syscall.Kill(os.Getpid(), syscall.SIGINT)
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(databases); got != fmt.Sprint([]string{d.Name, e.Name}) || !first.IsClosed() {
		t.Errorf("worked on %s, the first closed: %v; want %s, %s", got, first.IsClosed(), d.Name, e.Name)
	}
	log := out.String()
	for _, key := range []string{"job_name", "logfile", "pidfile", "metrics_listen", "syslog", "journald"} {
		if !regexp.MustCompile(`WARNING the changed key takes effect at the next start is=\S+ key=` + key + " ").MatchString(log) {
			t.Errorf("nothing is said about %s", key)
		}
	}
	if strings.Count(log, "takes effect at the next start") != 6 || !strings.Contains(log, `"msg":"the last word"`) {
		t.Errorf("log:\n%s", log)
	}
}

// pid is the server process behind a connection.
func pid(t *testing.T, c *pgx.Conn) uint32 {
	t.Helper()
	return c.PgConn().PID()
}

func TestJobKeepsItsConnections(t *testing.T) {
	d, e := pgtest.DB(t), pgtest.DB(t)
	job, _ := setupJob(t, JobConfig{JobName: "keeper", ConnectionLifetime: time.Hour})
	get := func(dsn string) *pgx.Conn {
		c, err := job.DB(t.Context(), "db", ConnString(dsn))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := get(d.DSN)
	if again := get(d.DSN); again != first {
		t.Error("the second call opened another connection")
	}
	var name string
	if err := first.QueryRow(t.Context(), `select current_setting('application_name')`).Scan(&name); err != nil || name != "keeper" {
		t.Errorf("application_name is %q, %v", name, err)
	}
	other := get(e.DSN)
	if !first.IsClosed() || other.Config().Database != e.Name {
		t.Error("another connection string did not replace the connection")
	}
	job.conns["db"].opened = time.Now().Add(-2 * time.Hour)
	job.recycle()
	if !other.IsClosed() {
		t.Error("an old connection was kept")
	}
	job.DropConnections()
	if len(job.conns) != 0 {
		t.Error("connections are left")
	}
}

// The server ends the connection in the middle of a round: told once, and the
// work goes on with another connection.
func TestJobSurvivesALostConnection(t *testing.T) {
	d := pgtest.DB(t)
	job, out := setupJob(t, JobConfig{LoopDelay: time.Hour, ExceptionSleep: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pids []uint32
	err := job.Run(ctx, func(ctx context.Context) (bool, error) {
		db, err := job.DB(ctx, "db", ConnString(d.DSN))
		if err != nil {
			return false, err
		}
		pids = append(pids, pid(t, db))
		if len(pids) == 1 {
			d.Exec(t, `select pg_terminate_backend($1)`, pids[0])
		} else {
			cancel()
		}
		_, err = db.Exec(ctx, `select 1`)
		return false, err
	})
	if err != nil || len(pids) != 2 || pids[0] == pids[1] {
		t.Errorf("got %v with connections %v", err, pids)
	}
	if strings.Count(out.String(), " ERROR ") != 1 || strings.Count(out.String(), "INFO recovered") != 1 {
		t.Errorf("log:\n%s", out)
	}
}

// A connection serves behind a pooler that gives each transaction another
// server, and does not wait for ever; both can be set otherwise.
func TestConnectIsFitForPoolers(t *testing.T) {
	d := pgtest.DB(t)
	for _, tc := range []struct {
		name, more string
		prepared   int
		timeout    time.Duration
	}{
		{"by default", "", 0, connectTimeout},
		{"as the connection string says", " default_query_exec_mode=cache_statement connect_timeout=0", 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var timeout time.Duration
			c, err := Connect(t.Context(), ConnString(d.DSN+tc.more), "test", func(cfg *pgx.ConnConfig) { timeout = cfg.ConnectTimeout })
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(t.Context())
			var prepared int
			if err := c.QueryRow(t.Context(), `select count(*) from pg_prepared_statements where statement like $1`, "%").Scan(&prepared); err != nil {
				t.Fatal(err)
			}
			if prepared != tc.prepared || timeout != tc.timeout {
				t.Errorf("%d prepared statements, timeout %s; want %d, %s", prepared, timeout, tc.prepared, tc.timeout)
			}
		})
	}
}

// The server notices when we vanish, unless the connection string says otherwise.
func TestServerWatchesItsClient(t *testing.T) {
	server := pgtest.Server(t, "tcp_keepalives_count=7")
	for _, tc := range []struct{ name, more, want string }{
		{"by default, but for what the server has set", "", "7 10 5 30000"},
		{"as the connection string says", " tcp_keepalives_idle=99 tcp_user_timeout=12345", "7 99 5 12345"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Connect(t.Context(), ConnString(server.DSN+tc.more), "test")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(t.Context())
			var got string
			if err := c.QueryRow(t.Context(), `select string_agg(setting, ' ' order by name)
				from pg_settings where name like 'tcp%'`).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("count, idle, interval, timeout = %s, want %s", got, tc.want)
			}
		})
	}
}

// So do we of the server: what is sent must be received in time.
func TestWeWatchTheServer(t *testing.T) {
	server := pgtest.Server(t)
	c, err := Connect(t.Context(), ConnString(server.DSN), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	raw, err := c.PgConn().Conn().(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[int]int{unix.TCP_KEEPIDLE: 10, unix.TCP_KEEPINTVL: 5, unix.TCP_KEEPCNT: 4, unix.TCP_USER_TIMEOUT: 30000} {
		var got int
		var fault error
		if err := raw.Control(func(fd uintptr) { got, fault = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option) }); err != nil || fault != nil {
			t.Fatal(err, fault)
		}
		if got != want {
			t.Errorf("socket option %d = %d, want %d", option, got, want)
		}
	}
}

// A server that takes connections and says nothing is one that cannot be reached.
func TestConnectGivesUpOnASilentServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err = Connect(ctx, ConnString(fmt.Sprintf("host=127.0.0.1 port=%d dbname=d user=u", listener.Addr().(*net.TCPAddr).Port)),
		"test", func(cfg *pgx.ConnConfig) { cfg.ConnectTimeout = min(cfg.ConnectTimeout, 100*time.Millisecond) })
	var unreachable *ConnectError
	if !errors.As(err, &unreachable) || !IsConnectionLost(err) || ctx.Err() != nil {
		t.Errorf("got %v", err)
	}
}

func TestConnectErrorNamesAllButThePassword(t *testing.T) {
	_, err := Connect(t.Context(), "host=127.0.0.1 port=1 dbname=d user=u password=secret", "test")
	if err == nil || err.Error() != `cannot connect to database "d" at 127.0.0.1:1 as user "u": connection refused; start the server, or correct host and port` {
		t.Errorf("got %v", err)
	}
	if !IsConnectionLost(err) || ExitCode(err) != 1 {
		t.Error("a refused connection is a lost one")
	}
	_, err = Connect(t.Context(), "password=secret port=oh", "test")
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	for in, want := range map[ConnString]string{
		"dbname=x password=secret host=h":       "dbname=x password=*** host=h",
		"dbname=x password = 'a b\\' c' host=h": "dbname=x password = *** host=h",
		"host=h password='hun ter2 dbname=x":    "host=h password=***",
		"postgres://u:secret@h/db":              "postgres://u:***@h/db",
		"postgres://h/db?password=secret&x=y":   "postgres://h/db?password=***&x=y",
	} {
		if got := in.String(); got != want {
			t.Errorf("%q shows as %q, want %q", string(in), got, want)
		}
	}
}

func TestMetricsOfAJob(t *testing.T) {
	job, _ := setupJob(t, JobConfig{JobName: "mover_a", MetricsListen: "127.0.0.1:0"})
	if families, err := job.Metrics.Gather(); err != nil || strings.Contains(fmt.Sprint(families), "last_success") {
		t.Errorf("a last success before the first round, %v", err)
	}
	if err := job.Run(t.Context(), func(context.Context) (bool, error) { return false, nil }); err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + job.MetricsAddr() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	for _, want := range []string{
		`skytools_job_rounds_total{job_name="mover_a",outcome="ok",service="test"} 1`,
		`skytools_job_last_success_timestamp_seconds{job_name="mover_a",service="test"} `,
	} {
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%v, no %s in\n%s", err, want, body)
		}
	}
	_, err = NewJob("test", JobConfig{MetricsListen: job.MetricsAddr()}, nil)
	if err == nil || !strings.Contains(err.Error(), "listen on metrics_listen = "+job.MetricsAddr()+": ") {
		t.Errorf("a port that is taken: %v", err)
	}
}
