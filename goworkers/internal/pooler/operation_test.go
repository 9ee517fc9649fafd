package pooler

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// traffic runs queries on several connections until the returned func is called,
// which gives how many were done and the first error.
func (r *rig) traffic(db string, n int) func() (int64, error) {
	r.t.Helper()
	var done atomic.Int64
	var first atomic.Pointer[error]
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range n {
		conn := r.connect(db)
		wg.Go(func() {
			for ctx.Err() == nil {
				limit, stop := context.WithTimeout(context.Background(), 30*time.Second)
				_, err := conn.Exec(limit, "select 1")
				stop()
				if err != nil {
					first.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	r.waitFor("traffic runs", func() bool { return done.Load() > 0 })
	return func() (int64, error) {
		cancel()
		wg.Wait()
		if err := first.Load(); err != nil {
			return done.Load(), *err
		}
		return done.Load(), nil
	}
}

func TestPauseHoldsTrafficAndResumeLosesNothing(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=3")})
	stop := r.traffic("d", 8)
	for range 5 {
		r.console("pause d")
		if row := r.pool("d"); row["sv_active"] != "0" || row["sv_idle"] != "0" {
			t.Fatalf("paused with servers: %v", row)
		}
		r.waitFor("clients queue", func() bool { return r.pool("d")["cl_waiting"] == "8" })
		r.console("resume d")
		r.waitFor("servers work", func() bool { return r.pool("d")["sv_login"] == "0" })
	}
	r.console("pause")
	if rows := r.console("show state"); rows[1]["value"] != "yes" {
		t.Fatalf("state: %v", rows)
	}
	r.console("resume")
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
	for sql, want := range map[string]string{
		"resume d": "database d is not paused", "resume": "pooler is not paused/suspended", "pause nowhere": "no such database: nowhere",
	} {
		if _, err := r.command(sql); err == nil || pgError(t, err).Message != want {
			t.Errorf("%s: %v", sql, err)
		}
	}
}

// PAUSE waits for a transaction; canceling it resumes.
func TestPauseWaitsAndCanBeCanceled(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	a := r.connect("d")
	exec(t, a, "begin")
	admin, err := pgconn.Connect(background(t), r.dsn("pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	got := make(chan error, 1)
	go func() {
		_, err := admin.Exec(background(t), "pause d").ReadAll()
		got <- err
	}()
	r.waitFor("paused", func() bool { return r.database("d")["paused"] == "1" })
	if err := admin.CancelRequest(background(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err == nil {
		t.Fatal("PAUSE is done within a transaction")
	}
	if r.database("d")["paused"] != "0" {
		t.Fatal("still paused")
	}
	exec(t, a, "commit")
	exec(t, a, "select 1")
}

func (r *rig) database(name string) map[string]string {
	for _, row := range r.console("show databases") {
		if row["name"] == name {
			return row
		}
	}
	return nil
}

func TestReloadAddsChangesAndRemovesDatabases(t *testing.T) {
	db, other := pgtest.DB(t), pgtest.DB(t)
	r := start(t, config{databases: entry("d", db) + "\n" + entry("gone", db)})
	a, g := r.connect("d"), r.connect("gone")
	if got := value[string](t, a, "select current_database()::text"); got != db.Name {
		t.Fatalf("in %s", got)
	}
	stop := r.traffic("d", 3)
	r.write(config{databases: entry("d", db) + "\n" + entry("new", other)})
	r.console("reload")
	if got := value[string](t, r.connect("new"), "select current_database()::text"); got != other.Name {
		t.Fatalf("new leads to %s", got)
	}
	if _, err := g.Exec(background(t), "select 1"); err == nil || pgError(t, err).Message != "database removed" {
		t.Fatalf("client of the removed database: %v", err)
	}
	// A broken file is refused, and everything goes on.
	r.write(config{databases: entry("d", db) + "\n" + entry("new", other), settings: "no_such_setting = 1"})
	_, err := r.command("reload")
	if e := pgError(t, err); e.Code != "F0000" || e.Message != "RELOAD failed, see logs for additional details" {
		t.Fatalf("got %v", e)
	}
	r.waitFor("the log names the setting", func() bool { return strings.Contains(r.log.String(), "no_such_setting") })
	// The name leads elsewhere now: idle servers are replaced, the client stays.
	r.write(config{databases: entry("d", other) + "\n" + entry("new", other)})
	r.p.Signal(syscall.SIGHUP)
	r.waitFor("d leads elsewhere", func() bool { return value[string](t, a, "select current_database()::text") == other.Name })
	if _, err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestClientsWaitForAServerThatIsAway(t *testing.T) {
	server := pgtest.Server(t)
	r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=postgres pool_size=2", server.Port), settings: "server_login_retry = 0.2"})
	a, idle := r.connect("d"), r.connect("d")
	exec(t, idle, "select 1")
	exec(t, a, "begin")
	server.Stop(t)
	if _, err := a.Exec(background(t), "select 1"); err == nil {
		t.Fatal("a query succeeds without a server")
	}
	waiting := make(chan error, 2)
	go func() { waiting <- r.tryQuery("d") }()
	go func() {
		_, err := idle.Exec(background(t), "select 1")
		waiting <- err
	}()
	r.waitFor("both wait", func() bool { return r.pool("d")["cl_waiting"] == "2" })
	r.waitLog("server login failed: connect failed: connection refused")
	r.sweeps(3)
	if n := strings.Count(r.log.String(), "server login failed: "); n != 1 {
		t.Errorf("%d lines tell of the same failure", n)
	}
	if len(waiting) > 0 {
		t.Errorf("a client does not wait: %v", <-waiting)
	}
	server.Start(t)
	for range 2 {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
}

// tryQuery logs in and runs a query.
func (r *rig) tryQuery(db string) error {
	conn, err := pgconn.Connect(background(r.t), r.dsn(db))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(background(r.t), "select 1").ReadAll()
	return err
}

func TestLimitsOnClients(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{
		databases: entry("d", db) + "\n" + entry("few", db, "max_db_client_connections=1"),
		settings:  "max_client_conn = 3",
	})
	r.connect("d")
	r.connect("few")
	if e := r.refused("few"); e.Message != "client connections exceeded (max_db_client_connections)" {
		t.Fatalf("got %v", e)
	}
	last := r.connect("d")
	if e := r.refused("d"); e.Message != "no more connections allowed (max_client_conn)" || e.Code != "08P01" {
		t.Fatalf("got %v", e)
	}
	// The console is still to be reached.
	r.console("show version")
	last.Close(background(t))
	r.waitFor("the place is free", func() bool { return r.tryQuery("d") == nil })
	r.console("disable d")
	if e := r.refused("d"); e.Message != `database "d" is disabled` {
		t.Fatalf("got %v", e)
	}
	r.console("enable d")
	r.connect("d").Close(background(t))
}

func TestTimeouts(t *testing.T) {
	db := pgtest.DB(t)
	for _, tc := range []struct{ setting, sql, want string }{
		{"query_timeout = 0.3", "select pg_catalog.pg_sleep(60)", "query timeout"},
		{"transaction_timeout = 0.3", "begin; select pg_catalog.pg_sleep(60)", "transaction timeout"},
		{"idle_transaction_timeout = 0.3", "begin", "idle transaction timeout"},
		{"client_idle_timeout = 0.3", "select 1", "client_idle_timeout"},
	} {
		t.Run(tc.want, func(t *testing.T) {
			r := start(t, config{databases: entry("d", db), settings: tc.setting})
			conn, err := pgconn.Connect(background(t), r.dsn("d"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if _, err = conn.Exec(background(t), tc.sql).ReadAll(); err == nil {
				// The message comes by itself.
				err = conn.WaitForNotification(background(t))
			}
			if e, ok := asPgError(err); !ok || e.Message != tc.want || e.Severity != "FATAL" {
				t.Fatalf("got %v", err)
			}
		})
	}
	t.Run("query_wait_timeout", func(t *testing.T) {
		r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "query_wait_timeout = 0.3"})
		a, b := r.connect("d"), r.connect("d")
		exec(t, a, "begin")
		if _, err := b.Exec(background(t), "select 1"); err == nil || pgError(t, err).Message != "query_wait_timeout" {
			t.Fatalf("got %v", err)
		}
	})
	t.Run("query_wait_notify", func(t *testing.T) {
		r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "query_wait_notify = 0.1"})
		a := r.connect("d")
		exec(t, a, "begin")
		cfg, err := pgconn.ParseConfig(r.dsn("d"))
		if err != nil {
			t.Fatal(err)
		}
		notices := make(chan string, 8)
		cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices <- n.Severity + " " + n.Message }
		b, err := pgconn.ConnectConfig(background(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close(context.Background())
		for range 2 {
			done := make(chan error, 1)
			go func() {
				_, err := b.Exec(context.Background(), "select 1").ReadAll()
				done <- err
			}()
			if n := <-notices; n != "NOTICE No server connection available in postgres backend, client being queued" {
				t.Fatalf("got %q", n)
			}
			r.sweeps(2)
			exec(t, a, "commit")
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if len(notices) > 0 {
				t.Fatalf("told again: %q", <-notices)
			}
			exec(t, a, "begin")
		}
	})
}

func TestOwnUserIsAdminOverTheUnixSocket(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "auth_type = md5"})
	conn, err := pgconn.Connect(background(t), r.dsn("pgbouncer", "user=pgbouncer", "host="+r.dir))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(background(t), "pause d; ").ReadAll(); err != nil {
		t.Fatal(err)
	}
	if e := r.refused("pgbouncer", "user=pgbouncer password=x"); e.Message != "password authentication failed" {
		t.Fatalf("over TCP: %v", e)
	}
}

func TestFallbackDatabase(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("*", db)})
	// dbname= of the entry wins over the name asked for.
	if got := value[string](t, r.connect("whatever"), "select current_database()::text"); got != db.Name {
		t.Fatalf("in %s", got)
	}
	r.waitFor("the log tells", func() bool { return strings.Contains(r.log.String(), "registered new auto-database") })
}

// sweeps waits until time has done its work n times.
func (r *rig) sweeps(n int) {
	r.t.Helper()
	for range n {
		done := make(chan struct{})
		r.p.main.loop.Post(func() { r.p.main.sweep(); close(done) })
		<-done
	}
}

func TestStrangersMakeNoDatabases(t *testing.T) {
	r := start(t, config{databases: entry("*", pgtest.DB(t)), settings: "auth_type = md5\nautodb_idle_timeout = 0.1",
		authFile: "\"postgres\" \"right\"\n"})
	if e := r.refused("made_up", "password=wrong"); e.Message != "password authentication failed" {
		t.Fatalf("got %v", e)
	}
	if log := r.log.String(); strings.Contains(log, "auto-database") {
		t.Fatalf("a client that may not log in has made a database:\n%s", log)
	}
	// Nor is one that is let in refused because the database had nobody meanwhile.
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "slow"}}))
	request := skipTo(t, conn, pgwire.MsgAuthentication)
	r.waitFor("time to forget databases", func() bool { return time.Since(r.p.main.loop.Start()) > 200*time.Millisecond })
	r.sweeps(1)
	conn.Write(pgwire.AppendPassword(nil, pgwire.MD5Answer(pgwire.MD5Secret("postgres", "right"), [4]byte(request[4:]))))
	skipTo(t, conn, pgwire.MsgReadyForQuery)
}

func TestShutdownWaitsForWork(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		r := start(t, config{databases: entry("d", pgtest.DB(t))})
		a := r.connect("d")
		exec(t, a, "begin")
		r.p.Signal(sig)
		r.waitFor("no more clients come in", func() bool { return r.tryQuery("d") != nil })
		exec(t, a, "select 1")
		exec(t, a, "commit")
		if sig == syscall.SIGTERM {
			exec(t, a, "select 1")
			a.Close(background(t))
		}
		select {
		case err := <-r.done:
			r.done <- err
		case <-time.After(20 * time.Second):
			t.Fatalf("%v: it does not end", sig)
		}
	}
}
