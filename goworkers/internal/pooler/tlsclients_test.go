package pooler

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/tlsconn/tlstest"
	"goworkers/pgwire"
)

// papers are the certificates of a test.
type papers struct {
	ca, other                    *tlstest.CA
	server, alice, bob, stranger tlstest.Files
}

func newPapers(t testing.TB) *papers {
	t.Helper()
	p := &papers{ca: tlstest.NewCA(t, "authority"), other: tlstest.NewCA(t, "somebody else")}
	p.server = p.ca.Issue(t, "server", tlstest.Leaf{CommonName: "localhost", Names: []string{"localhost", "127.0.0.1"}})
	p.alice = p.ca.Issue(t, "alice", tlstest.Leaf{CommonName: "alice"})
	p.bob = p.ca.Issue(t, "bob", tlstest.Leaf{CommonName: "Bob of Sales", Names: []string{"bob.example.net"}})
	p.stranger = p.other.Issue(t, "stranger", tlstest.Leaf{CommonName: "alice"})
	return p
}

// settings are the lines that have the pooler speak TLS with clients.
func (p *papers) settings(mode string, more ...string) string {
	return fmt.Sprintf("client_tls_sslmode = %s\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\nclient_tls_ca_file = %s\n%s\n",
		mode, p.server.Cert, p.server.Key, p.ca.File, strings.Join(more, "\n"))
}

// with is what a client adds to its connection string to show a certificate.
func with(f tlstest.Files) string { return fmt.Sprintf("sslcert=%s sslkey=%s", f.Cert, f.Key) }

// Every mode of the pooler with every mode of libpq.
func TestModesTowardsClients(t *testing.T) {
	p := newPapers(t)
	db := pgtest.DB(t)
	const (
		plain    = "plain"
		secure   = "secure"
		required = "SSL required"
		lacking  = "does not support SSL"
		unproven = "certificate required"
	)
	for mode, want := range map[string][]string{
		//              disable   allow     prefer    require   verify-ca verify-full
		"disable":     {plain, plain, plain, lacking, lacking, lacking},
		"allow":       {plain, plain, secure, secure, secure, secure},
		"prefer":      {plain, plain, secure, secure, secure, secure},
		"require":     {required, secure, secure, secure, secure, secure},
		"verify-ca":   {required, unproven, unproven, unproven, unproven, unproven},
		"verify-full": {required, unproven, unproven, unproven, unproven, unproven},
	} {
		r := start(t, config{databases: entry("d", db), settings: p.settings(mode)})
		for i, theirs := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"} {
			login := func(more string) string {
				cmd := osexec.Command("psql", "-XAt", "-c", "select 1", "-c", `\conninfo`,
					fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%d user=postgres dbname=d sslmode=%s sslrootcert=%s %s", r.port, theirs, p.ca.File, more))
				out, _ := cmd.CombinedOutput()
				switch text := string(out); {
				case strings.HasPrefix(text, "1\n") && strings.Contains(text, "SSL connection (protocol: TLSv1.3"):
					return secure
				case strings.HasPrefix(text, "1\n") && !strings.Contains(text, "SSL"):
					return plain
				default:
					return text
				}
			}
			got := login("sslcert=/nonexistent sslkey=/nonexistent")
			if got != want[i] && !(len(want[i]) > 6 && strings.Contains(got, want[i])) {
				t.Errorf("client_tls_sslmode = %s, sslmode=%s: %s; want %s", mode, theirs, got, want[i])
			}
			if want[i] == unproven {
				if got := login(with(p.alice)); got != secure {
					t.Errorf("client_tls_sslmode = %s, sslmode=%s with a certificate: %s", mode, theirs, got)
				}
				got := login(with(p.stranger))
				r.waitLog("closing because: TLS handshake failed: certificate verify failed: ")
				if !strings.Contains(got, "unknown ca") && !strings.Contains(got, "bad certificate") {
					t.Errorf("client_tls_sslmode = %s, sslmode=%s with a stranger's certificate: %s", mode, theirs, got)
				}
			}
		}
		// Unix sockets have no TLS, and need none.
		out, err := osexec.Command("psql", "-XAt", "-c", "select 1", fmt.Sprintf("host=%s port=%d user=postgres dbname=d", r.dir, r.port)).CombinedOutput()
		if err != nil || string(out) != "1\n" {
			t.Errorf("client_tls_sslmode = %s over the unix socket: %s", mode, out)
		}
	}
}

