package tlsconn

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/tlsconn/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit is how long a test waits for what must come.
const limit = 30 * time.Second

// bundle is what most tests want.
type bundle struct {
	ca             *tlstest.CA
	server, client tlstest.Files // of a server called localhost, of a client called alice
	h              *Handshaker
}

func setup(t testing.TB) *bundle {
	t.Helper()
	ca := tlstest.NewCA(t, "authority")
	return &bundle{
		ca:     ca,
		server: ca.Issue(t, "server", tlstest.Leaf{CommonName: "localhost", Names: []string{"localhost", "127.0.0.1"}}),
		client: ca.Issue(t, "client", tlstest.Leaf{CommonName: "alice", Names: []string{"alice.example", "10.1.2.3"}}),
		h:      handshaker(t),
	}
}

func handshaker(t testing.TB) *Handshaker {
	t.Helper()
	h, err := NewHandshaker(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// forClients builds the side towards clients; change may be nil.
func (b *bundle) forClients(t testing.TB, change func(*ini.Settings)) *Config {
	t.Helper()
	set := &ini.Default().Settings
	set.ClientTLS.SSLMode = ini.SSLRequire
	set.ClientTLS.CertFile, set.ClientTLS.KeyFile = b.server.Cert, b.server.Key
	if change != nil {
		change(set)
	}
	c, _, err := ForClients(set)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forServers builds the side towards servers, with verify-full; change may be nil.
func (b *bundle) forServers(t testing.TB, change func(*ini.Settings)) *Config {
	t.Helper()
	set := &ini.Default().Settings
	set.ServerTLS.SSLMode, set.ServerTLS.CAFile = ini.SSLVerifyFull, b.ca.File
	if change != nil {
		change(set)
	}
	c, _, err := ForServers(set)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sockets gives our non-blocking end and the peer's.
func sockets(t testing.TB) (int, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "peer")
	peer, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	peer.SetDeadline(time.Now().Add(limit))
	t.Cleanup(func() { syscall.Close(fds[0]); peer.Close() })
	return fds[0], peer
}

func background(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// meet has a side of ours (cfg) make a handshake with crypto/tls (peer), each of the
// kind that the Config wants.
func meet(t testing.TB, h *Handshaker, cfg *Config, peer *tls.Config) (*stream, *tls.Conn, error, error) {
	t.Helper()
	fd, conn := sockets(t)
	tc := tls.Client(conn, peer)
	if !cfg.accepts {
		tc = tls.Server(conn, peer)
	}
	theirs := make(chan error, 1)
	go func() {
		err := tc.Handshake()
		if err != nil {
			conn.Close() // as programs do
		}
		theirs <- err
	}()
	var c *Conn
	var err error
	if cfg.accepts {
		c, err = h.Accept(background(t), cfg, fd, nil)
	} else {
		c, err = h.Connect(background(t), cfg, fd, "localhost")
	}
	if err != nil {
		syscall.Shutdown(fd, syscall.SHUT_RDWR)
	}
	return newStream(c, fd), tc, err, <-theirs
}

// agreed is meet where both must be content.
func agreed(t testing.TB, h *Handshaker, cfg *Config, peer *tls.Config) (*stream, *tls.Conn) {
	t.Helper()
	s, tc, ours, theirs := meet(t, h, cfg, peer)
	if ours != nil || theirs != nil {
		t.Fatalf("no handshake: ours %v, the peer's %v", ours, theirs)
	}
	return s, tc
}

// stream drives a Conn over its socket with calls that block, as a test likes it. One
// goroutine may read while another one writes.
type stream struct {
	*Conn
	fd    int
	chunk int // read this many bytes of ciphertext at a time
	mu    sync.Mutex
	left  []byte // ciphertext that Decrypt did not take
	buf   []byte
}

func newStream(c *Conn, fd int) *stream {
	return &stream{Conn: c, fd: fd, chunk: 1 << 16, buf: make([]byte, 1<<16)}
}

func (s *stream) wait(ev int16) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: ev}}
	for {
		n, err := unix.Poll(fds, int(limit.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = errors.New("nothing came")
		}
		return err
	}
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		s.mu.Lock()
		n, used, err := s.Decrypt(p, s.left)
		s.left = s.left[used:]
		s.mu.Unlock()
		if n > 0 || err != nil {
			return n, err
		}
		m, err := evloop.Read(s.fd, s.buf[:s.chunk])
		switch {
		case err == syscall.EAGAIN:
			if err := s.wait(unix.POLLIN); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case m == 0:
			return 0, io.ErrUnexpectedEOF
		default:
			s.left = s.buf[:m]
		}
	}
}

func (s *stream) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		part := p[done:min(len(p), done+1<<16)]
		s.mu.Lock()
		out, err := s.Encrypt(nil, part)
		s.mu.Unlock()
		if err != nil {
			return done, err
		}
		if err := s.send(out); err != nil {
			return done, err
		}
		done += len(part)
	}
	return len(p), nil
}

func (s *stream) send(b []byte) error {
	for len(b) > 0 {
		n, err := evloop.Write(s.fd, b)
		if err != nil {
			return err
		}
		if b = b[n:]; len(b) > 0 {
			if err := s.wait(unix.POLLOUT); err != nil {
				return err
			}
		}
	}
	return nil
}

// protocols are the versions that tests go through.
var protocols = []struct {
	name string
	id   uint16
}{{"tlsv1.2", tls.VersionTLS12}, {"tlsv1.3", tls.VersionTLS13}}
