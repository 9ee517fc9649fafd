package tlsconn

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
)

// takeSocket takes the socket out of a connection of package net, which is no more.
func takeSocket(conn net.Conn) (int, error) {
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if e := raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

// descriptor is takeSocket for as long as the test runs.
func descriptor(t testing.TB, conn net.Conn) int {
	t.Helper()
	fd, err := takeSocket(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return fd
}

func listen(t testing.TB) (net.Listener, int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, l.Addr().(*net.TCPAddr).Port
}

func accept(t testing.TB, l net.Listener) int {
	t.Helper()
	l.(*net.TCPListener).SetDeadline(time.Now().Add(limit))
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return descriptor(t, conn)
}

// program is a program that the test talks to by its standard input and output.
type program struct {
	t     testing.TB
	input io.WriteCloser
	lines chan string
	all   strings.Builder
}

func start(t testing.TB, name string, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	cmd := exec.CommandContext(ctx, name, args...)
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, input: input, lines: make(chan string, 1000)}
	var done sync.WaitGroup
	done.Go(func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	})
	done.Go(func() { cmd.Wait(); w.Close() })
	t.Cleanup(func() {
		cancel()
		for range p.lines { // or the reader could be stuck
		}
		done.Wait()
	})
	return p
}

// say types a line.
func (p *program) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.input, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// see waits for a line that begins like that, and returns the rest of it.
func (p *program) see(begin string) string {
	p.t.Helper()
	for line := range p.lines {
		fmt.Fprintln(&p.all, line)
		if rest, ok := strings.CutPrefix(line, begin); ok {
			return rest
		}
	}
	p.t.Fatalf("no line begins with %q:\n%s", begin, p.all.String())
	return ""
}

func TestOpenSSLAsClient(t *testing.T) {
	b := setup(t)
	for _, v := range protocols {
		for _, direct := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/direct=%v", v.name, direct), func(t *testing.T) {
				l, port := listen(t)
				args := []string{"s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", port), "-CAfile", b.ca.File, "-verify_return_error",
					"-verify_hostname", "localhost", "-cert", b.client.Cert, "-key", b.client.Key}
				if direct {
					args = append(args, "-alpn", "postgresql")
				}
				client := start(t, "openssl", args...)
				fd := accept(t, l)
				var early []byte
				if direct {
					if err := newStream(nil, fd).wait(unix.POLLIN); err != nil {
						t.Fatal(err)
					}
					early = make([]byte, 4096)
					n, err := evloop.Read(fd, early)
					if err != nil {
						t.Fatal(err)
					}
					early = early[:n]
				}
				cfg := b.forClients(t, func(s *ini.Settings) {
					s.ClientTLS.SSLMode, s.ClientTLS.CAFile, s.ClientTLS.Protocols = ini.SSLVerifyFull, b.ca.File, v.name
				})
				c, err := b.h.Accept(background(t), cfg, fd, early)
				if err != nil {
					t.Fatal(err)
				}
				if cn, _ := c.PeerNames(); cn != "alice" {
					t.Errorf("the client is %q", cn)
				}
				// TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384
				version, cipher, _ := strings.Cut(client.see("New, "), ", Cipher is ")
				if state := version + "/" + cipher; state != c.State() {
					t.Errorf("we say %s, OpenSSL says %s", c.State(), state)
				}
				s := newStream(c, fd)
				hear := func(want string) {
					t.Helper()
					got := make([]byte, len(want))
					if _, err := io.ReadFull(s, got); err != nil || string(got) != want {
						t.Fatalf("got %q: %v", got, err)
					}
				}
				client.say("hello")
				hear("hello\n")
				if _, err := s.Write([]byte("answer\n")); err != nil {
					t.Fatal(err)
				}
				client.see("answer")
				if v.name == "tlsv1.3" {
					// New keys, and the wish that we take new ones too.
					client.say("K")
					client.see("KEYUPDATE")
					client.say("again")
					hear("again\n")
					if len(c.t.out) == 0 {
						t.Error("no new keys were asked for")
					}
					if _, err := s.Write([]byte("with new keys\n")); err != nil {
						t.Fatal(err)
					}
					client.see("with new keys")
				}
				client.say("Q")
				if n, err := s.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("%d bytes, %v", n, err)
				}
			})
		}
	}
}

