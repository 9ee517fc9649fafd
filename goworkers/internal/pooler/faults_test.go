package pooler

import (
	"context"

	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

// conversation has a bit of everything; each part is sent when the one before it is
// answered.
func conversation() [][]byte {
	copyIn := pgwire.AppendQuery(nil, "copy public.t from stdin")
	data := pgwire.AppendMessage(nil, pgwire.MsgCopyData, []byte("1\n2\n"))
	data = pgwire.AppendMessage(data, pgwire.MsgCopyDone, nil)
	named := pgwire.AppendMessage(nil, pgwire.MsgParse, []byte("s\x00select 1\x00\x00\x00"))
	named = pgwire.AppendMessage(named, pgwire.MsgBind, []byte("\x00s\x00\x00\x00\x00\x00\x00\x00"))
	named = pgwire.AppendMessage(named, pgwire.MsgExecute, []byte("\x00\x00\x00\x00\x00"))
	return [][]byte{
		pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}}),
		pgwire.AppendQuery(nil, "begin; insert into public.t values (1)"),
		pgwire.AppendSync(appendExtended(nil, "select 'extended'")),
		pgwire.AppendSync(named), copyIn, data,
		pgwire.AppendQuery(nil, "select 1/0"), pgwire.AppendQuery(nil, "rollback"),
	}
}

// converse holds the conversation and gives how many bytes were said and heard; it ends
// early after so many bytes said, or when the other side hangs up.
func converse(conn net.Conn, most int) (said, heard int) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	var head [pgwire.HeaderSize]byte
	for _, part := range conversation() {
		k := min(len(part), most-said)
		conn.Write(part[:k])
		if said += k; said >= most {
			return said, heard
		}
		for {
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return said, heard
			}
			typ, size, _, err := pgwire.ParseHeader(head[:])
			if err != nil {
				return said, heard
			}
			n, err := io.CopyN(io.Discard, conn, int64(size-pgwire.HeaderSize))
			heard += pgwire.HeaderSize + int(n)
			if err != nil {
				return said, heard
			}
			if typ == pgwire.MsgReadyForQuery || typ == pgwire.MsgCopyInResponse {
				break
			}
		}
	}
	return said, heard
}

const everything = 1 << 30

func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// A client that hangs up after any number of bytes of a conversation, and a server that
// does, harm nobody else.
func TestConnectionsCutAtEachByte(t *testing.T) {
	t.Parallel()
	for _, rescue := range []int{0, 1} {
		t.Run(fmt.Sprintf("client, rescue_transactions=%d", rescue), func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t)
			db.Exec(t, "create table public.t(x int)")
			r := start(t, config{databases: entry("d", db, "pool_size=2"), settings: fmt.Sprintf("rescue_transactions = %d\nlog_connections = 0\nlog_disconnections = 0\nthreads = 2", rescue)})
			whole, _ := converse(r.dial(), everything)
			other := r.connect("d")
			for n := range whole {
				converse(r.dial(), n)
				if n%5 == 0 {
					exec(t, other, "select 1")
				}
			}
			r.waitFor("all are gone", func() bool {
				row := r.pool("d")
				return row["cl_active"] == "1" && row["sv_active"] == "0" && row["sv_tested"] == "0"
			})
			if n := value[int](t, other, "select pg_catalog.count(*)::int from public.t"); n != 0 {
				t.Errorf("%d rows are left", n)
			}
		})
	}
	for _, way := range []pgtest.Way{pgtest.ToClient, pgtest.ToServer} {
		for _, do := range []pgtest.Action{pgtest.Close, pgtest.Reset} {
			t.Run(fmt.Sprintf("server, way %d, %s", way, do), func(t *testing.T) {
				t.Parallel()
				db := pgtest.DB(t)
				db.Exec(t, "create table public.t(x int)")
				link := pgtest.NewLink(t, int(port(t, db)))
				r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s pool_size=1\n", link.Port, db.Name) + entry("ok", db),
					settings: "log_connections = 0\nlog_disconnections = 0\nserver_login_retry = 0\nserver_tls_sslmode = disable\nserver_lifetime = 0"})
				said, heard := converse(r.dial(), everything)
				// Each boundary of a message is among the places of the one; a reset differs
				// from a close in what is lost, not in where.
				step := map[pgtest.Action]int{pgtest.Close: 1, pgtest.Reset: 3}[do]
				for n := 0; n < max(said, heard)+600; n += step {
					link.Set(pgtest.Fault{Do: do, Way: way, After: n, Once: true})
					converse(r.dial(), everything)
				}
				link.Heal()
				r.waitFor("the pool works", func() bool { return r.tryQuery("d") == nil })
				exec(t, r.connect("ok"), "select 1")
				if n := value[int](t, r.connect("d"), "select pg_catalog.count(*)::int from public.t"); n != 0 {
					t.Errorf("%d rows are left", n)
				}
			})
		}
	}
}

