package pooler

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/tlsconn/tlstest"
	"goworkers/pgwire"
)

// secureServer is a server with TLS and a certificate of the test's.
func secureServer(t *testing.T, p *papers, cert tlstest.Files, hba ...string) *pgtest.PrivateServer {
	t.Helper()
	server := guarded(t, "", hba...)
	showCertificate(t, server, p, cert)
	return server
}

// showCertificate has a server show a certificate from now on.
func showCertificate(t *testing.T, server *pgtest.PrivateServer, p *papers, cert tlstest.Files) {
	t.Helper()
	db := &pgtest.Database{DSN: server.DSN}
	for name, file := range map[string]string{"server.crt": cert.Cert, "server.key": cert.Key, "root.crt": p.ca.File} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// The server's user has to own the key.
		db.Exec(t, fmt.Sprintf("copy (select unnest(string_to_array('%s', e'\\n'))) to program 'umask 077; cat > %s'", strings.TrimSpace(string(text)), name))
	}
	db.Exec(t, "alter system set ssl_ca_file = 'root.crt'")
	db.Exec(t, "alter system set ssl = on")
	db.Exec(t, "select pg_reload_conf()")
	db.WaitFor(t, "select current_setting('ssl') = 'on' and not exists (select from pg_catalog.pg_hba_file_rules where error is not null)")
}

// throughTLS is what the server says of a connection: version and the name in our certificate.
const throughTLS = "select coalesce((select version || '/' || coalesce(client_dn, '') from pg_catalog.pg_stat_ssl where pid = pg_catalog.pg_backend_pid() and ssl), 'plain')"

// asked runs a query in a database, on a connection of its own.
func (r *rig) asked(db, sql string, more ...string) (string, error) {
	ctx := background(r.t)
	conn, err := pgconn.Connect(ctx, r.dsn(db, more...))
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	res, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	return string(res[0].Rows[0][0]), nil
}

func TestModesTowardsServers(t *testing.T) {
	p := newPapers(t)
	secure := secureServer(t, p, p.server)
	plain := pgtest.Server(t)
	at := func(name, host string, s *pgtest.PrivateServer) string {
		return fmt.Sprintf("%s = host=%s port=%d dbname=postgres\n", name, host, s.Port)
	}
	wrongName := p.ca.Issue(t, "wrong", tlstest.Leaf{CommonName: "elsewhere", Names: []string{"elsewhere.example.net"}})
	elsewhere := secureServer(t, p, wrongName)
	foreign := secureServer(t, p, p.other.Issue(t, "foreign", tlstest.Leaf{CommonName: "localhost", Names: []string{"localhost", "127.0.0.1"}}))
	const (
		none    = "plain"
		hidden  = "TLSv1.3/"
		refused = "server refused SSL"
		verify  = "certificate verify failed"
	)
	for mode, want := range map[string][4]string{
		//             without TLS, with, another name, another authority
		"disable":     {none, none, none, none},
		"allow":       {none, hidden, hidden, hidden},
		"prefer":      {none, hidden, hidden, hidden},
		"require":     {refused, hidden, hidden, hidden},
		"verify-ca":   {refused, hidden, hidden, verify},
		"verify-full": {refused, hidden, verify, verify},
	} {
		bothThreads(t, func(t *testing.T, threads string) {
			r := start(t, config{
				databases: at("plain", "127.0.0.1", plain) + at("secure", "127.0.0.1", secure) + at("elsewhere", "127.0.0.1", elsewhere) +
					at("foreign", "127.0.0.1", foreign) + at("named", "localhost", secure),
				settings: threads + "server_tls_sslmode = " + mode + "\nserver_tls_ca_file = " + p.ca.File,
			})
			for i, db := range []string{"plain", "secure", "elsewhere", "foreign"} {
				got, err := r.asked(db, throughTLS)
				if err != nil {
					got = err.Error()
				}
				if got != want[i] && !(len(want[i]) > 10 && strings.Contains(got, want[i])) {
					t.Errorf("server_tls_sslmode = %s, %s: %s; want %s", mode, db, got, want[i])
				}
			}
			if got, err := r.asked("named", throughTLS); err != nil || got != want[1] {
				t.Errorf("server_tls_sslmode = %s, by name: %s, %v", mode, got, err)
			}
		})
	}
}