// dialTLS connects in the way of PostgreSQL 17: TLS at once.
func (r *rig) dialTLS(cfg *tls.Config) (*tls.Conn, error) {
	raw, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { raw.Close() })
	raw.SetDeadline(time.Now().Add(time.Minute))
	conn := tls.Client(raw, cfg)
	return conn, conn.Handshake()
}

func TestDirectTLSNeedsTheProtocolsName(t *testing.T) {
	p := newPapers(t)
	db := pgtest.DB(t)
	bothThreads(t, func(t *testing.T, threads string) {
		r := start(t, config{databases: entry("d", db), settings: threads + p.settings("require")})
		r.enters(t, "postgres", "d", "host=localhost sslmode=verify-full sslnegotiation=direct sslrootcert="+p.ca.File)
		r.waitLog("login attempt: db=d user=postgres tls=TLSv1.3/TLS_")
		for name, protocols := range map[string][]string{"none": nil, "another": {"http/1.1"}} {
			conn, err := r.dialTLS(&tls.Config{RootCAs: p.ca.Pool, ServerName: "localhost", NextProtos: protocols})
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
			}
			if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("ALPN %s: %v", name, err)
			}
		}
		r.waitFor("both are told of", func() bool { return strings.Count(r.log.String(), "closing because: TLS handshake failed: ") == 2 })
		// Byte by byte, within TLS and below it.
		conn, err := r.dialTLS(&tls.Config{RootCAs: p.ca.Pool, ServerName: "localhost", NextProtos: []string{"postgresql"}})
		if err != nil {
			t.Fatal(err)
		}
		packets := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}})
		packets = pgwire.AppendQuery(packets, "select 'x'")
		for i := range packets {
			if _, err := conn.Write(packets[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		skipTo(t, conn, pgwire.MsgReadyForQuery)
		if row := skipTo(t, conn, pgwire.MsgDataRow); !bytes.HasSuffix(row, []byte("x")) {
			t.Errorf("got %q", row)
		}
	})
	// Where there is no TLS, a handshake is a bad packet.
	r := start(t, config{databases: entry("d", db)})
	if _, err := r.dialTLS(&tls.Config{RootCAs: p.ca.Pool, ServerName: "localhost", NextProtos: []string{"postgresql"}}); err == nil {
		t.Error("TLS without client_tls_sslmode")
	}
}

func TestVersionsAndCiphersAreShown(t *testing.T) {
	p := newPapers(t)
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db), settings: p.settings("require", "client_tls_protocols = tlsv1.2", "client_tls_ciphers = ECDHE-ECDSA-AES128-GCM-SHA256")})
	r.enters(t, "postgres", "d", "sslmode=require")
	r.waitLog("tls=TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256")
	ctx := background(t)
	conn, err := pgx.Connect(ctx, r.dsn("pgbouncer", "sslmode=require default_query_exec_mode=simple_protocol"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)
	r.waitLog("login attempt: db=pgbouncer user=postgres tls=TLSv1.2/")
}