// A server that stands still, at any place, costs its own client only.
func TestServersThatHang(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, tc := range []struct {
		name  string
		after int
		want  string
	}{
		{"at once", 0, "query_wait_timeout"}, {"in the login", 30, "query_wait_timeout"}, {"within a result", 5000, "query timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			link := pgtest.NewLink(t, int(port(t, db)))
			r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s\n", link.Port, db.Name) + entry("ok", db),
				settings: "server_connect_timeout = 0.6\nquery_wait_timeout = 1.2\nserver_login_retry = 0.1\nquery_timeout = 0.6\nserver_tls_sslmode = disable"})
			stop := r.traffic("ok", 2)
			link.Set(pgtest.Fault{Do: pgtest.Stall, Way: pgtest.ToClient, After: tc.after})
			conn, err := pgconn.Connect(background(t), r.dsn("d"))
			if err == nil {
				_, err = conn.Exec(background(t), "select pg_catalog.repeat('x', 100) from pg_catalog.generate_series(1, 1000)").ReadAll()
				conn.Close(context.Background())
			}
			// Within a message no error can be told.
			if e, ok := asPgError(err); !ok && tc.after < 1000 || ok && e.Message != tc.want || err == nil {
				t.Errorf("got %v", err)
			}
			link.Heal()
			r.waitFor("the pool works again", func() bool { return r.tryQuery("d") == nil })
			if _, err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("in TLS", func(t *testing.T) {
		port := scripted{login: "S", answer: ""}.serve(t) // says yes to TLS and nothing more
		r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d\n", port) + entry("ok", db), settings: "server_connect_timeout = 0.6\nserver_tls_sslmode = require\nquery_wait_timeout = 2"})
		if e := r.refused("d"); e.Message != "query_wait_timeout" {
			t.Errorf("got %v", e)
		}
		r.waitLog("closing because: connect timeout")
	})
}

// A client that reads nothing keeps one server at most, and no memory to speak of.
func TestClientsThatNeverRead(t *testing.T) {
	t.Parallel()
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=3"), settings: "query_timeout = 2\ntcp_socket_buffer = 8192"})
	deaf := r.rawLogin("d")
	deaf.(*net.TCPConn).SetReadBuffer(4096)
	for range 50 {
		deaf.Write(pgwire.AppendQuery(nil, "select pg_catalog.repeat('x', 1000) from pg_catalog.generate_series(1, 100000)"))
	}
	stop := r.traffic("d", 4)
	r.waitFor("its time is over", func() bool { return r.logged("closing because: query timeout") >= 1 })
	if _, err := stop(); err != nil {
		t.Error(err)
	}
}

