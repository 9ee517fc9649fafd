package pooler

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/ini"
)

func TestMain(m *testing.M) {
	if conf := os.Getenv(processEnv); conf != "" {
		os.Exit(serveInProcess(conf))
	}
	goleak.VerifyTestMain(m)
}

// logBuffer keeps the log for the test to look at.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a pooler that runs in the test's process.
type rig struct {
	t    testing.TB
	p    *Pooler
	dir  string
	port int
	conf string // the file
	log  logBuffer
	done chan error
}

// config is what a test's pooler differs in.
type config struct {
	databases string // lines
	users     string // lines of [users]
	settings  string // lines of [pgbouncer], after the common ones
	authFile  string
	options   Options // beside Log and Warnings
}

func (r *rig) write(c config) {
	r.t.Helper()
	if c.authFile == "" {
		c.authFile = `"postgres" ""` + "\n"
	}
	users := filepath.Join(r.dir, "users.txt")
	text := fmt.Sprintf("[databases]\n%s\n[users]\n%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir = %s\n"+
		"auth_type = trust\nauth_file = %s\nadmin_users = postgres\npool_mode = transaction\nserver_login_retry = 0.2\n%s\n",
		c.databases, c.users, r.port, r.dir, users, c.settings)
	for path, text := range map[string]string{r.conf: text, users: c.authFile} {
		// At once: a reload that was asked for before may read it now.
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			r.t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			r.t.Fatal(err)
		}
	}
}

// start runs a pooler until the test ends.
func start(t testing.TB, c config) *rig {
	t.Helper()
	r := newRig(t, c)
	// Another process may take a port between our asking for a free one and listening.
	for r.p == nil {
		cfg, warnings, err := ini.Load(r.conf)
		if err != nil {
			t.Fatal(err)
		}
		c.options.Log, c.options.Warnings = &r.log, warnings
		if r.p, err = New(cfg, c.options); err != nil && !strings.Contains(err.Error(), "address already in use") {
			t.Fatal(err)
		}
		if r.p == nil {
			r.choosePort(c)
		}
	}
	go func() { r.done <- r.p.Run() }()
	t.Cleanup(func() {
		r.p.main.loop.Stop()
		if err := <-r.done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the pooler:\n%s", r.log.String())
		}
	})
	return r
}

// newRig writes the configuration of a pooler and starts none.
func newRig(t testing.TB, c config) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "pooler.") // t.TempDir would be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, conf: filepath.Join(dir, "pgbouncer.ini"), done: make(chan error, 1)}
	r.choosePort(c)
	return r
}

// choosePort writes the configuration with a port that is free.
func (r *rig) choosePort(c config) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	r.write(c)
}

// dsn leads through the pooler; more is added to it and wins.
func (r *rig) dsn(db string, more ...string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable dbname=%s %s", r.port, db, strings.Join(more, " "))
}

// background ends with the test, and after a minute.
func background(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (r *rig) connect(db string, more ...string) *pgx.Conn {
	r.t.Helper()
	cfg, err := pgx.ParseConfig(r.dsn(db, more...))
	if err != nil {
		r.t.Fatal(err)
	}
	// Named statements do not outlive a transaction here.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(background(r.t), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// refused gives the error of a login that must fail.
func (r *rig) refused(db string, more ...string) *pgconn.PgError {
	r.t.Helper()
	conn, err := pgconn.Connect(background(r.t), r.dsn(db, more...))
	if err == nil {
		conn.Close(context.Background())
		r.t.Fatalf("login to %s %v succeeds", db, more)
	}
	return pgError(r.t, err)
}

func pgError(t testing.TB, err error) *pgconn.PgError {
	t.Helper()
	e, ok := asPgError(err)
	if !ok {
		t.Fatalf("no error message of the protocol: %v", err)
	}
	return e
}

// console runs commands; the rows are those of the last one.
func (r *rig) console(sql string) []map[string]string {
	r.t.Helper()
	rows, err := r.command(sql)
	if err != nil {
		r.t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

func (r *rig) command(sql string) ([]map[string]string, error) {
	ctx := background(r.t)
	conn, err := pgconn.Connect(ctx, r.dsn("pgbouncer"))
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	last := results[len(results)-1]
	var rows []map[string]string
	for _, row := range last.Rows {
		m := map[string]string{}
		for i, f := range last.FieldDescriptions {
			m[f.Name] = string(row[i])
		}
		rows = append(rows, m)
	}
	return rows, nil
}

// pool is the line of SHOW POOLS for a database.
func (r *rig) pool(db string) map[string]string {
	r.t.Helper()
	for _, row := range r.console("show pools") {
		if row["database"] == db {
			return row
		}
	}
	return map[string]string{}
}

func (r *rig) waitFor(what string, done func() bool) {
	r.t.Helper()
	pgtest.Eventually(r.t, 20*time.Second, what, done)
}

// entry is a line of [databases] that leads to a test's database.
func entry(name string, db *pgtest.Database, more ...string) string {
	cfg, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s = host=%s port=%d dbname=%s %s", name, cfg.Host, cfg.Port, db.Name, strings.Join(more, " "))
}

func value[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(background(t), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func exec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(background(t), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
