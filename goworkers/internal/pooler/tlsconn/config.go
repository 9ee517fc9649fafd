// From the settings of one side to what its handshakes are made with.

package tlsconn

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"goworkers/internal/pooler/ini"
)

// alpn is the protocol's registered name.
const alpn = "postgresql"

// Config is the TLS of one side of the pooler: settings and the contents of the
// files that they name, as they were when it was built. It never changes and is safe
// for concurrent use; RELOAD builds a new one.
type Config struct {
	mode     ini.SSLMode
	accepts  bool           // clients, as opposed to servers
	roots    *x509.CertPool // nil: no ca_file
	contents [sha256.Size]byte
	tls      *tls.Config
	direct   *tls.Config // clients that begin with TLS at once
}

// ForClients builds the Config for connections from clients out of the settings
// client_tls_*; it reads their files. Nil without an error means that
// client_tls_sslmode is disable. Each warning is one line that begins with the
// setting's name and says what is used instead; the error joins all that is wrong,
// one line each with setting, file, what is wrong and what to do.
//
// Certificates of clients are asked for when client_tls_ca_file is set. With
// verify-ca and verify-full, which mean the same, a client must have one that is
// signed by it; with the other modes a client without one or with another one gets
// in, but has no names for authentication (Conn.PeerNames).
func ForClients(set *ini.Settings) (*Config, []string, error) {
	b := &builder{prefix: "client_tls_", hash: sha256.New()}
	side := &set.ClientTLS
	if side.SSLMode == ini.SSLDisable {
		return nil, nil, nil
	}
	c := b.common(side, set.ClientTLS13Ciphers)
	c.accepts = true
	if side.KeyFile == "" || side.CertFile == "" {
		b.fail("sslmode", side.SSLMode.String(), "TLS with clients needs a key and a certificate",
			"set client_tls_key_file and client_tls_cert_file")
	}
	if side.SSLMode >= ini.SSLVerifyCA && side.CAFile == "" {
		b.fail("sslmode", side.SSLMode.String(), "there is nothing to check certificates against", "set client_tls_ca_file")
	}
	c.tls.CurvePreferences = b.curves(set.ClientTLSECDHCurve)
	b.note(set.ClientTLSDHEParams)
	if v := set.ClientTLSDHEParams; v != "" && v != "auto" && v != "none" {
		b.warn("dheparams", v, "there is no key exchange of this kind here; elliptic curves are used (client_tls_ecdhcurve)")
	}
	// As PostgreSQL has it. A resumed session would also skip the certificate's check.
	c.tls.SessionTicketsDisabled = true
	c.tls.ClientCAs = c.roots
	switch {
	case c.roots == nil:
	case c.mode >= ini.SSLVerifyCA:
		c.tls.ClientAuth = tls.RequireAnyClientCert
		c.tls.VerifyConnection = func(s tls.ConnectionState) error { return c.verify(s.PeerCertificates, "") }
	default:
		c.tls.ClientAuth = tls.RequestClientCert
	}
	c.direct = c.tls.Clone()
	c.direct.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		// Where the client names other protocols, crypto/tls refuses it itself.
		if len(hello.SupportedProtos) == 0 {
			return nil, errors.New("a connection that begins with TLS must name the protocol " + alpn + " (ALPN)")
		}
		return nil, nil
	}
	return b.done(c)
}

