package pooler

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	mdns "github.com/miekg/dns"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/dns"
	"goworkers/internal/pooler/ini"
)

// standby is a streaming standby at another loopback address and the primary's port.
type standby struct {
	t    *testing.T
	dir  string
	host string
	dsn  string
}

// script runs a script of the product, whose folder is in the variable S.
func script(t *testing.T, text string, args ...string) string {
	t.Helper()
	dir, err := filepath.Abs("../../../scripts")
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.CreateTemp(t.TempDir(), "out") // a server would keep a pipe open
	if err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command("bash", append([]string{"-euc", "S=$0; . $S/lib.sh\n" + text, dir + "/script"}, args...)...)
	cmd.Args[3] = dir
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	said, _ := os.ReadFile(out.Name())
	if err != nil {
		t.Fatalf("%s: %v\n%s", text, err, said)
	}
	return string(said)
}

// replicated starts a primary on 127.0.0.1 and its standby on 127.0.0.2.
func replicated(t *testing.T) (*pgtest.PrivateServer, *standby) {
	t.Helper()
	primary := pgtest.Server(t)
	dir, err := os.MkdirTemp("", "standby.")
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(dir, 0o755)
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &standby{t: t, dir: dir + "/server", host: "127.0.0.2"}
	t.Cleanup(func() { script(t, `"$S/pgcluster" stop "$1" immediate || true`, s.dir) })
	script(t, `dir=$1 tree=$2 port=$3
mkdir -p "$dir"; [ "$(id -u)" != 0 ] || chown "$(server_user)" "$dir"
as_server "$tree/bin/pg_basebackup" -D "$dir/data" -R -c fast -d "host=127.0.0.1 port=$port user=postgres"
echo "$tree" >"$dir/tree"; echo "$port" >"$dir/port"
printf "listen_addresses = '127.0.0.2'\nunix_socket_directories = '%s'\n" "$dir" >>"$dir/data/postgresql.conf"
"$S/pgcluster" start "$dir" "$tree"`, s.dir, os.Getenv("SKYTOOLS_TEST_TREE"), fmt.Sprint(primary.Port))
	s.dsn = fmt.Sprintf("host=127.0.0.2 port=%d user=postgres dbname=postgres", primary.Port)
	return primary, s
}

const whichHost = "select pg_catalog.host(pg_catalog.inet_server_addr())"

func TestServersAreWhatTargetSessionAttrsWants(t *testing.T) {
	t.Parallel()
	primary, second := replicated(t)
	db := &pgtest.Database{DSN: primary.DSN}
	const first = "127.0.0.1"
	for _, tc := range []struct{ attrs, hosts, want string }{
		{"any", "127.0.0.1,127.0.0.2", "127.0.0.1 127.0.0.2"},
		{"read-write", "127.0.0.2,127.0.0.1", first}, {"read-only", "127.0.0.1,127.0.0.2", second.host},
		{"primary", "127.0.0.2,127.0.0.1", first}, {"standby", "127.0.0.1,127.0.0.2", second.host},
		{"prefer-standby", "127.0.0.1,127.0.0.2", second.host}, {"prefer-standby", "127.0.0.1,127.0.0.3", first},
	} {
		t.Run(tc.attrs+" "+tc.hosts, func(t *testing.T) {
			r := start(t, config{databases: fmt.Sprintf("d = host=%s port=%d dbname=postgres target_session_attrs=%s pool_size=1", tc.hosts, primary.Port, tc.attrs),
				settings: "server_lifetime = 0"}) // a server for each query
			got := map[string]bool{}
			a := r.connect("d")
			for range 6 {
				got[value[string](t, a, whichHost)] = true
			}
			var hosts []string
			for _, h := range []string{first, second.host} {
				if got[h] {
					hosts = append(hosts, h)
				}
			}
			if s := strings.Join(hosts, " "); s != tc.want {
				t.Errorf("servers at %s, want %s", s, tc.want)
			}
		})
	}
	t.Run("none suits", func(t *testing.T) {
		r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=postgres target_session_attrs=standby", primary.Port),
			settings: "query_wait_timeout = 1.5"})
		// Clients wait for one that does.
		if e := r.refused("d"); e.Message != "query_wait_timeout" {
			t.Errorf("got %v", e)
		}
		r.waitFor("the log tells", func() bool { return strings.Contains(r.log.String(), "no host of 127.0.0.1 is standby") })
	})
	t.Run("read-only by default", func(t *testing.T) {
		db.Exec(t, "alter system set default_transaction_read_only = on")
		db.Exec(t, "select pg_catalog.pg_reload_conf()")
		db.WaitFor(t, "select pg_catalog.current_setting('default_transaction_read_only') = 'on'")
		r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=postgres target_session_attrs=read-only", primary.Port)})
		exec(t, r.connect("d"), "select 1")
	})
}

