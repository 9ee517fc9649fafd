// A connection after its handshake, as the loop drives it.

package tlsconn

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"time"
)

// Slack is how much plaintext an incomplete record can hold back: Decrypt takes all
// of cipher, and nothing stays pending, when dst has Slack bytes more than cipher and
// nothing was pending before.
const Slack = 16 << 10

// maxReply caps what is kept for the peer while we have nothing else to send it.
const maxReply = 4 << 10

// Conn is a TLS connection whose bytes somebody else reads and writes. It belongs to
// one goroutine, and needs no closing.
type Conn struct {
	tls      *tls.Conn
	t        transport
	err      error // what Decrypt has come to, for good
	verified bool  // the peer's certificate has been checked
	pending  bool
}

// Decrypt turns ciphertext that was read from the socket into plaintext. n bytes of
// dst are filled, used bytes of cipher are not needed any more; they may stand at any
// place within records, and n may be 0. Fewer than all are used only when dst is
// full: call again with the rest. dst and cipher must not overlap, dst not be empty.
//
// The error comes with the plaintext before it and stays: io.EOF when the peer has
// said that it sends no more, or what is wrong with the connection. Then send what
// CloseNotify gives, and close.
func (c *Conn) Decrypt(dst, cipher []byte) (n, used int, err error) {
	c.t.in = cipher
	for c.err == nil && n < len(dst) && (c.pending || len(c.t.in) > 0) {
		k, err := c.tls.Read(dst[n:])
		n += k
		// A plaintext that has just fitted may be longer.
		c.pending = n == len(dst)
		if err != nil && err != error(noBytes) {
			c.err = err
		} else if len(c.t.out) > maxReply {
			c.err = errors.New("the peer asks for new keys without end")
		}
	}
	used = len(cipher) - len(c.t.in)
	c.t.in = nil
	return n, used, c.err
}

// Pending tells that Decrypt may have more plaintext without new ciphertext, since
// dst was full.
func (c *Conn) Pending() bool { return c.pending && c.err == nil }

// Encrypt appends the ciphertext of plain to out, EncryptedSize(len(plain)) bytes at
// most. Ahead of it comes what TLS itself has to send since an earlier Decrypt, which
// is rare, small, and can wait until then. After an error of Decrypt other than
// io.EOF nothing can be sent, and after CloseNotify neither.
func (c *Conn) Encrypt(out, plain []byte) ([]byte, error) {
	if c.err != nil && c.err != io.EOF {
		return out, c.err
	}
	c.t.out = append(out, c.t.out...)
	_, err := c.tls.Write(plain)
	out, c.t.out = c.t.out, nil
	return out, err
}

// CloseNotify appends the last bytes before closing to out: that we send no more, or,
// after an error of Decrypt, the alert that tells the peer of it.
func (c *Conn) CloseNotify(out []byte) []byte {
	c.t.out = append(out, c.t.out...)
	if c.err == nil || c.err == io.EOF {
		c.tls.CloseWrite() // its error would be the transport's, which has none
	}
	out, c.t.out = c.t.out, nil
	return out
}

// EncryptedSize is the most that n bytes become, without what TLS itself sends.
func EncryptedSize(n int) int {
	// Of all kinds of records CBC has most around it: header, IV, MAC and padding.
	const around = headerSize + 16 + 48 + 16
	return n + (n/Slack+2)*around
}

// State is version and cipher as OpenSSL names them: TLSv1.3/TLS_AES_256_GCM_SHA384.
func (c *Conn) State() string {
	s := c.tls.ConnectionState()
	for _, v := range versionNames {
		if v.id == s.Version {
			return v.name + "/" + suiteName(s.CipherSuite)
		}
	}
	return "unknown/" + suiteName(s.CipherSuite)
}

// PeerNames are the names that the peer's certificate proves: the subject's common
// name, empty if there is none or several, and the alternative names, DNS names
// before addresses. There are none when the peer has shown no certificate or one that
// does not stand up to ca_file.
func (c *Conn) PeerNames() (cn string, alternative []string) {
	if !c.verified {
		return "", nil
	}
	cert := c.tls.ConnectionState().PeerCertificates[0]
	alternative = slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		alternative = append(alternative, ip.String())
	}
	return commonName(cert), alternative
}

// commonName is the subject's only common name.
func commonName(cert *x509.Certificate) string {
	names := 0
	for _, a := range cert.Subject.Names {
		if a.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 3}) {
			names++
		}
	}
	if names != 1 {
		return ""
	}
	return cert.Subject.CommonName
}

// transport is what crypto/tls takes for a network connection. During the handshake
// there is a socket behind it, afterwards what the loop hands in and takes out.
type transport struct {
	sock   *socket // nil after the handshake
	in     []byte  // ciphertext to be read first
	out    []byte  // ciphertext to be sent
	border border
}

// Read gives bytes of one record at most. So crypto/tls keeps no more than the record
// under way, in a buffer no larger than the largest it has met.
func (t *transport) Read(p []byte) (int, error) {
	if len(t.in) > 0 {
		n := copy(p, t.in[:t.border.pass(t.in[:min(len(p), len(t.in))])])
		t.in = t.in[n:]
		return n, nil
	}
	if t.sock == nil {
		return 0, noBytes
	}
	n, err := t.sock.read(p[:min(len(p), t.border.rest())])
	t.border.pass(p[:n])
	return n, err
}

func (t *transport) Write(p []byte) (int, error) {
	if t.sock != nil {
		return t.sock.write(p)
	}
	t.out = append(t.out, p...)
	return len(p), nil
}

// The rest of net.Conn: crypto/tls calls the deadlines when it closes, the others not
// at all, since nobody calls its own ones.

func (t *transport) Close() error                     { return nil }
func (t *transport) LocalAddr() net.Addr              { return nil }
func (t *transport) RemoteAddr() net.Addr             { return nil }
func (t *transport) SetDeadline(time.Time) error      { return nil }
func (t *transport) SetReadDeadline(time.Time) error  { return nil }
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

// errNoBytes says that the loop has to read the socket first.
type errNoBytes struct{}

var noBytes = &errNoBytes{}

func (*errNoBytes) Error() string   { return "no bytes yet" }
func (*errNoBytes) Timeout() bool   { return true }
func (*errNoBytes) Temporary() bool { return true }

// headerSize is that of a record's header: type, version, length (RFC 8446, 5.1).
const headerSize = 5

// border follows a stream of records to know where each ends.
type border struct {
	header [headerSize]byte
	have   int // bytes of the header that have passed
	body   int // bytes still to come behind it
}

// rest is how many bytes of the record are known to come.
func (r *border) rest() int {
	if r.have < headerSize {
		return headerSize - r.have
	}
	return r.body
}

// pass takes note of the bytes of b that belong to the record under way, and returns
// how many they are: all, or up to the record's end.
func (r *border) pass(b []byte) int {
	n := 0
	if r.have < headerSize {
		n = copy(r.header[r.have:], b)
		if r.have += n; r.have < headerSize {
			return n
		}
		r.body = int(binary.BigEndian.Uint16(r.header[3:]))
	}
	body := min(r.body, len(b)-n)
	if r.body -= body; r.body == 0 {
		r.have = 0
	}
	return n + body
}
