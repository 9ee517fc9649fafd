package tlsconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/tlsconn/tlstest"
)

// exchange shows that bytes pass both ways.
func exchange(t *testing.T, s *stream, peer *tls.Conn) {
	t.Helper()
	for _, way := range []struct {
		from io.Writer
		to   io.Reader
	}{{s, peer}, {peer, s}} {
		if _, err := way.from.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(way.to, got); err != nil || string(got) != "hello" {
			t.Fatalf("got %q: %v", got, err)
		}
	}
}

func TestModesTowardsClients(t *testing.T) {
	b := setup(t)
	stranger := tlstest.NewCA(t, "stranger").Issue(t, "client", tlstest.Leaf{CommonName: "alice"})
	expired := b.ca.Issue(t, "expired", tlstest.Leaf{CommonName: "alice", NotAfter: time.Now().Add(-time.Minute)})
	good, bad, old := b.client.Load(t), stranger.Load(t), expired.Load(t)
	for _, c := range []struct {
		name string
		mode ini.SSLMode
		ca   bool
		cert *tls.Certificate
		cn   string
		err  string
	}{
		{"require asks for nothing", ini.SSLRequire, false, &good, "", ""},
		{"allow with ca_file takes none", ini.SSLAllow, true, nil, "", ""},
		{"prefer with ca_file knows a good one", ini.SSLPrefer, true, &good, "alice", ""},
		{"require with ca_file believes no strange one", ini.SSLRequire, true, &bad, "", ""},
		{"require with ca_file believes no old one", ini.SSLRequire, true, &old, "", ""},
		{"verify-ca takes a good one", ini.SSLVerifyCA, true, &good, "alice", ""},
		{"verify-full takes a good one", ini.SSLVerifyFull, true, &good, "alice", ""},
		{"verify-ca wants one", ini.SSLVerifyCA, true, nil, "", "client didn't provide a certificate"},
		{"verify-ca refuses a strange one", ini.SSLVerifyCA, true, &bad, "", "certificate verify failed: x509: certificate signed by unknown authority"},
		{"verify-full refuses an old one", ini.SSLVerifyFull, true, &old, "", "certificate verify failed: x509: certificate has expired"},
	} {
		for _, v := range protocols {
			t.Run(c.name+"/"+v.name, func(t *testing.T) {
				cfg := b.forClients(t, func(s *ini.Settings) {
					s.ClientTLS.SSLMode = c.mode
					s.ClientTLS.Protocols = v.name
					if c.ca {
						s.ClientTLS.CAFile = b.ca.File
					}
				})
				peer := &tls.Config{RootCAs: b.ca.Pool, ServerName: "localhost"}
				if c.cert != nil {
					// Whatever authorities the server names.
					peer.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert, nil }
				}
				s, tc, err, _ := meet(t, b.h, cfg, peer)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Fatalf("error %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				exchange(t, s, tc)
				cn, names := s.PeerNames()
				if cn != c.cn || (cn != "") != slices.Equal(names, []string{"alice.example", "10.1.2.3"}) {
					t.Errorf("names %q, %q", cn, names)
				}
				if state := s.State(); !strings.HasPrefix(state, strings.Replace(v.name, "tls", "TLS", 1)+"/") {
					t.Errorf("state %q", state)
				}
			})
		}
	}
}