// The primary is stopped and the standby promoted while clients work: those who wait
// have no error, and nobody stays with a server that is not what it was.
func TestPromotionUnderLoad(t *testing.T) {
	t.Parallel()
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			primary, second := replicated(t)
			(&pgtest.Database{DSN: primary.DSN}).Exec(t, "create table public.t(x int)")
			(&pgtest.Database{DSN: second.dsn}).WaitFor(t, "select pg_catalog.to_regclass('public.t') is not null")
			line := fmt.Sprintf("host=127.0.0.1,127.0.0.2 port=%d dbname=postgres pool_size=2", primary.Port)
			r := start(t, config{databases: "w = " + line + " target_session_attrs=primary\nr = " + line + " target_session_attrs=standby",
				settings: fmt.Sprintf("threads = %d\nserver_connect_timeout = 2\nquery_wait_notify = 0", threads)})
			reader := r.connect("r")
			if got := value[string](t, reader, whichHost); got != second.host {
				t.Fatalf("the reader is at %s", got)
			}
			const clients = 8
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			var wg sync.WaitGroup
			var lost, done atomic.Int64 // transactions that were under way; those that got through
			for range clients {
				conn, err := pgconn.Connect(background(t), r.dsn("w"))
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					defer func() { conn.Close(context.Background()) }()
					for ctx.Err() == nil {
						limit, cancel := context.WithTimeout(context.Background(), 40*time.Second)
						_, err := conn.Exec(limit, "insert into public.t values (1)").ReadAll()
						cancel()
						if err == nil {
							done.Add(1)
							continue
						}
						// Two servers, so two transactions at most.
						if n := lost.Add(1); n > 2 || errorsIsTimeout(err) {
							t.Errorf("%d transactions lost: %v", n, err)
							return
						}
						conn.Close(context.Background())
						if conn, err = pgconn.Connect(context.Background(), r.dsn("w")); err != nil {
							t.Errorf("no new login: %v", err)
							return
						}
					}
				})
			}
			r.waitFor("work", func() bool { return done.Load() > 100 })
			primary.Stop(t)
			r.waitFor("all wait", func() bool { row := r.pool("w"); return row["sv_active"] == "0" && row["cl_waiting"] != "0" })
			(&pgtest.Database{DSN: second.dsn}).Exec(t, "select pg_catalog.pg_promote()")
			before := done.Load()
			r.waitFor("work goes on", func() bool { return done.Load() > before+100 || t.Failed() })
			stop()
			wg.Wait()
			// The standby's server hears of it with its next answer.
			exec(t, reader, "select 1")
			r.waitFor("the reader's server is left", func() bool {
				return strings.Contains(r.log.String(), "closing because: server is not standby any more")
			})
		})
	}
}

func errorsIsTimeout(err error) bool { return pgconn.Timeout(err) }

