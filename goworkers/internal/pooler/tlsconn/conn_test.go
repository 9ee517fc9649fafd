package tlsconn

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/tlsconn/tlstest"
)

// sides are the Configs of both ends of a connection.
type sides struct{ clients, servers *Config }

func (b *bundle) sides(t testing.TB, protocols, ciphers string) sides {
	t.Helper()
	return sides{
		b.forClients(t, func(s *ini.Settings) { s.ClientTLS.Protocols, s.ClientTLS.Ciphers = protocols, ciphers }),
		b.forServers(t, func(s *ini.Settings) { s.ServerTLS.Protocols = protocols }),
	}
}

// couple gives both ends of a connection, ours on either side, without sockets.
func couple(t testing.TB, h *Handshaker, cfg sides) (server, client *Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var err error
		client, err = h.Connect(ctx, cfg.servers, fds[1], "localhost")
		done <- err
	}()
	server, err = h.Accept(ctx, cfg.clients, fds[0], nil)
	if theirs := <-done; err != nil || theirs != nil {
		t.Fatal(err, theirs)
	}
	return server, client
}

// kinds are the sorts of records: TLS 1.3, AEAD, CBC with and without the IV.
var kinds = []struct{ protocols, ciphers string }{
	{"tlsv1.3", "default"},
	{"tlsv1.2", "ECDHE-RSA-AES128-GCM-SHA256"},
	{"tlsv1.2", "ECDHE-RSA-CHACHA20-POLY1305"},
	{"tlsv1.2", "ECDHE-RSA-AES256-SHA"},
	{"tlsv1.0", "ECDHE-RSA-AES256-SHA"},
}

// setupRSA is setup with a server's key that all kinds can use.
func setupRSA(t testing.TB) *bundle {
	t.Helper()
	b := setup(t)
	b.server = b.ca.Issue(t, "rsa", tlstest.Leaf{Names: []string{"localhost"}, RSA: true})
	return b
}

func decryptAll(t testing.TB, c *Conn, cipher []byte) []byte {
	t.Helper()
	dst := make([]byte, len(cipher)+Slack)
	n, used, err := c.Decrypt(dst, cipher)
	if err != nil || used != len(cipher) || c.Pending() {
		t.Fatalf("used %d of %d, pending %v: %v", used, len(cipher), c.Pending(), err)
	}
	return dst[:n]
}

func encrypt(t testing.TB, c *Conn, plain []byte) []byte {
	t.Helper()
	out, err := c.Encrypt(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) > EncryptedSize(len(plain)) {
		t.Fatalf("%d bytes became %d, more than %d", len(plain), len(out), EncryptedSize(len(plain)))
	}
	return out
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

func TestBytesMayComeOneAtATime(t *testing.T) {
	b := setupRSA(t)
	for _, k := range kinds {
		server, client := couple(t, b.h, b.sides(t, k.protocols, k.ciphers))
		for _, ends := range [][2]*Conn{{server, client}, {client, server}} {
			plain := noise(3*Slack + 77)
			var got []byte
			dst := make([]byte, Slack)
			for _, c := range encrypt(t, ends[0], plain) {
				n, used, err := ends[1].Decrypt(dst, []byte{c})
				if err != nil || used != 1 {
					t.Fatalf("%v: used %d: %v", k, used, err)
				}
				got = append(got, dst[:n]...)
			}
			for ends[1].Pending() {
				n, _, err := ends[1].Decrypt(dst, nil)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, dst[:n]...)
			}
			if !bytes.Equal(got, plain) {
				t.Fatalf("%v: %d bytes came out of %d, or others", k, len(got), len(plain))
			}
		}
	}
}

func TestRoomForOneByteIsEnough(t *testing.T) {
	b := setupRSA(t)
	for _, k := range kinds {
		server, client := couple(t, b.h, b.sides(t, k.protocols, k.ciphers))
		plain := noise(Slack + 5)
		cipher := encrypt(t, client, plain)
		var got []byte
		var one [1]byte
		for len(cipher) > 0 || server.Pending() {
			n, used, err := server.Decrypt(one[:], cipher)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 && used == 0 && len(cipher) > 0 {
				t.Fatal("no way forward")
			}
			cipher = cipher[used:]
			got = append(got, one[:n]...)
		}
		if !bytes.Equal(got, plain) {
			t.Fatalf("%v: %d bytes came out of %d, or others", k, len(got), len(plain))
		}
	}
}