// kill -9 of the whole server: who is linked is told with a SQLSTATE, all else goes on
// when it is back.
func TestServerThatIsKilledComesBack(t *testing.T) {
	t.Parallel()
	for _, threads := range []int{1, 2} {
		server := pgtest.Server(t)
		r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=postgres pool_size=2", server.Port), settings: fmt.Sprintf("threads = %d", threads)})
		a, b, idle := r.connect("d"), r.connect("d"), r.connect("d")
		exec(t, idle, "select 1")
		exec(t, a, "begin")
		got := make(chan error, 1)
		go func() {
			_, err := b.Exec(context.Background(), "select pg_catalog.pg_sleep(60)")
			got <- err
		}()
		(&pgtest.Database{DSN: server.DSN}).WaitFor(t, "select exists (select from pg_stat_activity where wait_event = 'PgSleep')")
		server.Kill(t)
		for _, err := range []error{<-got, func() error { _, err := a.Exec(background(t), "select 1"); return err }()} {
			if e, ok := asPgError(err); !ok || e.Severity != "FATAL" || len(e.Code) != 5 || e.Message != "server conn crashed?" {
				t.Errorf("got %v", err)
			}
		}
		server.Start(t)
		r.waitFor("it serves again", func() bool { return r.tryQuery("d") == nil })
		exec(t, idle, "select 1")
	}
}

// child runs the test's own program again: a pooler in a process of its own.
func child(t *testing.T, conf string, files uint64) *osexec.Cmd {
	t.Helper()
	cmd := osexec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), processEnv+"="+conf, fmt.Sprintf("%s=%d", filesEnv, files))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

// files writes a configuration without starting anything.
func files(t *testing.T, c config) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "pooler.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, conf: dir + "/pgbouncer.ini", port: badPort(t)}
	r.write(c)
	return r
}

// Without descriptors newcomers wait or are refused, those who are there are served,
// and all is well when some are free again.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := files(t, config{databases: entry("d", db, "pool_size=2"), settings: "max_client_conn = 1000\nlogfile = " + t.TempDir() + "/log"})
	child(t, r.conf, 60)
	r.waitFor("it listens", func() bool { return r.tryQuery("d") == nil })
	a, b := r.connect("d"), r.connect("d")
	exec(t, a, "begin")
	exec(t, b, "select 1")
	var conns []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte{0}) // so that it is accepted
		conns = append(conns, conn)
	}
	log := func(what string) bool {
		cfg, _, err := ini.Load(r.conf)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(cfg.LogFile)
		return strings.Contains(string(text), what)
	}
	r.waitFor("the log tells", func() bool { return log("too many open files; trying again in 5s") })
	for range 20 {
		exec(t, a, "select 1")
		exec(t, b, "select 1")
	}
	for _, conn := range conns {
		conn.Close()
	}
	exec(t, a, "commit")
	r.waitFor("newcomers are served", func() bool { return r.tryQuery("d") == nil })
}

// Ten thousand clients wait for twenty servers, and each has its answer.
func TestTenThousandClientsWait(t *testing.T) {
	t.Parallel()
	const clients = 10000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < clients+1000 {
		t.Fatalf("this needs %d open files, and the limit is %d: raise it (ulimit -n)", clients+1000, limit.Cur)
	}
	db := pgtest.DB(t)
	r := files(t, config{databases: entry("d", db, "pool_size=20"), settings: "max_client_conn = 10100\nlog_connections = 0\nlog_disconnections = 0\nlisten_backlog = 4096\nquery_wait_timeout = 0\nlogfile = " + t.TempDir() + "/log"})
	child(t, r.conf, limit.Cur)
	r.waitFor("it listens", func() bool { return r.tryQuery("d") == nil })
	conns := make([]net.Conn, clients)
	startup := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}})
	for i := range conns {
		conns[i] = r.dial()
		conns[i].SetDeadline(time.Now().Add(2 * time.Minute))
		conns[i].Write(startup)
		defer conns[i].Close()
	}
	for _, conn := range conns {
		skipTo(t, conn, pgwire.MsgReadyForQuery)
	}
	r.console("pause d")
	for i, conn := range conns {
		conn.Write(pgwire.AppendQuery(nil, fmt.Sprintf("select 'row %d'", i)))
	}
	r.waitFor("all wait", func() bool { return r.pool("d")["cl_waiting"] == fmt.Sprint(clients) })
	r.console("resume d")
	for i, conn := range conns {
		if row := skipTo(t, conn, pgwire.MsgDataRow); string(row[6:]) != fmt.Sprintf("row %d", i) {
			t.Fatalf("client %d got %q", i, row)
		}
	}
	if row := r.pool("d"); row["cl_waiting"] != "0" {
		t.Errorf("some wait on: %v", row)
	}
}

