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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// logged counts the lines of the log that say something.
func (r *rig) logged(what string) int { return strings.Count(r.log.String(), what) }

func TestReconnectGoesAtItsRate(t *testing.T) {
	t.Parallel()
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			t.Parallel()
			r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=6 min_pool_size=6"), settings: fmt.Sprintf("reconnect_rate = 3\nthreads = %d", threads)})
			a := r.connect("d")
			exec(t, a, "select 1")
			r.waitFor("six servers", func() bool { return r.pool("d")["sv_idle"] == "6" })
			began := time.Now()
			stop := r.traffic("d", 3)
			r.console("reconnect d")
			r.console("wait_close d")
			if took := time.Since(began); took < time.Second || took > 15*time.Second {
				t.Errorf("six servers at three a second took %s", took)
			}
			r.waitFor("the log tells of six", func() bool { return r.logged("closing because: obsolete connection") == 6 })
			if _, err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestServersLogInInParallel(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for parallel, want := range map[int]int64{1: 1, 4: 4} {
		t.Run(fmt.Sprint(parallel), func(t *testing.T) {
			port, most := slowLogin(t, db)
			r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s pool_size=9 min_pool_size=9", port, db.Name),
				settings: fmt.Sprintf("server_parallel_connects = %d\nserver_tls_sslmode = disable", parallel)})
			exec(t, r.connect("d"), "select 1")
			r.waitFor("the pool is filled", func() bool { return r.pool("d")["sv_idle"] == "9" })
			if got := most.Load(); got != want {
				t.Errorf("%d logins at a time, want %d", got, want)
			}
		})
	}
}

// slowLogin leads to a database, whose answers take 50 ms; most is how many
// connections were logging in at a time.
func slowLogin(t *testing.T, db *pgtest.Database) (port int, most *atomic.Int64) {
	t.Helper()
	cfg, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	most = &atomic.Int64{}
	var now atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []net.Conn
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", cfg.Port))
			if err != nil {
				client.Close()
				continue
			}
			mu.Lock()
			all = append(all, client, server)
			mu.Unlock()
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			pipe := func(to, from net.Conn, wait time.Duration) {
				buf := make([]byte, 16<<10)
				for {
					n, err := from.Read(buf)
					if wait > 0 {
						time.Sleep(wait)
						now.Add(-1)
						wait = 0
					}
					to.Write(buf[:n])
					if err != nil {
						to.Close()
						return
					}
				}
			}
			wg.Go(func() { pipe(server, client, 0) })
			wg.Go(func() { pipe(client, server, 50*time.Millisecond) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range all {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).Port, most
}

func TestFastCloseEndsSessionsBetweenTransactions(t *testing.T) {
	t.Parallel()
	for _, fast := range []int{0, 1} {
		r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_mode=session"), settings: fmt.Sprintf("server_fast_close = %d", fast)})
		a := r.connect("d")
		exec(t, a, "begin")
		r.console("reconnect d")
		exec(t, a, "select 1")
		_, err := a.Exec(background(t), "commit")
		if err == nil {
			_, err = a.Exec(background(t), "select 1")
		}
		if fast == 0 && err != nil {
			t.Errorf("without it: %v", err)
		} else if fast == 1 && (err == nil || pgError(t, err).Message != "obsolete connection") {
			t.Errorf("with it: %v", err)
		}
	}
}

func TestServersAreClosedForAgeAndIdleness(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, tc := range []struct{ name, options, settings, reason string }{
		{"old", "", "server_lifetime = 0.4", "server lifetime over"},
		{"old by the database", "server_lifetime=0.4", "", "server lifetime over"},
		{"used once", "", "server_lifetime = 0", "server lifetime over"},
		{"idle", "", "server_idle_timeout = 0.4", "server idle timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, config{databases: entry("d", db, "pool_size=1", tc.options), settings: tc.settings})
			a := r.connect("d")
			pid := value[int](t, a, backend)
			r.waitFor("it is closed", func() bool { return r.logged("closing because: "+tc.reason) == 1 })
			if now := value[int](t, a, backend); now == pid {
				t.Error("it serves on")
			}
		})
	}
	t.Run("idle, but needed", func(t *testing.T) {
		r := start(t, config{databases: entry("d", db, "pool_size=3 min_pool_size=2"), settings: "server_idle_timeout = 0.1"})
		a := r.connect("d")
		exec(t, a, "select 1")
		r.waitFor("two servers", func() bool { return r.pool("d")["sv_idle"] == "2" })
		r.sweeps(3)
		if n := r.logged("server idle timeout"); n != 0 {
			t.Errorf("%d were closed", n)
		}
	})
	t.Run("linked", func(t *testing.T) {
		r := start(t, config{databases: entry("d", db), settings: "server_lifetime = 0.1\nserver_idle_timeout = 0.1"})
		a := r.connect("d")
		exec(t, a, "begin")
		pid := value[int](t, a, backend)
		exec(t, a, "select pg_catalog.pg_sleep(0.3)")
		r.sweeps(3)
		if now := value[int](t, a, backend); now != pid {
			t.Error("a transaction lost its server")
		}
	})
}

func TestIdleServersAreCheckedBeforeUse(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, tc := range []struct {
		settings string
		dies     bool // the client of a dead server has an error
	}{
		{"server_check_delay = 0", false}, {"server_check_delay = 0\nserver_check_query = select 1", false}, {"server_check_query =\nserver_check_delay = 0", true}, {"", true},
	} {
		t.Run(tc.settings, func(t *testing.T) {
			link := pgtest.NewLink(t, int(port(t, db)))
			r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s pool_size=1", link.Port, db.Name),
				settings: "server_connect_timeout = 1\nquery_timeout = 0.5\nserver_tls_sslmode = disable\n" + tc.settings})
			a := r.connect("d")
			exec(t, a, "select 1")
			// The network swallows what is sent to the server; only an answer shows that it lives.
			link.Break(pgtest.Reset)
			_, err := a.Exec(background(t), "select 1")
			if !tc.dies && err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	// A check that fails, by refusal.
	r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "server_check_delay = 0\nserver_check_query = select 1/0\nserver_login_retry = 0"})
	a := r.connect("d")
	exec(t, a, "select 1")
	pid := value[int](t, r.connect("d"), backend)
	if now := value[int](t, a, backend); now == pid {
		t.Error("a server that fails its check serves")
	}
}