// Of several hosts each is held against the name that it was chosen by.
func TestChosenHostIsTheOneWhoseNameCounts(t *testing.T) {
	p := newPapers(t)
	server := secureServer(t, p, p.ca.Issue(t, "named", tlstest.Leaf{CommonName: "x", Names: []string{"localhost"}}))
	r := start(t, config{
		databases: fmt.Sprintf("d = host=127.0.0.1,localhost port=%d dbname=postgres\nonly = host=127.0.0.1 port=%d dbname=postgres", server.Port, server.Port),
		settings:  "server_tls_sslmode = verify-full\nserver_tls_ca_file = " + p.ca.File,
	})
	for range 3 {
		if got, err := r.asked("d", throughTLS); err != nil || got != "TLSv1.3/" {
			t.Errorf("got %s, %v", got, err)
		}
		r.console("reconnect d")
	}
	if _, err := r.asked("only", throughTLS); err == nil || !strings.Contains(err.Error(), "certificate verify failed") {
		t.Errorf("wrong name alone: %v", err)
	}
}

// What a refused connection has sent must not be taken for the words of the next host.
func TestWordsOfARefusedHostAreForgotten(t *testing.T) {
	p := newPapers(t)
	server := secureServer(t, p, p.server)
	for name, evil := range map[string]scripted{
		"no, and more": {"N" + scriptedOK, ""}, "yes, and more": {"S" + scriptedOK, ""}, "noise": {"E" + strings.Repeat("x", 5000), ""},
		"starting": {"S", message('E', "SFATAL\x00C57P03\x00Mstarting\x00\x00") + scriptedOK},
	} {
		evilPort := evil.serve(t)
		// One port serves both hosts, so a relay on another address stands for the second.
		tapped(t, "127.0.0.2", evilPort, server.Port)
		r := start(t, config{
			databases: fmt.Sprintf("d = host=127.0.0.1,127.0.0.2 port=%d dbname=postgres", evilPort),
			settings:  "server_tls_sslmode = require",
		})
		for range 3 {
			if got, err := r.asked("d", throughTLS); err != nil || got != "TLSv1.3/" {
				t.Errorf("%s: %s, %v", name, got, err)
			}
			r.console("reconnect d")
		}
	}
	// With one host alone the reason is told.
	alone := scripted{"S" + scriptedOK, ""}
	r := start(t, config{databases: fmt.Sprintf("d = host=127.0.0.1 port=%d", alone.serve(t)), settings: "server_tls_sslmode = require"})
	r.bounces(t, "received unencrypted data after SSL response", "d")
}

// tap is a relay that notes how each connection begins.
type tap struct {
	port   int
	mu     sync.Mutex
	begins [][]byte
}

// tapped leads from an address to a port of 127.0.0.1.
func tapped(t *testing.T, address string, port, to int) *tap {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", address, port))
	if err != nil {
		t.Fatal(err)
	}
	r := &tap{port: l.Addr().(*net.TCPAddr).Port}
	var wg sync.WaitGroup
	var conns []net.Conn
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", to))
			if err != nil {
				client.Close()
				continue
			}
			r.mu.Lock()
			conns = append(conns, client, server)
			n := len(r.begins)
			r.begins = append(r.begins, nil)
			r.mu.Unlock()
			pass := func(from, to net.Conn, note bool) {
				defer from.Close()
				defer to.Close()
				buf := make([]byte, 32<<10)
				for {
					k, err := from.Read(buf)
					if note {
						r.mu.Lock()
						if have := r.begins[n]; len(have) < 64 {
							r.begins[n] = append(have, buf[:min(k, 64)]...)
						}
						r.mu.Unlock()
					}
					if _, werr := to.Write(buf[:k]); err != nil || werr != nil {
						return
					}
				}
			}
			wg.Go(func() { pass(client, server, true) })
			wg.Go(func() { pass(server, client, false) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		r.mu.Unlock()
		wg.Wait()
	})
	return r
}