// A peer that wants new keys again and again, while we have nothing to send.
func TestPeerCannotPileUpAnswers(t *testing.T) {
	b := setup(t)
	l, port := listen(t)
	client := start(t, "openssl", "s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", port), "-CAfile", b.ca.File)
	fd := accept(t, l)
	c, err := b.h.Accept(background(t), b.forClients(t, nil), fd, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(c, fd)
	for range maxReply {
		client.say("K")
		client.see("KEYUPDATE")
		client.say("x")
		if _, err = io.ReadFull(s, make([]byte, 2)); err != nil {
			break
		}
		// The error comes behind the bytes that ReadFull wanted, and so in the next turn.
		if len(c.t.out) > maxReply+100 {
			t.Fatalf("%d bytes wait for the peer", len(c.t.out))
		}
	}
	if err == nil || !strings.Contains(err.Error(), "new keys without end") {
		t.Errorf("error %v", err)
	}
	if _, err := c.Encrypt(nil, []byte("x")); err == nil {
		t.Error("a broken connection takes bytes")
	}
}

func TestOpenSSLAsServer(t *testing.T) {
	b := setup(t)
	for _, v := range protocols {
		t.Run(v.name, func(t *testing.T) {
			server := start(t, "openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", b.server.Cert, "-key", b.server.Key,
				"-CAfile", b.ca.File, "-Verify", "1", "-verify_return_error", "-alpn", "postgresql")
			conn, err := net.Dial("tcp", server.see("ACCEPT "))
			if err != nil {
				t.Fatal(err)
			}
			fd := descriptor(t, conn)
			cfg := b.forServers(t, func(s *ini.Settings) {
				s.ServerTLS.Protocols = v.name
				s.ServerTLS.CertFile, s.ServerTLS.KeyFile = b.client.Cert, b.client.Key
			})
			c, err := b.h.Connect(background(t), cfg, fd, "localhost")
			if err != nil {
				t.Fatal(err)
			}
			server.see("ALPN protocols selected: postgresql")
			if cipher := server.see("CIPHER is "); !strings.HasSuffix(c.State(), "/"+cipher) {
				t.Errorf("we say %s, OpenSSL says %s", c.State(), cipher)
			}
			s := newStream(c, fd)
			send := func(text string) {
				t.Helper()
				if _, err := s.Write([]byte(text + "\n")); err != nil {
					t.Fatal(err)
				}
				server.see(text)
			}
			hear := func(text string) {
				t.Helper()
				server.say(text)
				got := make([]byte, len(text)+1)
				if _, err := io.ReadFull(s, got); err != nil || string(got) != text+"\n" {
					t.Fatalf("got %q: %v", got, err)
				}
			}
			send("hello")
			hear("behind the tickets")
			if v.name == "tlsv1.3" {
				server.say("K")
				// OpenSSL would take what comes right behind the K for a part of it.
				for len(c.t.out) == 0 {
					if err := s.wait(unix.POLLIN); err != nil {
						t.Fatal(err)
					}
					n, err := evloop.Read(fd, s.buf)
					if err != nil || n == 0 {
						t.Fatalf("%d bytes instead of new keys: %v", n, err)
					}
					if n, _, err := c.Decrypt(make([]byte, Slack), s.buf[:n]); n != 0 || err != nil {
						t.Fatalf("%d bytes instead of new keys: %v", n, err)
					}
				}
				hear("new keys here")
				send("new keys there")
			}
			server.say("Q")
		})
	}
}

// sslRequest asks for TLS (protocol-message-formats: SSLRequest).
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

// relay takes one client with TLS and leads it to a server with TLS.
type relay struct {
	client, server *Conn
	err            error
	done           chan struct{}
}

func startRelay(t testing.TB, h *Handshaker, clients, servers *Config, server string) (*relay, int) {
	l, port := listen(t)
	r := &relay{done: make(chan struct{})}
	ctx := background(t)
	go func() {
		defer close(r.done)
		r.err = r.run(ctx, h, clients, servers, l, server)
	}()
	t.Cleanup(func() { l.Close(); <-r.done })
	return r, port
}

func (r *relay) run(ctx context.Context, h *Handshaker, clients, servers *Config, l net.Listener, server string) error {
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	first := make([]byte, len(sslRequest))
	if _, err := io.ReadFull(conn, first); err != nil || string(first) != sslRequest {
		return fmt.Errorf("the client asks %q: %w", first, err)
	}
	if _, err := conn.Write([]byte("S")); err != nil {
		return err
	}
	down, err := takeSocket(conn)
	if err != nil {
		return err
	}
	defer syscall.Close(down)
	if r.client, err = h.Accept(ctx, clients, down, nil); err != nil {
		return err
	}
	if conn, err = net.Dial("tcp", server); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, sslRequest); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, first[:1]); err != nil || first[0] != 'S' {
		return fmt.Errorf("the server answers %q: %w", first[:1], err)
	}
	up, err := takeSocket(conn)
	if err != nil {
		return err
	}
	defer syscall.Close(up)
	if r.server, err = h.Connect(ctx, servers, up, "localhost"); err != nil {
		return err
	}
	from, to := newStream(r.client, down), newStream(r.server, up)
	back := make(chan error, 1)
	go func() {
		_, err := io.Copy(from, to)
		// Only this way: the client may still have its own end to say.
		syscall.Shutdown(down, syscall.SHUT_WR)
		back <- err
	}()
	_, err = io.Copy(to, from)
	syscall.Shutdown(up, syscall.SHUT_WR)
	<-back
	return err
}