// badHost is a server at another loopback address that fails in a way of its own.
func badHost(t *testing.T, how, ip string, port int) *atomic.Int64 {
	t.Helper()
	var asked atomic.Int64
	if how == "refused" {
		return &asked
	}
	if how == "hangs in connect" {
		// With a full backlog the system drops what else comes.
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fd) })
		addr := netip.MustParseAddr(ip)
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: addr.As4()}); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Listen(fd, 0); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", ip, port), 100*time.Millisecond)
			if err != nil {
				return &asked
			}
			t.Cleanup(func() { c.Close() })
		}
		t.Fatal("the backlog does not fill")
	}
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				if how == "closes" {
					conn.Close()
					return
				}
				buf := make([]byte, 8192)
				for {
					if _, err := conn.Read(buf); err != nil {
						return
					}
					if how == "hangs in login" {
						io.WriteString(conn, message('R', "\x00\x00\x00\x00"))
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return &asked
}

func TestNextHostIsUsedWhenOneFails(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"refused", "hangs in connect", "hangs after connect", "hangs in login", "closes"} {
		for _, balance := range []string{"disable", "round-robin"} {
			t.Run(how+" "+balance, func(t *testing.T) {
				t.Parallel()
				db := pgtest.DB(t)
				cfg, err := pgconn.ParseConfig(db.DSN)
				if err != nil {
					t.Fatal(err)
				}
				ip := fmt.Sprintf("127.0.%d.%d", len(how), len(balance))
				asked := badHost(t, how, ip, int(cfg.Port))
				r := start(t, config{databases: fmt.Sprintf("d = host=%s,127.0.0.1,%s port=%d dbname=%s load_balance_hosts=%s", ip, ip, cfg.Port, db.Name, balance),
					settings: "server_connect_timeout = 0.5\nserver_tls_sslmode = disable\nserver_lifetime = 0"})
				began := time.Now()
				conn := r.connect("d")
				for range 20 {
					exec(t, conn, "select 1")
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("that took %s", took)
				}
				if n := asked.Load(); n > 8 {
					t.Errorf("the failing host was asked %d times", n)
				}
				if how != "refused" && how != "hangs in connect" && balance == "disable" && asked.Load() == 0 {
					t.Error("the first host was not asked first")
				}
			})
		}
	}
	t.Run("all of them", func(t *testing.T) {
		r := start(t, config{databases: "d = host=127.0.9.1,127.0.9.2 port=1", settings: "query_wait_timeout = 1"})
		for range 2 {
			if e := r.refused("d"); e.Message != "query_wait_timeout" {
				t.Errorf("got %v", e)
			}
		}
		r.waitLog("server login failed: connect failed: connection refused")
	})
	t.Run("all of them hang", func(t *testing.T) {
		port := badPort(t)
		badHost(t, "hangs after connect", "127.0.9.3", port)
		badHost(t, "hangs after connect", "127.0.9.4", port)
		r := start(t, config{databases: fmt.Sprintf("d = host=127.0.9.3,127.0.9.4 port=%d", port), settings: "server_connect_timeout = 0.5\nserver_tls_sslmode = disable\nquery_wait_timeout = 2"})
		if e := r.refused("d"); e.Message != "query_wait_timeout" {
			t.Errorf("got %v", e)
		}
		r.waitLog("closing because: connect timeout")
	})
}

func badPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestHostsThatFailAreTriedLastForAWhile(t *testing.T) {
	t.Parallel()
	pl := &dbPool{db: &database{Database: &ini.Database{Hosts: []string{"a", "b", "c"}}}}
	order := func(now time.Duration) string { return strings.Join(pl.candidates(now), "") }
	if got := order(0) + order(0) + order(0) + order(0); got != "bcacababcbca" {
		t.Errorf("round robin: %s", got)
	}
	now := time.Duration(0)
	for _, rest := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		pl.hostFailed("a", now)
		for range 3 {
			if got := order(now + rest*time.Second - 1); got[2] != 'a' {
				t.Errorf("after %s it is tried in the order %s", rest*time.Second-1, got)
			}
		}
		now += rest * time.Second
		if got := order(now) + order(now) + order(now); !strings.Contains(got[0:1]+got[3:4]+got[6:7], "a") {
			t.Errorf("after %ds it is never tried first: %s", rest, got)
		}
	}
	pl.hostFailed("b", now)
	pl.hostFailed("a", now)
	if got := order(now); got != "cba" {
		t.Errorf("of two that rest the shorter rest comes first: %s", got)
	}
	pl.hostWorks("a")
	pl.hostFailed("a", now)
	if until := pl.hosts["a"].until - now; until != backoffFirst {
		t.Errorf("after a success the first rest is %s", until)
	}

}