// The key of a cancel request is as secret as the connection that it is for.
func TestCancelsGoThroughTLS(t *testing.T) {
	p := newPapers(t)
	server := secureServer(t, p, p.server)
	db := server.DB(t)
	for _, mode := range []string{"prefer", "require", "verify-full"} {
		bothThreads(t, func(t *testing.T, threads string) {
			wire := tapped(t, "127.0.0.1", 0, server.Port)
			r := start(t, config{
				databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s", wire.port, db.Name),
				settings:  threads + p.settings("require", "server_tls_sslmode = "+mode, "server_tls_ca_file = "+p.ca.File, "admin_users = postgres"),
			})
			ctx := background(t)
			conn, err := pgconn.Connect(ctx, r.dsn("d", "sslmode=require"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			for range 3 {
				done := make(chan error, 1)
				go func() {
					_, err := conn.Exec(ctx, "select pg_catalog.pg_sleep(600)").ReadAll()
					done <- err
				}()
				waitAsleep(t, db)
				// The driver sends its requests in the clear; psql of PostgreSQL 17 does not.
				if err := r.cancelOverTLS(conn); err != nil {
					t.Fatal(err)
				}
				if e := pgError(t, <-done); e.Code != codeCanceled {
					t.Errorf("got %v", e)
				}
			}
			wire.mu.Lock()
			defer wire.mu.Unlock()
			if len(wire.begins) != 4 {
				t.Errorf("%d connections, want 1 and 3 for the cancels", len(wire.begins))
			}
			for i, b := range wire.begins {
				if len(b) < 9 || !bytes.Equal(b[:8], pgwire.AppendSSLRequest(nil)) || b[8] != 0x16 {
					t.Errorf("connection %d begins in the clear: %x", i, b)
				}
			}
		})
	}
}

// cancelOverTLS sends a cancel request through TLS and waits for its end.
func (r *rig) cancelOverTLS(conn *pgconn.PgConn) error {
	raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		return err
	}
	defer raw.Close()
	raw.SetDeadline(time.Now().Add(time.Minute))
	cfg, err := pgconn.ParseConfig(r.dsn("d", "sslmode=require"))
	if err != nil {
		return err
	}
	secure, err := startClientTLS(raw, cfg.TLSConfig)
	if err != nil {
		return err
	}
	if _, err := secure.Write(pgwire.AppendCancelRequest(nil, keyOf(conn))); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, secure)
	return err
}