// tlsServer is a PostgreSQL server with TLS that knows the bundle's authority.
func tlsServer(t *testing.T, b *bundle) *pgtest.PrivateServer {
	t.Helper()
	server := pgtest.Server(t)
	db := server.DB(t)
	for name, file := range map[string]string{"server.crt": b.server.Cert, "server.key": b.server.Key, "root.crt": b.ca.File} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// The server's user has to own the key.
		db.Exec(t, fmt.Sprintf("copy (select unnest(string_to_array('%s', e'\\n'))) to program 'umask 077; cat > %s'", strings.TrimSpace(string(text)), name))
	}
	for _, set := range []string{"ssl = on", "ssl_ca_file = 'root.crt'", "ssl_min_protocol_version = 'TLSv1.2'"} {
		db.Exec(t, "alter system set "+set)
	}
	db.Exec(t, "select pg_reload_conf()")
	db.WaitFor(t, "select current_setting('ssl') = 'on'")
	return server
}

func TestPsqlThroughUsToPostgreSQL(t *testing.T) {
	b := setup(t)
	server := tlsServer(t, b)
	for _, v := range protocols {
		t.Run(v.name, func(t *testing.T) {
			clients := b.forClients(t, func(s *ini.Settings) {
				s.ClientTLS.SSLMode, s.ClientTLS.CAFile, s.ClientTLS.Protocols = ini.SSLVerifyCA, b.ca.File, v.name
			})
			servers := b.forServers(t, func(s *ini.Settings) {
				s.ServerTLS.Protocols, s.ServerTLS.CertFile, s.ServerTLS.KeyFile = v.name, b.client.Cert, b.client.Key
			})
			r, port := startRelay(t, b.h, clients, servers, fmt.Sprintf("127.0.0.1:%d", server.Port))
			const size = 5 << 20
			var script bytes.Buffer
			fmt.Fprintf(&script, "\\conninfo\n"+
				"select version || '/' || cipher, client_dn from pg_stat_ssl where pid = pg_backend_pid();\n"+
				"select length('%s');\n"+
				"select repeat('y', %d);\n", bytes.Repeat([]byte("x"), size), size)
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			cmd := exec.CommandContext(ctx, "psql", "-XAt", "-v", "ON_ERROR_STOP=1", fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%d user=postgres dbname=postgres "+
				"sslmode=verify-full sslrootcert=%s sslcert=%s sslkey=%s", port, b.ca.File, b.client.Cert, b.client.Key))
			cmd.Stdin = &script
			var complaints strings.Builder
			cmd.Stderr = &complaints
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("psql: %v: %s", err, complaints.String())
			}
			<-r.done
			if r.err != nil && r.err != io.EOF {
				t.Errorf("relay: %v", r.err)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			version, cipher, _ := strings.Cut(r.client.State(), "/")
			if want := fmt.Sprintf("(protocol: %s, cipher: %s,", version, cipher); !strings.Contains(string(out), want) {
				t.Errorf("no %q in %q", want, string(out[:min(len(out), 500)]))
			}
			if len(lines) < 4 {
				t.Fatalf("%d lines: %.500q", len(lines), out)
			}
			lines = lines[len(lines)-3:]
			if want := r.server.State() + "|/CN=alice"; lines[0] != want {
				t.Errorf("the server sees %s, not %s", lines[0], want)
			}
			if lines[1] != fmt.Sprint(size) {
				t.Errorf("the server got %.100s bytes, not %d", lines[1], size)
			}
			if lines[2] != strings.Repeat("y", size) {
				t.Errorf("the client got %d bytes, or others", len(lines[2]))
			}
			if cn, _ := r.client.PeerNames(); cn != "alice" {
				t.Errorf("the client is %q", cn)
			}
			if cn, names := r.server.PeerNames(); cn != "localhost" || len(names) != 2 {
				t.Errorf("the server is %q, %q", cn, names)
			}
		})
	}
}