func TestCertificatesProveWhoOneIs(t *testing.T) {
	p := newPapers(t)
	server := guarded(t, asker)
	r := start(t, config{
		databases: leading("d", server, "user=postgres") + leading("asked", server, "user=postgres auth_user=asker"),
		authFile:  `"postgres" "x"` + "\n" + `"alice" ""` + "\n" + `"bob" "x"` + "\n" + `"bob.example.net" ""` + "\n" + `"asker" "ask"` + "\n",
		settings:  p.settings("verify-full", "auth_type = cert", "auth_query = select usename, passwd from public.secret($1)"),
	})
	const secure = "sslmode=require "
	r.enters(t, "postgres", "d", secure, "user=alice", with(p.alice))
	r.enters(t, "postgres", "d", secure, "user=bob.example.net", with(p.bob))
	r.enters(t, "postgres", "asked", secure, "user=alice", with(p.alice))
	r.bounces(t, "TLS certificate name mismatch", "d", secure, "user=bob", with(p.alice))
	r.bounces(t, "TLS certificate name mismatch", "d", secure, "user=bob", with(p.bob))
	r.bounces(t, "TLS certificate name mismatch", "d", secure, "user=nobody", with(p.alice))
	r.bounces(t, `"cert" authentication failed`, "d", secure, "user='Bob of Sales'", with(p.bob))
	r.bounces(t, "no such user", "asked", secure, "user='Bob of Sales'", with(p.bob))
	if _, err := r.try("d", secure, "user=alice", with(p.stranger)); err == nil {
		t.Error("a stranger's certificate lets in")
	}
	r.waitLog("closing because: TLS handshake failed: ")
	// Over a unix socket nobody can show one.
	r.bounces(t, "TLS certificate name mismatch", "d", "host="+r.dir, "user=alice")
}