// wire is one direction between two Conns in a property test.
type wire struct {
	from, to       *Conn
	cipher         []byte // on its way
	sent, received []byte
}

// Both directions at once, sizes of writes, of deliveries and of room at random.
func TestAnyChunksInBothDirections(t *testing.T) {
	b := setupRSA(t)
	for _, k := range kinds {
		for range 5 {
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, 1))
			server, client := couple(t, b.h, b.sides(t, k.protocols, k.ciphers))
			wires := []*wire{{from: server, to: client}, {from: client, to: server}}
			// Sizes of very different magnitudes.
			size := func() int { return r.IntN(1 + 1<<r.IntN(17)) }
			dst := make([]byte, 1<<17)
			for step := 0; step < 400 || len(wires[0].cipher)+len(wires[1].cipher) > 0 || server.Pending() || client.Pending(); step++ {
				w := wires[r.IntN(2)]
				if step < 400 && r.IntN(2) == 0 {
					plain := noise(size())
					var err error
					if w.cipher, err = w.from.Encrypt(w.cipher, plain); err != nil {
						t.Fatal(err)
					}
					w.sent = append(w.sent, plain...)
					continue
				}
				some := w.cipher[:min(size(), len(w.cipher))]
				n, used, err := w.to.Decrypt(dst[:1+size()], some)
				if err != nil {
					t.Fatalf("%v, seed %d: %v", k, seed, err)
				}
				w.received = append(w.received, dst[:n]...)
				w.cipher = w.cipher[used:]
			}
			for i, w := range wires {
				if !bytes.Equal(w.sent, w.received) {
					t.Fatalf("%v, seed %d, way %d: %d bytes sent, %d received, or others", k, seed, i, len(w.sent), len(w.received))
				}
			}
		}
	}
}