func TestModesTowardsServers(t *testing.T) {
	b := setup(t)
	elsewhere := b.ca.Issue(t, "elsewhere", tlstest.Leaf{CommonName: "localhost", Names: []string{"elsewhere"}})
	onlyCommon := b.ca.Issue(t, "common", tlstest.Leaf{CommonName: "localhost"})
	otherCommon := b.ca.Issue(t, "othercommon", tlstest.Leaf{CommonName: "elsewhere"})
	expired := b.ca.Issue(t, "expired", tlstest.Leaf{Names: []string{"localhost"}, NotAfter: time.Now().Add(-time.Minute)})
	strange := tlstest.NewCA(t, "stranger").Issue(t, "server", tlstest.Leaf{Names: []string{"localhost"}})
	for _, c := range []struct {
		name  string
		mode  ini.SSLMode
		files tlstest.Files
		err   string
	}{
		{"prefer takes anything", ini.SSLPrefer, strange, ""},
		{"allow takes anything", ini.SSLAllow, strange, ""},
		{"require takes anything", ini.SSLRequire, expired, ""},
		{"verify-ca wants no name", ini.SSLVerifyCA, elsewhere, ""},
		{"verify-ca refuses a strange one", ini.SSLVerifyCA, strange, "certificate verify failed: x509: certificate signed by unknown authority"},
		{"verify-ca refuses an old one", ini.SSLVerifyCA, expired, "certificate verify failed: x509: certificate has expired"},
		{"verify-full takes the right one", ini.SSLVerifyFull, b.server, ""},
		{"verify-full refuses another name", ini.SSLVerifyFull, elsewhere, "certificate verify failed: x509: certificate is valid for elsewhere, not localhost"},
		{"verify-full takes a common name where it is the only one", ini.SSLVerifyFull, onlyCommon, ""},
		{"verify-full refuses another common name", ini.SSLVerifyFull, otherCommon, "certificate is valid for elsewhere, not localhost"},
		{"verify-full refuses a strange one", ini.SSLVerifyFull, strange, "certificate signed by unknown authority"},
	} {
		for _, v := range protocols {
			t.Run(c.name+"/"+v.name, func(t *testing.T) {
				cfg := b.forServers(t, func(s *ini.Settings) { s.ServerTLS.SSLMode, s.ServerTLS.Protocols = c.mode, v.name })
				s, tc, err, _ := meet(t, b.h, cfg, &tls.Config{Certificates: []tls.Certificate{c.files.Load(t)}})
				if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
					t.Fatalf("error %v", err)
				}
				if err == nil {
					exchange(t, s, tc)
				}
			})
		}
	}
}

func TestServersAddressCountsAsName(t *testing.T) {
	b := setup(t)
	cn := b.ca.Issue(t, "address", tlstest.Leaf{CommonName: "127.0.0.1"})
	for _, c := range []struct {
		host  string
		files tlstest.Files
		ok    bool
	}{{"127.0.0.1", b.server, true}, {"127.0.0.2", b.server, false}, {"127.0.0.1", cn, true}, {"127.0.0.2", cn, false}, {"", b.server, false}} {
		fd, conn := sockets(t)
		go tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c.files.Load(t)}}).Handshake()
		if _, err := b.h.Connect(background(t), b.forServers(t, nil), fd, c.host); (err == nil) != c.ok {
			t.Errorf("host %q: %v", c.host, err)
		}
	}
}