func port(t *testing.T, db *pgtest.Database) uint16 {
	t.Helper()
	cfg, err := pgconn.ParseConfig(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Port
}

func TestServersTakeTurns(t *testing.T) {
	t.Parallel()
	for robin, want := range map[int]int{0: 1, 1: 3} {
		r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=3 min_pool_size=3"), settings: fmt.Sprintf("server_round_robin = %d", robin)})
		a := r.connect("d")
		exec(t, a, "select 1")
		r.waitFor("three servers", func() bool { return r.pool("d")["sv_idle"] == "3" })
		pids := map[int]bool{}
		for range 6 {
			pids[value[int](t, a, backend)] = true
		}
		if len(pids) != want {
			t.Errorf("server_round_robin = %d: %d servers were used", robin, len(pids))
		}
	}
}

func TestConnectQueryRunsOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	db.Exec(t, "create table public.connects(pid int)")
	r := start(t, config{databases: entry("d", db, "pool_size=1", "connect_query='insert into public.connects values (pg_catalog.pg_backend_pid()); set work_mem = ''77MB'''") + "\n" +
		entry("bad", db, "connect_query='select 1/0'")})
	a := r.connect("d")
	for range 3 {
		if got := value[string](t, a, "show work_mem"); got != "77MB" {
			t.Errorf("work_mem is %s", got)
		}
	}
	r.console("reconnect d")
	exec(t, a, "select 1")
	if n := value[int](t, a, "select pg_catalog.count(*)::int from public.connects"); n != 2 {
		t.Errorf("it ran %d times for two servers", n)
	}
	exec(t, r.connect("bad"), "select 1")
	r.waitFor("the log tells of the failure", func() bool { return r.logged("connect_query failed: division by zero") == 1 })
}