// ForServers builds the Config for connections to servers out of the settings
// server_tls_*, as ForClients does for clients. Without verify-ca and verify-full
// any certificate of a server is taken, with or without server_tls_ca_file.
func ForServers(set *ini.Settings) (*Config, []string, error) {
	b := &builder{prefix: "server_tls_", hash: sha256.New()}
	side := &set.ServerTLS
	if side.SSLMode == ini.SSLDisable {
		return nil, nil, nil
	}
	c := b.common(side, set.ServerTLS13Ciphers)
	if (side.KeyFile == "") != (side.CertFile == "") {
		b.fail("key_file", side.KeyFile, "a key and a certificate go together", "set server_tls_key_file and server_tls_cert_file, or neither")
	}
	switch {
	case c.mode >= ini.SSLVerifyCA && side.CAFile == "":
		// The system's authorities are no substitute: verify-ca would then take a
		// certificate that anybody can get.
		b.fail("sslmode", side.SSLMode.String(), "there is nothing to check certificates against", "set server_tls_ca_file")
	case c.mode < ini.SSLVerifyCA && side.CAFile != "":
		b.warn("ca_file", side.CAFile, "server_tls_sslmode = "+side.SSLMode.String()+
			" takes any certificate; use verify-full or verify-ca to have it checked")
	}
	// Config.verify does it, by mode: crypto/tls would always check the name too.
	c.tls.InsecureSkipVerify = true
	return b.done(c)
}

// Equal tells whether two Configs, either may be nil, come from the same settings
// and the same contents of files: connections made with one need no replacing by
// the other.
func Equal(a, b *Config) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.accepts == b.accepts && a.contents == b.contents
}

// verify checks a chain against ca_file, and its first certificate's name when the
// mode wants that. host is the server's name or address, empty for a client.
func (c *Config) verify(shown []*x509.Certificate, host string) error {
	chains, err := c.chains(shown)
	if err == nil && !c.accepts && c.mode == ini.SSLVerifyFull {
		err = verifyHost(chains, host)
	}
	if err != nil {
		return fmt.Errorf("certificate verify failed: %w", err)
	}
	return nil
}

// chains are the ways from the peer's certificate to one in ca_file, at least one.
func (c *Config) chains(shown []*x509.Certificate) ([][]*x509.Certificate, error) {
	if len(shown) == 0 {
		return nil, errors.New("the peer has shown none")
	}
	usage := x509.ExtKeyUsageServerAuth
	if c.accepts {
		usage = x509.ExtKeyUsageClientAuth
	}
	between := x509.NewCertPool()
	for _, cert := range shown[1:] {
		between.AddCert(cert)
	}
	return shown[0].Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}})
}

// verifyHost checks that a certificate is for a host. One without any alternative
// name counts by its common name, as libpq has it and as PostgreSQL's manual makes
// certificates; crypto/x509 no longer does. It does not hold the common name against
// an authority's name constraints either, so behind such an authority it is no name.
func verifyHost(chains [][]*x509.Certificate, host string) error {
	cert := chains[0][0]
	if host == "" {
		return errors.New("the server has no name to check")
	}
	alternative := len(cert.DNSNames) + len(cert.IPAddresses) + len(cert.EmailAddresses) + len(cert.URIs)
	if alternative > 0 || !slices.ContainsFunc(chains, unconstrained) {
		return cert.VerifyHostname(host)
	}
	named := &x509.Certificate{Subject: cert.Subject}
	if ip, err := netip.ParseAddr(commonName(cert)); err == nil {
		named.IPAddresses = append(named.IPAddresses, ip.AsSlice())
	} else {
		named.DNSNames = []string{commonName(cert)}
	}
	return named.VerifyHostname(host)
}

// unconstrained tells whether no authority of a chain is limited to some names.
func unconstrained(chain []*x509.Certificate) bool {
	return !slices.ContainsFunc(chain, func(c *x509.Certificate) bool {
		return len(c.PermittedDNSDomains)+len(c.ExcludedDNSDomains)+len(c.PermittedIPRanges)+len(c.ExcludedIPRanges) > 0
	})
}

// builder collects what is found while a Config is made.
type builder struct {
	prefix   string
	hash     hash.Hash // of all settings and files
	warnings []string
	errs     []error
}

func (b *builder) warn(key, value, text string) {
	b.warnings = append(b.warnings, fmt.Sprintf("%s%s = %s: %s", b.prefix, key, value, text))
}

func (b *builder) fail(key, value, problem, fix string) {
	b.errs = append(b.errs, fmt.Errorf("%s%s = %s: %s; %s", b.prefix, key, value, problem, fix))
}

