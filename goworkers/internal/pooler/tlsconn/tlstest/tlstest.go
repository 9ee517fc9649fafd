// Package tlstest makes certificates for tests: an authority of the test's own, and
// what it signs, as PEM files in the test's folder.
package tlstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is an authority.
type CA struct {
	File string // its certificate
	Pool *x509.CertPool

	cert *x509.Certificate
	key  crypto.Signer
	dir  string
}

// Leaf is what a certificate is to say. The zero value is one without any name that
// is valid for an hour, for clients and servers.
type Leaf struct {
	CommonName string
	Names      []string  // DNS names and IP addresses
	NotAfter   time.Time // zero: in an hour
	RSA        bool      // a key of 2048 bits instead of P-256
}

// Files are a certificate and its key; the key's file has mode 0600.
type Files struct{ Cert, Key string }

// NewCA makes an authority with files in a folder that goes with the test.
func NewCA(t testing.TB, name string) *CA {
	t.Helper()
	ca := &CA{dir: t.TempDir(), Pool: x509.NewCertPool()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	ca.key = newKey(t, false)
	ca.cert = ca.sign(t, template, ca.key, time.Time{})
	ca.File = filepath.Join(ca.dir, "ca.pem")
	write(t, ca.File, 0o644, "CERTIFICATE", ca.cert.Raw)
	ca.Pool.AddCert(ca.cert)
	return ca
}

// Issue signs a certificate and writes it and its key to files of that name.
func (ca *CA) Issue(t testing.TB, file string, leaf Leaf) Files {
	t.Helper()
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: leaf.CommonName},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range leaf.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key := newKey(t, leaf.RSA)
	cert := ca.sign(t, template, key, leaf.NotAfter)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	f := Files{filepath.Join(ca.dir, file+".crt"), filepath.Join(ca.dir, file+".key")}
	write(t, f.Cert, 0o644, "CERTIFICATE", cert.Raw)
	write(t, f.Key, 0o600, "PRIVATE KEY", der)
	return f
}

// Load is a certificate as crypto/tls takes it.
func (f Files) Load(t testing.TB) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// sign makes a certificate; the authority's own is signed by itself.
func (ca *CA) sign(t testing.TB, template *x509.Certificate, key crypto.Signer, notAfter time.Time) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	if notAfter.IsZero() {
		notAfter = time.Now().Add(time.Hour)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = notAfter.Add(-2*time.Hour), notAfter
	parent := ca.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newKey(t testing.TB, classic bool) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if classic {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t testing.TB, path string, mode os.FileMode, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		t.Fatal(err)
	}
}