func TestReserveIsUsedWhenClientsWaitLong(t *testing.T) {
	t.Parallel()
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1 reserve_pool_size=1"), settings: "reserve_pool_timeout = 0.5"})
	a, b, c := r.connect("d"), r.connect("d"), r.connect("d")
	exec(t, a, "begin")
	began := time.Now()
	exec(t, b, "begin")
	if took := time.Since(began); took < 500*time.Millisecond {
		t.Errorf("the reserve was used after %s", took)
	}
	r.waitFor("the log tells", func() bool { return r.logged("taking connection from reserve_pool") == 1 })
	got := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "select 1")
		got <- err
	}()
	r.waitFor("the third waits", func() bool { return r.pool("d")["cl_waiting"] == "1" })
	r.sweeps(3)
	if len(got) > 0 {
		t.Fatal("a third server was opened")
	}
	exec(t, a, "commit")
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// Shared limits hold exactly although the pools live on two loops, nobody starves, and
// idle servers give way.
func TestSharedLimitsAcrossLoops(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	db.Exec(t, "do $$ begin create role pooled_a login superuser; exception when duplicate_object or unique_violation then null; end $$")
	db.Exec(t, "do $$ begin create role pooled_b login superuser; exception when duplicate_object or unique_violation then null; end $$")
	watch := func(t *testing.T, sql string, limit int, until <-chan struct{}) {
		conn, err := pgx.Connect(background(t), db.DSN)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		for {
			select {
			case <-until:
				return
			default:
			}
			var n int
			if err := conn.QueryRow(context.Background(), sql).Scan(&n); err != nil {
				t.Error(err)
				return
			}
			if n > limit {
				t.Errorf("%d servers, the limit is %d", n, limit)
				return
			}
		}
	}
	for _, tc := range []struct{ name, databases, settings, count string }{
		{"max_db_connections", entry("d", db, "max_db_connections=3 pool_size=3") + "\n" + entry("x", db), "", "application_name = 'd'"},
		{"max_user_connections", entry("d", db, "pool_size=3") + "\n" + entry("e", db, "pool_size=3") + "\n" + entry("f", db, "pool_size=3"), "max_user_connections = 3", "usename = 'pooled_a'"},
		{"both", entry("d", db, "max_db_connections=3 pool_size=3") + "\n" + entry("e", db, "max_db_connections=3 pool_size=3"), "max_user_connections = 3", "usename = 'pooled_a'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := start(t, config{databases: strings.ReplaceAll(tc.databases, "d = ", "d = application_name=d "), settings: "threads = 2\nquery_wait_timeout = 30\nquery_wait_notify = 0\nlog_connections = 0\n" + tc.settings,
				authFile: "\"postgres\" \"\"\n\"pooled_a\" \"\"\n\"pooled_b\" \"\"\n"})
			names := []string{"d"}
			if strings.Contains(tc.databases, "e = ") {
				names = append(names, "e")
			}
			until := make(chan struct{})
			var watcher, wg sync.WaitGroup
			watcher.Go(func() {
				watch(t, "select pg_catalog.count(*)::int from pg_catalog.pg_stat_activity where datname = pg_catalog.current_database() and "+tc.count, 4, until) // one may be on its way out
			})
			groups := []*pool.Group{&r.p.databases["d"].group}
			for _, name := range []string{"pooled_a", "pooled_b"} {
				groups = append(groups, &r.p.users[name].group)
			}
			watcher.Go(func() {
				for {
					select {
					case <-until:
						return
					default:
					}
					for i, g := range groups {
						if n := g.Servers(); g.Limit() > 0 && n > g.Limit() {
							t.Errorf("%d servers in group %d", n, i)
						}
					}
				}
			})
			homes := map[*worker]bool{}
			for i := range 12 {
				user, name := []string{"pooled_a", "pooled_b"}[i%2], names[i/2%len(names)]
				conn, err := pgconn.Connect(background(t), r.dsn(name, "user="+user))
				if err != nil {
					t.Fatal(err)
				}
				_, home := r.p.keys.find(pgwire.CancelKey(keyOf(conn)), 0)
				homes[home] = true
				wg.Go(func() {
					defer conn.Close(context.Background())
					for range 40 {
						if _, err := conn.Exec(context.Background(), "select pg_catalog.pg_sleep(0.002)").ReadAll(); err != nil {
							t.Errorf("%s of %s: %v", user, name, err)
							return
						}
					}
				})
			}
			wg.Wait()
			close(until)
			watcher.Wait()
			t.Logf("%d loops", len(homes))
		})
	}
}