// note takes a setting or a file's content into the hash.
func (b *builder) note(s string) { fmt.Fprintf(b.hash, "%d:%s", len(s), s) }

func (b *builder) done(c *Config) (*Config, []string, error) {
	if len(b.errs) > 0 {
		return nil, b.warnings, errors.Join(b.errs...)
	}
	b.hash.Sum(c.contents[:0])
	return c, b.warnings, nil
}

// common builds what both sides have alike.
func (b *builder) common(side *ini.TLS, tls13Ciphers string) *Config {
	b.note(side.SSLMode.String())
	c := &Config{mode: side.SSLMode, tls: &tls.Config{
		NextProtos: []string{alpn},
		// Small records at first would suit a browser that shows half a page.
		DynamicRecordSizingDisabled: true,
	}}
	c.tls.MinVersion, c.tls.MaxVersion = b.versions(side.Protocols)
	c.tls.CipherSuites = b.ciphers(side.Ciphers)
	b.note(tls13Ciphers)
	if tls13Ciphers != "" {
		// This one setting has no underscore behind tls.
		b.warnings = append(b.warnings, fmt.Sprintf("%s13_ciphers = %s: has no effect; the ciphers of TLS 1.3 are chosen by the program",
			strings.TrimSuffix(b.prefix, "_"), tls13Ciphers))
	}
	if side.CAFile != "" {
		c.roots = x509.NewCertPool()
		for _, cert := range b.certificates("ca_file", side.CAFile, b.read("ca_file", side.CAFile)) {
			c.roots.AddCert(cert)
		}
	}
	if side.KeyFile != "" && side.CertFile != "" {
		b.keyPair(c, side)
	}
	return c
}

// read reads a file; nil means that it could not be.
func (b *builder) read(key, path string) []byte {
	data, err := os.ReadFile(path)
	if err != nil {
		var e *os.PathError
		if errors.As(err, &e) {
			err = e.Err
		}
		b.fail(key, path, err.Error(), "name a file that the pooler's user can read")
		return nil
	}
	b.note(string(data))
	return data
}

// certificates takes a file's content apart; data nil has been reported already.
func (b *builder) certificates(key, path string, data []byte) []*x509.Certificate {
	if data == nil {
		return nil
	}
	var certs []*x509.Certificate
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			b.fail(key, path, fmt.Sprintf("certificate %d: %v", len(certs)+1, err), "replace that certificate, or take it out")
			return nil
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		b.fail(key, path, "no certificate in it", `name a file in PEM form, with "BEGIN CERTIFICATE"`)
	}
	return certs
}

// keyPair loads our own certificate and its key.
func (b *builder) keyPair(c *Config, side *ini.TLS) {
	certPEM, keyPEM := b.read("cert_file", side.CertFile), b.read("key_file", side.KeyFile)
	certs := b.certificates("cert_file", side.CertFile, certPEM)
	if certs == nil || keyPEM == nil {
		return
	}
	switch {
	case bytes.Contains(keyPEM, []byte("ENCRYPTED")):
		b.fail("key_file", side.KeyFile, "the key has a passphrase, which nobody is there to type", "take it off: openssl pkey -in OLD -out NEW")
		return
	case !bytes.Contains(keyPEM, []byte("PRIVATE KEY-----")):
		b.fail("key_file", side.KeyFile, "no private key in it", `name a file in PEM form, with "BEGIN PRIVATE KEY"`)
		return
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		b.fail("key_file", side.KeyFile, strings.TrimPrefix(err.Error(), "tls: "), "name the key that "+side.CertFile+" was made for")
		return
	}
	if leaf := certs[0]; time.Now().After(leaf.NotAfter) {
		b.warn("cert_file", side.CertFile, "the certificate has expired on "+leaf.NotAfter.UTC().Format("2006-01-02 15:04 MST")+
			"; peers that check it refuse us, so renew it and RELOAD")
	}
	c.tls.Certificates = []tls.Certificate{pair}
}