// crypto/x509 holds only alternative names against an authority's limits.
func TestCommonNameIsNoWayAroundNameConstraints(t *testing.T) {
	cn := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "db.example"}
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "db.example", Names: []pkix.AttributeTypeAndValue{cn}}}
	twice := &x509.Certificate{Subject: pkix.Name{CommonName: "db.example", Names: []pkix.AttributeTypeAndValue{cn, cn}}}
	free, bound := &x509.Certificate{}, &x509.Certificate{PermittedDNSDomains: []string{"other.example"}}
	for _, c := range []struct {
		name   string
		chains [][]*x509.Certificate
		ok     bool
	}{
		{"no limits", [][]*x509.Certificate{{leaf, free}}, true},
		{"a limit", [][]*x509.Certificate{{leaf, bound}}, false},
		{"a limit further up", [][]*x509.Certificate{{leaf, free, bound}}, false},
		{"two common names", [][]*x509.Certificate{{twice, free}}, false},
	} {
		if err := verifyHost(c.chains, "db.example"); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestServerSeesOurCertificate(t *testing.T) {
	b := setup(t)
	cfg := b.forServers(t, func(s *ini.Settings) { s.ServerTLS.CertFile, s.ServerTLS.KeyFile = b.client.Cert, b.client.Key })
	s, tc := agreed(t, b.h, cfg, &tls.Config{
		Certificates: []tls.Certificate{b.server.Load(t)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: b.ca.Pool,
	})
	exchange(t, s, tc)
	if state := tc.ConnectionState(); state.PeerCertificates[0].Subject.CommonName != "alice" || state.ServerName != "localhost" {
		t.Errorf("the server sees %v and is called %q", state.PeerCertificates[0].Subject, state.ServerName)
	}
}

// In TLS 1.3 a client is content before the server has looked at its certificate.
func TestServersLateRefusalComesFromDecrypt(t *testing.T) {
	b := setup(t)
	s, _, err, theirs := meet(t, b.h, b.forServers(t, nil), &tls.Config{
		Certificates: []tls.Certificate{b.server.Load(t)}, ClientAuth: tls.RequireAnyClientCert,
	})
	if err != nil || theirs == nil {
		t.Fatalf("ours %v, the server's %v", err, theirs)
	}
	for range 2 { // it stays
		if _, err := s.Read(make([]byte, 10)); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Fatalf("error %v", err)
		}
	}
}

func TestProtocolNameIsAskedForWhereTLSComesUnasked(t *testing.T) {
	b := setup(t)
	cfg := b.forClients(t, nil)
	for _, c := range []struct {
		name   string
		direct bool
		protos []string
		err    string
	}{
		{"asked, without", false, nil, ""},
		{"asked, with ours", false, []string{"postgresql"}, ""},
		{"asked, with another", false, []string{"h2"}, "client requested unsupported application protocols"},
		{"direct, with ours", true, []string{"h2", "postgresql"}, ""},
		{"direct, without", true, nil, "must name the protocol postgresql (ALPN)"},
		{"direct, with another", true, []string{"h2"}, "client requested unsupported application protocols"},
	} {
		for _, v := range protocols {
			t.Run(c.name+"/"+v.name, func(t *testing.T) {
				fd, conn := sockets(t)
				tc := tls.Client(conn, &tls.Config{RootCAs: b.ca.Pool, ServerName: "localhost", NextProtos: c.protos, MaxVersion: v.id})
				done := make(chan error, 1)
				go func() { done <- tc.Handshake() }()
				var early []byte
				if c.direct {
					s := newStream(nil, fd)
					if err := s.wait(unix.POLLIN); err != nil {
						t.Fatal(err)
					}
					// The loop may have read any part of the first packet.
					early = make([]byte, 700)
					n, err := evloop.Read(fd, early[:1+len(c.name)*20])
					if err != nil {
						t.Fatal(err)
					}
					if early = early[:n]; early[0] != 0x16 {
						t.Fatalf("TLS begins with %x", early[0])
					}
				}
				conn2, err := b.h.Accept(background(t), cfg, fd, early)
				if err != nil {
					syscall.Shutdown(fd, syscall.SHUT_RDWR)
				}
				if theirs := <-done; (theirs == nil) != (c.err == "") {
					t.Errorf("the client says %v", theirs)
				}
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Fatalf("error %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				exchange(t, newStream(conn2, fd), tc)
			})
		}
	}
}

func TestServersAreOfferedTheProtocolName(t *testing.T) {
	b := setup(t)
	s, tc := agreed(t, b.h, b.forServers(t, nil), &tls.Config{Certificates: []tls.Certificate{b.server.Load(t)}, NextProtos: []string{"postgresql"}})
	exchange(t, s, tc)
	if got := tc.ConnectionState().NegotiatedProtocol; got != "postgresql" {
		t.Errorf("agreed on %q", got)
	}
}

func TestVersionsAndCiphersAreThoseOfTheSettings(t *testing.T) {
	b := setup(t)
	b.server = b.ca.Issue(t, "rsa", tlstest.Leaf{Names: []string{"localhost"}, RSA: true})
	for _, c := range []struct {
		protocols, ciphers string
		low, high          uint16 // of the peer
		state              string // empty: they cannot agree
	}{
		{"secure", "default", 0, 0, "TLSv1.3/TLS_AES_128_GCM_SHA256"},
		{"secure", "ECDHE-RSA-AES256-GCM-SHA384", 0, tls.VersionTLS12, "TLSv1.2/ECDHE-RSA-AES256-GCM-SHA384"},
		{"secure", "ECDHE-RSA-CHACHA20-POLY1305", 0, tls.VersionTLS12, "TLSv1.2/ECDHE-RSA-CHACHA20-POLY1305"},
		{"secure", "default", tls.VersionTLS10, tls.VersionTLS11, ""},
		{"all", "default", tls.VersionTLS10, tls.VersionTLS10, "TLSv1/ECDHE-RSA-AES128-SHA"},
		{"all", "default", tls.VersionTLS10, tls.VersionTLS11, "TLSv1.1/ECDHE-RSA-AES128-SHA"},
		{"tlsv1.3", "default", 0, tls.VersionTLS12, ""},
		{"tlsv1.2", "ECDSA", 0, 0, ""},
	} {
		cfg := b.forClients(t, func(s *ini.Settings) { s.ClientTLS.Protocols, s.ClientTLS.Ciphers = c.protocols, c.ciphers })
		peer := &tls.Config{MinVersion: c.low, MaxVersion: c.high, RootCAs: b.ca.Pool, ServerName: "localhost"}
		s, tc, err, _ := meet(t, b.h, cfg, peer)
		if (err == nil) != (c.state != "") {
			t.Errorf("%s %s: %v", c.protocols, c.ciphers, err)
			continue
		}
		if err != nil {
			continue
		}
		exchange(t, s, tc)
		// Which of the AES and ChaCha suites of TLS 1.3 is preferred depends on the processor.
		state := strings.Replace(s.State(), "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256", 1)
		if state != c.state {
			t.Errorf("%s %s: agreed on %s, not %s", c.protocols, c.ciphers, state, c.state)
		}
	}
}

func TestSilentPeerIsLeftWhenTheTimeIsUp(t *testing.T) {
	b := setup(t)
	accept := func(ctx context.Context, fd int) (*Conn, error) {
		return b.h.Accept(ctx, b.forClients(t, nil), fd, nil)
	}
	connect := func(ctx context.Context, fd int) (*Conn, error) {
		return b.h.Connect(ctx, b.forServers(t, nil), fd, "localhost")
	}
	for name, shake := range map[string]func(context.Context, int) (*Conn, error){"client": accept, "server": connect} {
		t.Run(name, func(t *testing.T) {
			fd, peer := sockets(t)
			cause := errors.New("client_login_timeout")
			ctx, cancel := context.WithCancelCause(context.Background())
			done := make(chan error, 1)
			go func() { _, err := shake(ctx, fd); done <- err }()
			// Half a record: the handshake is under way, and waits within it.
			if _, err := peer.Write([]byte{0x16, 3, 1, 2}); err != nil {
				t.Fatal(err)
			}
			for b.h.idle() {
				runtime.Gosched()
			}
			cancel(cause)
			select {
			case err := <-done:
				if err != cause {
					t.Fatalf("error %v", err)
				}
			case <-time.After(limit):
				t.Fatal("the handshake goes on")
			}
			// The descriptor is the caller's again: open, as it was, watched by nobody.
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if err != nil || flags&unix.O_NONBLOCK == 0 {
				t.Errorf("flags %x: %v", flags, err)
			}
			if !b.h.idle() {
				t.Error("somebody waits for it still")
			}
		})
	}
}

// idle tells that no handshake waits for its peer.
func (h *Handshaker) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting) == 0
}