// A cancel that may not travel in the clear, to a server that has no TLS any more.
func TestCancelIsGivenUpRatherThanSeen(t *testing.T) {
	p := newPapers(t)
	server := secureServer(t, p, p.server)
	db := server.DB(t)
	wire := tapped(t, "127.0.0.1", 0, server.Port)
	r := start(t, config{
		databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s", wire.port, db.Name),
		settings:  "server_tls_sslmode = require\ncancel_wait_timeout = 2",
	})
	ctx := background(t)
	conn, err := pgconn.Connect(ctx, r.dsn("d"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(ctx, "select 1 from pg_catalog.pg_sleep(600)").ReadAll()
		done <- err
	}()
	waitAsleep(t, db)
	admin := &pgtest.Database{DSN: server.DSN}
	admin.Exec(t, "alter system set ssl = off")
	admin.Exec(t, "select pg_catalog.pg_reload_conf()")
	admin.WaitFor(t, "select current_setting('ssl') = 'off'")
	if err := r.fireCancel(conn); err != nil {
		t.Fatal(err)
	}
	r.waitLog("cancel request: server refused SSL")
	admin.Exec(t, "select pg_catalog.pg_cancel_backend(pid) from pg_catalog.pg_stat_activity where wait_event = 'PgSleep'")
	if e := pgError(t, <-done); e.Code != codeCanceled {
		t.Errorf("got %v", e)
	}
	wire.mu.Lock()
	defer wire.mu.Unlock()
	for i, b := range wire.begins {
		if len(b) > 12 && binary.BigEndian.Uint32(b[4:]) == 1234<<16|5678 {
			t.Errorf("connection %d: the key in the clear", i)
		}
	}
}

func TestServersAreReplacedOnlyWhenTLSReallyChanges(t *testing.T) {
	p := newPapers(t)
	server := secureServer(t, p, p.server, "hostssl all carl 127.0.0.1/32 cert")
	admin := &pgtest.Database{DSN: server.DSN}
	admin.Exec(t, "create role carl login")
	carl := p.ca.Issue(t, "carl", tlstest.Leaf{CommonName: "carl"})
	c := config{databases: leading("d", server), settings: "server_tls_sslmode = verify-ca\nserver_tls_ca_file = " + p.ca.File + "\npool_mode = transaction"}
	bothThreads(t, func(t *testing.T, threads string) {
		c := c
		c.settings = threads + c.settings
		r := start(t, c)
		conn := r.connect("d")
		pid := value[int](t, conn, "select pg_backend_pid()")
		r.reload(t, c)
		// Other spelling, and a file that was written anew, are no changes.
		c.settings += "\nserver_tls_protocols = secure"
		text, err := os.ReadFile(p.ca.File)
		if err == nil {
			err = os.WriteFile(p.ca.File, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.reload(t, c)
		if got := value[int](t, conn, "select pg_backend_pid()"); got != pid {
			t.Error("replaced although nothing has changed")
		}
		exec(t, conn, "begin")
		c.settings += "\nserver_tls_cert_file = " + carl.Cert + "\nserver_tls_key_file = " + carl.Key
		r.reload(t, c)
		if got := value[int](t, conn, "select pg_backend_pid()"); got != pid {
			t.Error("taken away within a transaction")
		}
		exec(t, conn, "commit")
		if got := value[string](t, conn, throughTLS); got != "TLSv1.3//CN=carl" {
			t.Errorf("afterwards the server sees %q", got)
		}
		r.waitLog("closing because: TLS configuration changed")
		// What cannot be set up leaves all as it is.
		pid = value[int](t, conn, "select pg_backend_pid()")
		c.settings += "\nserver_tls_ca_file = /nonexistent"
		r.write(c)
		if _, err := r.command("reload"); err == nil {
			t.Error("reload with a missing file succeeds")
		}
		r.waitLog("TLS setup failed: " + r.conf + ": [pgbouncer] server_tls_ca_file = /nonexistent: no such file or directory")
		if got := value[int](t, conn, "select pg_backend_pid()"); got != pid {
			t.Error("replaced although the new settings do not hold")
		}
	})
}

func TestCertificateOpensServers(t *testing.T) {
	p := newPapers(t)
	server := secureServer(t, p, p.server, "hostssl all carl 127.0.0.1/32 cert")
	admin := &pgtest.Database{DSN: server.DSN}
	admin.Exec(t, "create role carl login")
	carl := p.ca.Issue(t, "carl", tlstest.Leaf{CommonName: "carl"})
	c := config{
		databases: leading("d", server, "user=carl"),
		settings:  "server_tls_sslmode = require\nserver_tls_cert_file = " + carl.Cert + "\nserver_tls_key_file = " + carl.Key,
	}
	r := start(t, c)
	r.enters(t, "carl", "d")
	// The server's certificate changes to one of an authority that we do not know.
	c.settings += "\nserver_tls_sslmode = verify-ca\nserver_tls_ca_file = " + p.ca.File
	r.reload(t, c)
	r.enters(t, "carl", "d")
	showCertificate(t, server, p, p.other.Issue(t, "new", tlstest.Leaf{CommonName: "localhost", Names: []string{"localhost"}}))
	r.console("reconnect d")
	r.waitFor("the new certificate is refused", func() bool {
		_, err := r.try("d")
		return err != nil && strings.Contains(err.Error(), "certificate verify failed")
	})
	showCertificate(t, server, p, p.server)
	r.waitFor("the old one is back", func() bool {
		_, err := r.try("d")
		return err == nil
	})
}

// Much data through TLS on both sides, with sockets that take little at a time.
func TestBulkThroughTLSAndSmallSocketBuffers(t *testing.T) {
	const size = 50 << 20
	p := newPapers(t)
	server := secureServer(t, p, p.server)
	db := server.DB(t)
	db.Exec(t, "create table public.t (id int, line text)")
	bothThreads(t, func(t *testing.T, threads string) {
		db.Exec(t, "truncate public.t")
		r := start(t, config{
			databases: fmt.Sprintf("d = host=127.0.0.1 port=%d dbname=%s", server.Port, db.Name),
			settings:  threads + p.settings("require", "server_tls_sslmode = require", "tcp_socket_buffer = 4096"),
		})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		conn, err := pgconn.Connect(ctx, r.dsn("d", "sslmode=require"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		in, out := sha256.New(), sha256.New()
		text := lines(size/1000, 990)
		in.Write(text)
		if _, err := conn.CopyFrom(ctx, bytes.NewReader(text), "copy public.t from stdin"); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.CopyTo(ctx, out, "copy (select * from public.t order by id) to stdout"); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(in.Sum(nil), out.Sum(nil)) {
			t.Error("other bytes come out than went in")
		}
	})
}

// What drivers do, through TLS on both sides: pipelines, and prepared statements that
// follow their client.
func TestPipelinesAndPreparedStatementsThroughTLS(t *testing.T) {
	p := newPapers(t)
	server := secureServer(t, p, p.server)
	bothThreads(t, func(t *testing.T, threads string) {
		r := start(t, config{
			databases: leading("d", server, "pool_size=2"),
			settings:  threads + p.settings("require", "server_tls_sslmode = require", "max_prepared_statements = 10"),
		})
		ctx := background(t)
		var wg sync.WaitGroup
		for id := range 6 {
			wg.Go(func() {
				conn, err := pgx.Connect(ctx, r.dsn("d", "sslmode=require"))
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close(ctx)
				for n := range 30 {
					batch := &pgx.Batch{}
					for k := range 20 {
						batch.Queue("select $1::int + $2::int, pg_catalog.repeat('x', $3::int)", id*1000+n, k, 1+n*k*50)
					}
					results := conn.SendBatch(ctx, batch)
					for k := range 20 {
						var sum int
						var text string
						if err := results.QueryRow().Scan(&sum, &text); err != nil || sum != id*1000+n+k || len(text) != 1+n*k*50 {
							t.Errorf("client %d: %d, %d bytes, %v", id, sum, len(text), err)
							break
						}
					}
					if err := results.Close(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}