// A new certificate holds from RELOAD on, a broken one changes nothing, and those who
// are connected do not notice.
func TestCertificatesChangeUnderLoad(t *testing.T) {
	p := newPapers(t)
	db := pgtest.DB(t)
	c := config{databases: entry("d", db), settings: p.settings("prefer")}
	r := start(t, c)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var queries, logins atomic.Int64
	for range 3 {
		conn := r.connect("d", "sslmode=require")
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := conn.Exec(context.Background(), "select 1"); err != nil {
					t.Errorf("a connection from before: %v", err)
					return
				}
				queries.Add(1)
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := r.try("d", "sslmode=require"); err != nil {
				t.Errorf("login meanwhile: %v", err)
				return
			}
			logins.Add(1)
		}
	})
	shown := func() string {
		conn, err := r.dialTLS(&tls.Config{RootCAs: p.ca.Pool, ServerName: "localhost", NextProtos: []string{"postgresql"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	put := func(from tlstest.Files) {
		for to, path := range map[string]string{p.server.Cert: from.Cert, p.server.Key: from.Key} {
			text, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(to, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	reload := func() error {
		_, err := r.command("reload")
		return err
	}
	for i := range 5 {
		name := fmt.Sprintf("generation %d", i)
		put(p.ca.Issue(t, "next", tlstest.Leaf{CommonName: name, Names: []string{"localhost"}}))
		if err := reload(); err != nil {
			t.Fatal(err)
		}
		if got := shown(); got != name {
			t.Errorf("after %s the certificate is that of %s", name, got)
		}
	}
	// The rest of the file holds although the certificate does not.
	if err := os.WriteFile(p.server.Cert, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.databases += "\n" + entry("new", db)
	c.settings = strings.Replace(c.settings, "sslmode = prefer", "sslmode = require", 1)
	r.write(c)
	if err := reload(); err == nil || pgError(t, err).Message != "RELOAD failed, see logs for additional details" {
		t.Errorf("RELOAD with a broken certificate: %v", err)
	}
	r.waitLog("TLS setup failed: " + r.conf + ": [pgbouncer] client_tls_cert_file = " + p.server.Cert)
	if got := shown(); got != "generation 4" {
		t.Errorf("with a broken certificate that of %s is shown", got)
	}
	r.enters(t, "postgres", "new", "sslmode=disable")
	for _, row := range r.console("show config") {
		if row["key"] == "client_tls_sslmode" && row["value"] != "prefer" {
			t.Errorf("shown as in force: %v", row)
		}
	}
	close(stop)
	wg.Wait()
	if queries.Load() == 0 || logins.Load() == 0 {
		t.Errorf("%d queries, %d logins", queries.Load(), logins.Load())
	}
}

// Bytes that come in the clear together with the request for TLS may be somebody else's
// than the client's.
func TestNothingIsTakenFromBeforeTLS(t *testing.T) {
	p := newPapers(t)
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: p.settings("prefer")})
	startup := pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: "d"}})
	for name, first := range map[string][]byte{"SSL": pgwire.AppendSSLRequest(nil), "GSS": pgwire.AppendGSSENCRequest(nil)} {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		conn.Write(append(first, startup...))
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if !bytes.Contains(answer, []byte("received unencrypted data after SSL request")) || bytes.Contains(answer, []byte("server_version")) {
			t.Errorf("%s: %q", name, answer)
		}
	}
	// What comes after the S, but in the clear, is no handshake.
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write(pgwire.AppendSSLRequest(nil))
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil || b[0] != 'S' {
		t.Fatalf("%q, %v", b, err)
	}
	conn.Write(startup)
	if answer, _ := io.ReadAll(conn); bytes.Contains(answer, []byte("server_version")) || bytes.Contains(answer, []byte("R\x00\x00\x00")) {
		t.Errorf("startup packet in the clear after S: %q", answer)
	}
	r.waitLog("closing because: TLS handshake failed: ")
}

// startClientTLS asks for TLS on a connection and makes the handshake.
func startClientTLS(raw net.Conn, cfg *tls.Config) (*tls.Conn, error) {
	if _, err := raw.Write(pgwire.AppendSSLRequest(nil)); err != nil {
		return nil, err
	}
	var b [1]byte
	if _, err := io.ReadFull(raw, b[:]); err != nil || b[0] != 'S' {
		return nil, fmt.Errorf("answer to the request for TLS: %q, %w", b, err)
	}
	conn := tls.Client(raw, cfg)
	return conn, conn.Handshake()
}

// descriptors is how many the process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Handshakes that come to no end are ended, and leave nothing behind.
func TestHalfOpenHandshakesAreEnded(t *testing.T) {
	p := newPapers(t)
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: p.settings("prefer", "client_login_timeout = 1")})
	r.enters(t, "postgres", "d", "sslmode=require")
	r.waitFor("the client has gone", func() bool { return r.pool("d")["cl_active"] == "0" })
	before, goroutines := descriptors(t), runtime.NumGoroutine()
	var conns []net.Conn
	for i := range 40 {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		conns = append(conns, conn)
		switch i % 4 {
		case 0: // says nothing more
			conn.Write(pgwire.AppendSSLRequest(nil))
		case 1: // begins at once, and stops
			conn.Write([]byte{0x16, 3, 1})
		case 2: // a part of a record
			conn.Write(pgwire.AppendSSLRequest(nil))
			io.ReadFull(conn, make([]byte, 1))
			conn.Write([]byte{0x16, 3, 1, 2, 0, 1})
		case 3: // goes away in the middle
			conn.Write(pgwire.AppendSSLRequest(nil))
			io.ReadFull(conn, make([]byte, 1))
			conn.Close()
		}
	}
	for i, conn := range conns {
		if i%4 == 3 {
			continue
		}
		rest, err := io.ReadAll(conn)
		if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("connection %d is not ended", i)
		}
		// Within a handshake there is no way to tell why.
		if bytes.Contains(rest, []byte("FATAL")) {
			t.Errorf("connection %d: plain text in a handshake: %q", i, rest)
		}
		conn.Close()
	}
	r.waitFor("descriptors and goroutines are back", func() bool {
		return descriptors(t) <= before && runtime.NumGoroutine() <= goroutines
	})
}

// unstarted is a pooler that listens on a free port and is not Run yet. Its database d
// leads nowhere.
func unstarted(t testing.TB, settings string) (p *Pooler, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	path := filepath.Join(t.TempDir(), "pooler.ini")
	text := fmt.Sprintf("[databases]\nd = host=127.0.0.1 port=1\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\n%s\n", port, settings)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := ini.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = New(cfg, Options{Log: io.Discard}); err != nil {
		t.Fatal(err)
	}
	return p, port
}

// A pooler that ends does not wait for handshakes, nor leaves their sockets open.
func TestHandshakesEndWithThePooler(t *testing.T) {
	p := newPapers(t)
	before := descriptors(t)
	for range 3 {
		pooler, port := unstarted(t, p.settings("require"))
		done := make(chan error, 1)
		go func() { done <- pooler.Run() }()
		var conns []net.Conn
		for range 10 {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			conn.Write(pgwire.AppendSSLRequest(nil))
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		pooler.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, conn := range conns {
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a socket is still open")
			}
			conn.Close()
		}
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