func TestSignalsInEachState(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	states := map[string]func(t *testing.T, r *rig){
		"idle":   func(*testing.T, *rig) {},
		"paused": func(t *testing.T, r *rig) { r.console("pause") },
		"busy":   func(t *testing.T, r *rig) { exec(t, r.connect("d"), "begin") },
		"clients wait": func(t *testing.T, r *rig) {
			r.console("pause")
			go r.tryQuery("d")
			r.waitFor("one waits", func() bool { return r.pool("d")["cl_waiting"] != "0" })
		},
		"waits to end":   func(t *testing.T, r *rig) { exec(t, r.connect("d"), "begin"); r.p.Signal(syscall.SIGTERM) },
		"waits to pause": func(t *testing.T, r *rig) { exec(t, r.connect("d"), "begin"); r.p.Signal(syscall.SIGUSR1) },
		"logs in": func(t *testing.T, r *rig) {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
			if err != nil {
				r.t.Fatal(err)
			}
			r.t.Cleanup(func() { conn.Close() })
			conn.Write([]byte{0, 0})
		},
	}
	for name, reach := range states {
		for _, tc := range []struct {
			signals []syscall.Signal
			ends    bool
		}{
			{[]syscall.Signal{syscall.SIGQUIT}, true}, {[]syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, true}, {[]syscall.Signal{syscall.SIGINT, syscall.SIGINT}, true},
			{[]syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP}, false}, {[]syscall.Signal{syscall.SIGUSR2, syscall.SIGUSR1, syscall.SIGUSR1, syscall.SIGUSR2}, false},
		} {
			t.Run(fmt.Sprintf("%s %v", name, tc.signals), func(t *testing.T) {
				t.Parallel()
				r := start(t, config{databases: entry("d", db), settings: "threads = 2\nclient_login_timeout = 5"})
				reach(t, r)
				for _, sig := range tc.signals {
					r.p.Signal(sig)
				}
				if tc.ends {
					select {
					case err := <-r.done:
						r.done <- err
					case <-time.After(20 * time.Second):
						t.Fatal("it does not end")
					}
					return
				}
				if name == "waits to end" {
					if err := r.tryQuery("d"); err == nil {
						t.Error("it lets clients in")
					}
					return
				}
				if err := r.tryQuery("d"); err != nil {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// RELOAD with a broken file under load loses nothing, nor does PAUSE.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			base := config{databases: entry("d", db, "pool_size=3"), settings: fmt.Sprintf("threads = %d\nquery_wait_notify = 0", threads)}
			r := start(t, base)
			stop := r.traffic("d", 6)
			for _, broken := range []config{
				{databases: base.databases + "\nx = port=0", settings: base.settings}, {databases: base.databases, settings: base.settings + "\npool_mode = none"},
				{databases: base.databases, settings: base.settings + "\n[nothing]"}, {databases: base.databases + "\nno equals sign", settings: base.settings},
				{databases: base.databases, settings: base.settings + "\nauth_type = pam"},
			} {
				r.write(broken)
				_, err := r.command("reload")
				if e, ok := asPgError(err); !ok || e.Code != "F0000" || e.Message != "RELOAD failed, see logs for additional details" {
					t.Errorf("%v: got %v", broken, err)
				}
				// A file that cannot be read at all.
				if err := os.Rename(r.conf, r.conf+".away"); err != nil {
					t.Fatal(err)
				}
				if _, err = r.command("reload"); err == nil {
					t.Error("a file that is not there is read")
				}
				if err := os.Rename(r.conf+".away", r.conf); err != nil {
					t.Fatal(err)
				}
				r.write(base)
				r.console("reload")
			}
			if n, err := stop(); err != nil || n == 0 {
				t.Errorf("%d queries: %v", n, err)
			}
		})
	}
}

// Each changed key that makes servers other ones has them replaced; nothing else has.
func TestReloadReplacesServersOnlyWhenTheyAreOthers(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db)})
	a := r.connect("d")
	for _, tc := range []struct {
		options, settings string
		replaced          bool
	}{
		{"", "", false}, {"pool_size=7", "", false}, {"pool_size=7", "server_lifetime = 77", false}, {"max_db_connections=9", "query_timeout = 9", false},
		{"connect_query='select 1'", "", true}, {"connect_query='select 1'", "", false}, {"connect_query='select 2'", "", true}, {"", "", true},
		{"load_balance_hosts=disable", "", true}, {"load_balance_hosts=disable datestyle=German", "", true}, {"load_balance_hosts=disable datestyle=German timezone=UTC", "", true},
		{"target_session_attrs=primary", "", true}, {"user=postgres", "", true}, {"user=postgres", "server_tls_sslmode = disable", true}, {"user=postgres", "server_tls_sslmode = disable", false},
	} {
		pid := value[int](t, a, backend)
		r.write(config{databases: entry("d", db, tc.options), settings: tc.settings})
		r.console("reload")
		if now := value[int](t, a, backend); (now != pid) != tc.replaced {
			t.Errorf("%q, %q: replaced: %v", tc.options, tc.settings, now != pid)
		}
	}
	r.waitFor("the log tells why", func() bool {
		return r.logged("closing because: database configuration changed") > 5 && r.logged("closing because: TLS configuration changed") > 0
	})
}