// With crypto/tls on the other end, which sends session tickets to clients.
func TestHugeStreamsPassInAnyPieces(t *testing.T) {
	b := setup(t)
	for _, v := range protocols {
		for _, side := range []string{"client", "server"} {
			for _, size := range []struct{ chunk, total int }{{1, 50_000}, {1000, 5 << 20}, {1 << 16, 24 << 20}} {
				t.Run(fmt.Sprintf("%s/%s/%d", v.name, side, size.chunk), func(t *testing.T) {
					cfg := b.forClients(t, nil)
					peer := &tls.Config{RootCAs: b.ca.Pool, ServerName: "localhost", MaxVersion: v.id}
					if side == "server" {
						cfg = b.forServers(t, nil)
						peer = &tls.Config{Certificates: []tls.Certificate{b.server.Load(t)}, MaxVersion: v.id}
					}
					s, tc := agreed(t, b.h, cfg, peer)
					s.chunk = size.chunk
					// All four at a time: each side sends and receives.
					errs := make(chan error, 4)
					for _, end := range []io.ReadWriter{s, tc} {
						go func() { errs <- sendPattern(end, size.total) }()
						go func() { errs <- checkPattern(end, size.total) }()
					}
					for range 4 {
						if err := <-errs; err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
	}
}

// pattern repeats, but not in step with any power of two.
var pattern = noise(99_991)

func sendPattern(w io.Writer, total int) error {
	for done := 0; done < total; {
		part := pattern[:min(len(pattern), total-done)]
		if _, err := w.Write(part); err != nil {
			return err
		}
		done += len(part)
	}
	return nil
}

func checkPattern(r io.Reader, total int) error {
	buf := make([]byte, len(pattern))
	for done := 0; done < total; {
		part := buf[:min(len(buf), total-done)]
		if _, err := io.ReadFull(r, part); err != nil {
			return fmt.Errorf("after %d bytes: %w", done, err)
		}
		if !bytes.Equal(part, pattern[:len(part)]) {
			return fmt.Errorf("other bytes after %d", done)
		}
		done += len(part)
	}
	return nil
}

func TestCloseIsToldToBothSides(t *testing.T) {
	b := setup(t)
	for _, v := range protocols {
		s, tc := agreed(t, b.h, b.forClients(t, nil), &tls.Config{RootCAs: b.ca.Pool, ServerName: "localhost", MaxVersion: v.id})
		if _, err := tc.Write([]byte("bye")); err != nil {
			t.Fatal(err)
		}
		if err := tc.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		if err != nil || string(got) != "bye" {
			t.Fatalf("%s: %q, %v", v.name, got, err)
		}
		if n, _, err := s.Decrypt(make([]byte, 9), []byte("more")); n != 0 || err != io.EOF {
			t.Errorf("%s: after the end: %d bytes, %v", v.name, n, err)
		}
		// The other direction is still open.
		if _, err := s.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		if err := s.send(s.CloseNotify(nil)); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(tc); err != nil || string(got) != "answer" {
			t.Errorf("%s: the peer got %q, %v", v.name, got, err)
		}
		if _, err := s.Encrypt(nil, []byte("x")); err == nil {
			t.Errorf("%s: bytes can be sent after the end", v.name)
		}
	}
}

// A changed record ends the connection, and the peer is told by an alert.
func TestChangedBytesAreAnErrorThatThePeerHearsOf(t *testing.T) {
	b := setup(t)
	for _, v := range protocols {
		s, tc := agreed(t, b.h, b.forClients(t, nil), &tls.Config{RootCAs: b.ca.Pool, ServerName: "localhost", MaxVersion: v.id})
		record := append([]byte{23, 3, 3, 0, 40}, noise(40)...)
		good := make([]byte, 100)
		for range 2 {
			if n, _, err := s.Decrypt(good, record); n != 0 || err == nil || !strings.Contains(err.Error(), "bad record MAC") {
				t.Fatalf("%s: %d bytes, %v", v.name, n, err)
			}
		}
		if s.Pending() {
			t.Errorf("%s: there is more behind an error", v.name)
		}
		if _, err := s.Encrypt(nil, []byte("x")); err == nil {
			t.Errorf("%s: a broken connection takes bytes", v.name)
		}
		if err := s.send(s.CloseNotify(nil)); err != nil {
			t.Fatal(err)
		}
		if _, err := tc.Read(good); err == nil || !strings.Contains(err.Error(), "bad record MAC") {
			t.Errorf("%s: the peer hears %v", v.name, err)
		}
	}
}

func TestRecordsCostOneSmallAllocation(t *testing.T) {
	b := setupRSA(t)
	// The least of many runs: pools lose things to the collector, and to the race
	// detector at random.
	allocations := func(f func()) float64 {
		least := 1e9
		for range 100 {
			least = min(least, testing.AllocsPerRun(1, f))
		}
		return least
	}
	for _, k := range kinds[:3] {
		server, client := couple(t, b.h, b.sides(t, k.protocols, k.ciphers))
		for _, size := range []int{50, 1000, Slack} {
			plain := noise(size)
			out := make([]byte, 0, EncryptedSize(size))
			dst := make([]byte, size+2*Slack)
			both := allocations(func() {
				out, _ = client.Encrypt(out[:0], plain)
				decryptAlloc(t, server, dst, out)
			})
			if both > 1 {
				t.Errorf("%v: %v allocations for a record of %d bytes there and back", k, both, size)
			}
			if n := allocations(func() { out, _ = server.Encrypt(out[:0], plain) }); n > 0 {
				t.Errorf("%v: %v allocations for encrypting %d bytes", k, n, size)
			}
		}
	}
}

func decryptAlloc(t testing.TB, c *Conn, dst, cipher []byte) {
	if _, used, err := c.Decrypt(dst, cipher); err != nil || used != len(cipher) {
		t.Fatal(used, err)
	}
}

// What one idle connection holds on the heap, in bytes.
func idleSize(t testing.TB, b *bundle, many int, towardsServer bool, after func(ours, theirs *Conn)) int {
	t.Helper()
	cfg := b.sides(t, "secure", "default")
	keep := make([]*Conn, many)
	var before, now runtime.MemStats
	fill := func() {
		for i := range keep {
			server, client := couple(t, b.h, cfg)
			keep[i] = server
			theirs := client
			if towardsServer {
				keep[i], theirs = client, server
			}
			after(keep[i], theirs)
		}
	}
	fill()
	clear(keep)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	fill()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&now)
	runtime.KeepAlive(keep)
	return int(int64(now.HeapAlloc)-int64(before.HeapAlloc)) / many
}

func TestIdleConnectionsAreSmall(t *testing.T) {
	b := setup(t)
	nothing := func(*Conn, *Conn) {}
	query := func(ours, theirs *Conn) {
		decryptAll(t, ours, encrypt(t, theirs, noise(500)))
		decryptAll(t, theirs, encrypt(t, ours, noise(50_000)))
	}
	big := func(ours, theirs *Conn) { decryptAll(t, ours, encrypt(t, theirs, noise(50_000))) }
	for _, c := range []struct {
		name   string
		server bool
		after  func(ours, theirs *Conn)
		most   int
	}{
		{"client after its handshake", false, nothing, 10 << 10},
		{"client after small queries and big answers", false, query, 10 << 10},
		{"client after a big query", false, big, 48 << 10},
		{"server after its handshake", true, nothing, 10 << 10},
		{"server after a big answer", true, big, 48 << 10},
	} {
		n := idleSize(t, b, 60, c.server, c.after)
		t.Logf("%s: %d bytes", c.name, n)
		if n > c.most {
			t.Errorf("%s holds %d bytes", c.name, n)
		}
	}
}

// FuzzDecrypt plays what a peer may do with a stream: change, cut, repeat and split it.
func FuzzDecrypt(f *testing.F) {
	b := setup(f)
	f.Add(true, uint16(0), byte(1), uint16(1), []byte(nil))
	f.Add(false, uint16(3), byte(0xff), uint16(7), []byte("\x17\x03\x03\x00\x10garbage"))
	f.Add(true, uint16(60), byte(0), uint16(100), []byte("\x15\x03\x03\x00\x02\x01\x00"))
	f.Add(false, uint16(5), byte(0x80), uint16(3), []byte("\x16\x03\x03\x00\x04\x00\x00\x00\x00"))
	f.Add(true, uint16(40000), byte(2), uint16(5000), []byte("\x14\x03\x03\x00\x01\x01"))
	plain := noise(40_000)
	modernSides, oldSides := b.sides(f, "tlsv1.3", "default"), b.sides(f, "tlsv1.2", "default")
	f.Fuzz(func(t *testing.T, modern bool, at uint16, flip byte, chunk uint16, inserted []byte) {
		cfg := oldSides
		if modern {
			cfg = modernSides
		}
		server, client := couple(t, b.h, cfg)
		cipher := encrypt(t, client, plain[:700])
		cipher = append(cipher, encrypt(t, client, plain[700:])...)
		i := int(at) % len(cipher)
		cipher[i] ^= flip
		cipher = append(cipher[:i:i], append(inserted, cipher[i:]...)...)
		dst := make([]byte, 3+int(chunk)/2)
		var got []byte
		var last error
		for len(cipher) > 0 || server.Pending() {
			n, used, err := server.Decrypt(dst, cipher[:min(len(cipher), 1+int(chunk))])
			got = append(got, dst[:n]...)
			cipher = cipher[used:]
			if err != nil {
				if last = err; server.Pending() {
					t.Error("there is more behind an error")
				}
				break
			}
			if n == 0 && used == 0 && (len(cipher) > 0 || server.Pending()) {
				t.Fatal("no way forward")
			}
		}
		if !bytes.HasPrefix(plain, got) {
			t.Error("bytes came out that nobody sent")
		}
		// A peer can leave records out of no stream, nor change them.
		if last == nil && flip == 0 && len(inserted) == 0 && len(got) != len(plain) {
			t.Errorf("%d bytes came out of %d", len(got), len(plain))
		}
		server.CloseNotify(nil)
		server.Encrypt(nil, []byte("x"))
	})
}

// The benchmarks report bytes of plaintext through Encrypt and Decrypt, one core.
func BenchmarkThrough(b *testing.B) {
	bu := setup(b)
	for _, k := range kinds[:1] {
		for _, size := range []int{100, 8 << 10, 64 << 10} {
			b.Run(fmt.Sprintf("%s/%d", k.protocols, size), func(b *testing.B) {
				server, client := couple(b, bu.h, bu.sides(b, k.protocols, k.ciphers))
				plain := noise(size)
				out := make([]byte, 0, EncryptedSize(size))
				dst := make([]byte, len(plain)+2*Slack)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					out, _ = client.Encrypt(out[:0], plain)
					if _, _, err := server.Decrypt(dst, out); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	bu := setup(b)
	cfg := bu.sides(b, "secure", "default")
	for b.Loop() {
		couple(b, bu.h, cfg)
	}
}

var _ net.Conn = (*transport)(nil)