func TestEndedContextMakesNoHandshake(t *testing.T) {
	b := setup(t)
	fd, _ := sockets(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.h.Accept(ctx, b.forClients(t, nil), fd, nil); err != context.Canceled {
		t.Fatalf("error %v", err)
	}
}

// A peer that takes nothing: our answer does not fit, and waiting for it ends too.
func TestPeerThatReadsNothingIsLeft(t *testing.T) {
	b := setup(t)
	fd, peer := sockets(t)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 1); err != nil {
		t.Fatal(err)
	}
	filler := make([]byte, 1<<20)
	if _, err := evloop.Write(fd, filler); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { _, err := b.h.Accept(ctx, b.forClients(t, nil), fd, nil); done <- err }()
	go tls.Client(peer, &tls.Config{InsecureSkipVerify: true}).Handshake()
	for b.h.idle() {
		runtime.Gosched()
	}
	cancel()
	select {
	case err := <-done:
		if err != context.Canceled {
			t.Fatalf("error %v", err)
		}
	case <-time.After(limit):
		t.Fatal("the handshake goes on")
	}
}

func TestPeersThatAreNoTLS(t *testing.T) {
	b := setup(t)
	for name, bytes := range map[string]string{
		"nothing":          "",
		"a startup packet": "\x00\x00\x00\x08\x04\xd2\x16\x2f",
		"HTTP":             "GET / HTTP/1.1\r\n\r\n",
		"an alert":         "\x15\x03\x01\x00\x02\x02\x28",
		"half a record":    "\x16\x03\x01\x02\x00\x01",
		"a huge record":    "\x16\x03\x01\xff\xff\x01",
		"an empty record":  "\x16\x03\x01\x00\x00",
		"SSL 2":            "\x80\x2e\x01\x00\x02",
	} {
		fd, peer := sockets(t)
		if _, err := peer.Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		peer.Close()
		if _, err := b.h.Accept(background(t), b.forClients(t, nil), fd, nil); err == nil || !strings.HasPrefix(err.Error(), "TLS handshake: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Handshakes whose peers are slow take no threads, nor the turns of others.
func TestManySilentPeersAreCheap(t *testing.T) {
	b := setup(t)
	cfg := b.forClients(t, nil)
	const many = 500
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, many)
	for range many {
		fd, _ := sockets(t)
		go func() { _, err := b.h.Accept(ctx, cfg, fd, nil); done <- err }()
	}
	waiting := func() int {
		b.h.mu.Lock()
		defer b.h.mu.Unlock()
		return len(b.h.waiting)
	}
	for waiting() < many {
		runtime.Gosched()
	}
	s, tc := agreed(t, b.h, cfg, &tls.Config{RootCAs: b.ca.Pool, ServerName: "localhost"})
	exchange(t, s, tc)
	if n, _ := runtime.ThreadCreateProfile(nil); n > 50 {
		t.Errorf("%d threads", n)
	}
	cancel()
	for range many {
		if err := <-done; err != context.Canceled {
			t.Fatalf("error %v", err)
		}
	}
}

// What a client sends right behind its handshake stays in the socket, so that the
// loop is told of it.
func TestHandshakeLeavesLaterBytesInTheSocket(t *testing.T) {
	b := setup(t)
	for _, v := range protocols {
		fd, conn := sockets(t)
		tc := tls.Client(conn, &tls.Config{RootCAs: b.ca.Pool, ServerName: "localhost", MaxVersion: v.id})
		done := make(chan error, 1)
		go func() {
			_, err := tc.Write([]byte("startup"))
			done <- err
		}()
		c, err := b.h.Accept(background(t), b.forClients(t, nil), fd, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if c.Pending() {
			t.Errorf("%s: bytes are held in the connection", v.name)
		}
		s := newStream(c, fd)
		if err := s.wait(unix.POLLIN); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		if n, err := s.Read(got); err != nil || string(got[:n]) != "startup" {
			t.Fatalf("%s: got %q: %v", v.name, got[:n], err)
		}
	}
}