// SET takes each setting that SHOW CONFIG calls changeable, at its own value, and
// refuses the others.
func TestSetTakesWhatIsChangeable(t *testing.T) {
	t.Parallel()
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "threads = 2"})
	conn, err := pgconn.Connect(background(t), r.dsn("pgbouncer"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	for _, row := range r.console("show config") {
		_, err := conn.Exec(background(t), fmt.Sprintf("set %s = '%s'", row["key"], strings.ReplaceAll(row["value"], "'", "''"))).ReadAll()
		if (err == nil) != (row["changeable"] == "yes") {
			t.Errorf("%s, changeable: %s: %v", row["key"], row["changeable"], err)
		}
	}
	exec(t, r.connect("d"), "select 1")
}

// Who asks and goes before the loop looks does not wait for a server.
func TestClientsThatAskAndGo(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t), "pool_size=1")})
	exec(t, r.connect("d"), "begin")
	for name, leave := range map[string]func(*net.TCPConn){
		"closes":            func(c *net.TCPConn) { c.Close() },
		"ends its side":     func(c *net.TCPConn) { c.CloseWrite() },
		"says that it goes": func(c *net.TCPConn) { c.Write(pgwire.AppendTerminate(nil)); c.CloseWrite() },
	} {
		conn := r.rawLogin("d").(*net.TCPConn)
		held, gone := make(chan struct{}), make(chan struct{})
		r.p.main.loop.Post(func() { close(held); <-gone })
		<-held
		conn.Write(pgwire.AppendQuery(nil, "select 1"))
		leave(conn)
		close(gone)
		r.waitFor("who "+name+" is gone", func() bool {
			pool := r.pool("d")
			return pool["cl_waiting"] == "0" && pool["cl_active"] == "1"
		})
	}
}

// A server that goes during its login, as at a restart, is waited for.
func TestServersThatGoDuringLogin(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, do := range []pgtest.Action{pgtest.Close, pgtest.Reset} {
		for _, way := range []pgtest.Way{pgtest.ToServer, pgtest.ToClient} {
			link := pgtest.NewLink(t, int(port(t, db)))
			r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s", link.Port, db.Name), settings: "server_tls_sslmode = disable"})
			link.Set(pgtest.Fault{Do: do, Way: way, After: 5, Once: true})
			if err := r.tryQuery("d"); err != nil {
				t.Errorf("%s, way %d: %v", do, way, err)
			}
			r.waitLog("server login failed: ")
		}
	}
}