func TestUnusedPoolsAreForgotten(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db), settings: "pool_idle_timeout = 0.5\nserver_idle_timeout = 0.3\nthreads = 2"})
	a := r.connect("d")
	exec(t, a, "select 1")
	r.waitFor("the server is closed", func() bool { return r.pool("d")["sv_idle"] == "0" })
	r.sweeps(3)
	if len(r.rows("pools", "d")) != 1 {
		t.Fatal("a pool with a client was forgotten")
	}
	a.Close(background(t))
	r.waitFor("the pool is forgotten", func() bool { return len(r.rows("pools", "d")) == 0 && r.logged("cleaning up idle pool") == 1 })
	for _, row := range r.rows("stats", "d") {
		if row["total_query_count"] != "0" {
			t.Errorf("statistics are left: %v", row)
		}
	}
	exec(t, r.connect("d"), "select 1")
	// Clients that come and go all the time find a pool each time.
	var wg sync.WaitGroup
	r.console("set pool_idle_timeout = 0.001")
	r.console("set server_lifetime = 0")
	for range 4 {
		wg.Go(func() {
			for range 60 {
				if err := r.tryQuery("d"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 60 {
			r.sweeps(1)
		}
	})
	wg.Wait()
}

func TestUnusedAutoDatabasesAreForgotten(t *testing.T) {
	t.Parallel()
	r := start(t, config{databases: entry("*", pgtest.DB(t)), settings: "autodb_idle_timeout = 0.5\nserver_idle_timeout = 0.3\nthreads = 2"})
	a := r.connect("auto")
	exec(t, a, "select 1")
	r.waitFor("its server is closed", func() bool { return r.pool("auto")["sv_idle"] == "0" })
	r.sweeps(3)
	if len(r.rows("pools", "auto")) != 1 {
		t.Fatal("a database with a client was forgotten")
	}
	a.Close(background(t))
	r.waitFor("it is forgotten", func() bool { return len(r.rows("pools", "auto")) == 0 && r.database("auto") == nil })
	exec(t, r.connect("auto"), "select 1")
}

func TestSocketsOfClientsAreAsSet(t *testing.T) {
	t.Parallel()
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	for _, keepalive := range []int{1, 0, 1} {
		r.console(fmt.Sprintf("set tcp_keepalive = %d", keepalive))
		conn := r.connect("d")
		var delay, alive int
		done := make(chan struct{})
		r.p.main.loop.Post(func() {
			defer close(done)
			var newest *client
			for c := range r.p.main.clients {
				if newest == nil || c.id > newest.id {
					newest = c
				}
			}
			delay, _ = syscall.GetsockoptInt(int(newest.fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
			alive, _ = syscall.GetsockoptInt(int(newest.fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		})
		<-done
		if delay != 1 || alive != keepalive {
			t.Errorf("tcp_keepalive = %d: a client's socket has TCP_NODELAY %d, SO_KEEPALIVE %d", keepalive, delay, alive)
		}
		conn.Close(background(t))
	}
}

func TestSilentConnectionsAreKeptBack(t *testing.T) {
	t.Parallel()
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "tcp_defer_accept = 30"})
	silent, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	exec(t, r.connect("d"), "select 1") // came later
	if n := len(r.console("show clients")); n != 2 {
		t.Errorf("%d clients", n)
	}
	for value, on := range map[string]bool{"0": false, "45": true} {
		r.console("set tcp_defer_accept = " + value)
		got, err := syscall.GetsockoptInt(r.p.listeners[0].fd, syscall.IPPROTO_TCP, syscall.TCP_DEFER_ACCEPT)
		if err != nil || (got > 0) != on {
			t.Errorf("tcp_defer_accept = %s: the socket has %d: %v", value, got, err)
		}
	}
}

func TestLoginAndCancelTimeouts(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db), settings: "client_login_timeout = 0.4\ntcp_defer_accept = 0"})
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	body := skipTo(t, conn, pgwire.MsgErrorResponse)
	if rep, err := pgwire.ParseReport(body); err != nil || rep.Message != "client_login_timeout" || rep.Code != "08P01" || rep.Severity != "FATAL" {
		t.Errorf("got %v %v", rep, err)
	}
	// A cancel request that does not get through.
	link := pgtest.NewLink(t, int(port(t, db)))
	r = start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s", link.Port, db.Name), settings: "cancel_wait_timeout = 0.4\nserver_tls_sslmode = disable"})
	a, err := pgconn.Connect(background(t), r.dsn("d"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close(context.Background())
	got := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), "select pg_catalog.pg_sleep(2)").ReadAll()
		got <- err
	}()
	waitAsleep(t, db)
	link.Set(pgtest.Fault{Do: pgtest.Stall})
	if err := r.fireCancel(a); err != nil {
		t.Fatal(err)
	}
	r.waitFor("the request is given up", func() bool { return r.logged("closing because: cancel_wait_timeout") == 1 })
	link.Heal()
	<-got // the query itself may have an end of either kind
	r.waitFor("the pool works", func() bool { return r.tryQuery("d") == nil })
}

func TestQueryTimeoutWhileWaiting(t *testing.T) {
	t.Parallel()
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1"), settings: "query_wait_notify = 0",
		users: "postgres = query_timeout=0.5 idle_transaction_timeout=60"})
	a, b := r.connect("d"), r.connect("d")
	exec(t, a, "begin")
	_, err := b.Exec(background(t), "select 1")
	if err == nil || pgError(t, err).Message != "query_timeout" || pgError(t, err).Severity != "FATAL" {
		t.Errorf("got %v", err)
	}
	exec(t, a, "commit")
}