// A name that leads elsewhere takes its servers along.
func TestServersAtAddressesThatAreGoneAreClosed(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t, "listen_addresses=127.0.0.1,127.0.0.2")
	var ip atomic.Value
	ip.Store("127.0.0.1")
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up, down := make(chan struct{}), make(chan struct{})
	ns := &mdns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
		m := new(mdns.Msg)
		m.SetReply(q)
		if q.Question[0].Qtype == mdns.TypeA {
			rr, err := mdns.NewRR(q.Question[0].Name + " 1 IN A " + ip.Load().(string))
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m)
	})}
	go func() { defer close(down); ns.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { ns.Shutdown(); <-down })
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, config{databases: fmt.Sprintf("d = host=db.example.org port=%d dbname=postgres", server.Port), settings: "threads = 2"})
	const ttl = 100 * time.Millisecond
	// resolv.conf has no port: this resolver knows that of the test's nameserver.
	resolver, err := dns.New(dns.Config{Settings: dns.Settings{MaxTTL: ttl}, ResolvConf: conf, Port: pc.LocalAddr().(*net.UDPAddr).Port, Changed: r.p.addressesChanged})
	if err != nil {
		t.Fatal(err)
	}
	swapped := make(chan struct{})
	r.p.main.loop.Post(func() {
		r.p.alone(func() { r.p.dns.Stop(); r.p.dns = resolver })
		close(swapped)
	})
	<-swapped
	a, busy := r.connect("d"), r.connect("d")
	exec(t, busy, "begin")
	if got := value[string](t, a, whichHost); got != "127.0.0.1" {
		t.Fatalf("at %s", got)
	}
	ip.Store("127.0.0.2")
	// The name is asked for when a server is opened, if the last answer has aged: each
	// of these transactions stays, so that the next needs a server of its own.
	r.waitFor("new servers are at the new address", func() bool {
		time.Sleep(ttl)
		c := r.connect("d")
		exec(t, c, "begin")
		return value[string](t, c, whichHost) == "127.0.0.2"
	})
	if got := value[string](t, busy, whichHost); got != "127.0.0.1" {
		t.Errorf("a transaction has moved to %s", got)
	}
	exec(t, busy, "commit")
	r.waitFor("the log tells", func() bool { return strings.Contains(r.log.String(), "closing because: obsolete connection") })
	for range 5 {
		if got := value[string](t, a, whichHost); got != "127.0.0.2" {
			t.Errorf("at %s", got)
		}
	}
}

func TestServersAtAllKindsOfAddresses(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "pg.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o777)
	abstract := "@" + filepath.Base(dir)
	server := pgtest.Server(t, "listen_addresses=127.0.0.1,::1", "unix_socket_directories="+dir+","+abstract)
	for _, host := range []string{"127.0.0.1", "::1", "[::1]", dir, abstract, "localhost", ""} {
		name := "unix_socket_dir"
		line := fmt.Sprintf("d = port=%d dbname=postgres", server.Port)
		settings := "unix_socket_dir = " + dir
		if host != "" {
			line, name, settings = line+" host="+host, host, ""
		}
		t.Run(name, func(t *testing.T) {
			r := start(t, config{databases: line, settings: "listen_addr = 127.0.0.1, ::1\n" + settings})
			a := r.connect("d")
			b := r.connect("d", "host=::1")
			for _, c := range []*pgconn.PgConn{a.PgConn(), b.PgConn()} {
				// Cancel requests find the same way.
				got := make(chan error, 1)
				go func() {
					_, err := c.Exec(context.Background(), "select pg_catalog.pg_sleep(60)").ReadAll()
					got <- err
				}()
				(&pgtest.Database{DSN: server.DSN}).WaitFor(t, "select exists (select from pg_stat_activity where wait_event = 'PgSleep')")
				if err := c.CancelRequest(background(t)); err != nil {
					t.Fatal(err)
				}
				if e := pgError(t, <-got); e.Code != codeCanceled {
					t.Fatalf("got %v", e)
				}
			}
		})
	}
}
