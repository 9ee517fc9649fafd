// Package ldaptest runs OpenLDAP's server for tests: Debian's package, unpacked and never
// installed, as an unprivileged user on free loopback ports.
package ldaptest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// packages are slapd's and the libraries that not every Debian has. scripts/deps fetches
// the same ones.
var packages = []string{"slapd", "libldap-2.5-0", "libsasl2-2", "libltdl7", "libwrap0", "libnsl2", "libtirpc3"}

// Suffix is the DN that everything lies below. Its administrator, cn=admin with the
// password AdminPassword, may do everything.
const (
	Suffix        = "dc=example,dc=net"
	AdminPassword = "admin's secret"
)

// Server is a running server.
type Server struct {
	// Port speaks LDAP, with StartTLS; TLSPort speaks LDAP over TLS. Both on 127.0.0.1.
	Port, TLSPort int
	// CA is the path of the certificate to trust; the server's own is for localhost and
	// 127.0.0.1.
	CA string

	dir  string
	tree string
	who  *syscall.Credential
	cmd  *exec.Cmd
	log  bytes.Buffer
	gone chan struct{} // closed when the process is
}

// Start runs a server with the entries of an LDIF text. Without TLS it can no StartTLS
// and has no TLSPort. The access rules are those of slapd.access(5). It is gone when the
// test ends.
func Start(t testing.TB, tls bool, ldif string, access ...string) *Server {
	t.Helper()
	// Not t.TempDir, which other users may not enter.
	dir, err := os.MkdirTemp("", "skytools-slapd.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{dir: dir, tree: filepath.Join(dir, "tree"), who: serverUser(t)}
	for _, sub := range []string{"", "data"} {
		path := filepath.Join(dir, sub)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if s.who != nil {
		if err := os.Chown(filepath.Join(dir, "data"), int(s.who.Uid), int(s.who.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s.unpack(t)
	conf := []string{
		"include " + s.tree + "/etc/ldap/schema/core.schema",
		"include " + s.tree + "/etc/ldap/schema/cosine.schema",
		"include " + s.tree + "/etc/ldap/schema/inetorgperson.schema",
		"modulepath " + s.tree + "/usr/lib/ldap",
		"moduleload back_mdb",
		"allow bind_anon_dn", // what a client has to guard against
	}
	if tls {
		conf = append(conf, s.certificates(t)...)
	}
	conf = append(conf,
		"database mdb",
		`suffix "`+Suffix+`"`,
		`rootdn "cn=admin,`+Suffix+`"`,
		`rootpw "`+AdminPassword+`"`,
		"directory "+filepath.Join(dir, "data"),
		"maxsize 10485760")
	for _, a := range access {
		conf = append(conf, "access "+a)
	}
	s.write(t, "slapd.conf", strings.Join(conf, "\n")+"\n")
	s.write(t, "data.ldif", ldif)
	if out, err := s.command("-Tadd", "-f", s.path("slapd.conf"), "-l", s.path("data.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("load entries: %v\n%s", err, out)
	}
	s.Port = freePort(t)
	if tls {
		s.TLSPort = freePort(t)
	}
	t.Cleanup(s.Kill)
	s.Run(t)
	return s
}

// Run starts a server again that was killed, on its old ports.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	where := fmt.Sprintf("ldap://127.0.0.1:%d/", s.Port)
	if s.TLSPort != 0 {
		where += fmt.Sprintf(" ldaps://127.0.0.1:%d/", s.TLSPort)
	}
	// -d keeps it in the foreground.
	cmd := s.command("-d", "0", "-h", where, "-f", s.path("slapd.conf"))
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	s.cmd, s.gone = cmd, gone
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-gone:
			t.Fatalf("slapd has ended:\n%s", s.log.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			t.Fatalf("slapd does not come up: %v", err)
		}
	}
}

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.gone
	s.cmd = nil
}

// Freeze has the server do nothing until Thaw; the kernel goes on taking connections
// for it.
func (s *Server) Freeze(t testing.TB) { s.signal(t, syscall.SIGSTOP) }

// Thaw ends what Freeze began.
func (s *Server) Thaw(t testing.TB) { s.signal(t, syscall.SIGCONT) }

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Server) write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// command runs slapd out of its tree.
func (s *Server) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.tree+"/usr/sbin/slapd", args...)
	cmd.Dir = "/"
	libraries, _ := filepath.Glob(s.tree + "/usr/lib/*-linux-gnu*")
	cmd.Env = []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":"), "HOME=/", "LDAPNOINIT=1"}
	if s.who != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.who}
	}
	return cmd
}

// unpack makes the tree. What scripts/deps has not fetched is fetched now.
func (s *Server) unpack(t testing.TB) {
	t.Helper()
	top, err := topFolder()
	if err != nil {
		t.Fatal(err)
	}
	fetch := exec.Command(filepath.Join(top, "scripts/bench/peer-tree"), append([]string{"--fetch"}, packages...)...)
	if out, err := fetch.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\nrun scripts/deps check", err, out)
	}
	for _, p := range packages {
		debs, _ := filepath.Glob(filepath.Join(top, ".build/peers", p+"_*.deb"))
		if len(debs) != 1 {
			t.Fatalf("%d packages %s in .build/peers, want 1", len(debs), p)
		}
		if out, err := exec.Command("dpkg", "-x", debs[0], s.tree).CombinedOutput(); err != nil {
			t.Fatalf("unpack %s: %v\n%s", p, err, out)
		}
	}
	if err := os.Chmod(s.tree, 0o755); err != nil {
		t.Fatal(err)
	}
}

func topFolder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "scripts/bench/peer-tree")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("scripts/bench/peer-tree is in no folder above the test")
		}
	}
}

// serverUser is whom the server runs as when the test runs as root, as in scripts/lib.sh.
func serverUser(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	name := os.Getenv("SKYTOOLS_RUN_AS")
	if name == "" {
		name = "postgres"
	}
	u, err := osuser.Lookup(name)
	if err != nil {
		if u, err = osuser.Lookup("nobody"); err != nil {
			t.Fatal(err)
		}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// freePort finds one below the range that the kernel hands out to clients.
func freePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15000+mathrand.IntN(15000)))
		if err == nil {
			defer l.Close()
			return l.Addr().(*net.TCPAddr).Port
		}
	}
	t.Fatal("no free port between 15000 and 30000")
	return 0
}

// certificates makes a CA and the server's certificate, and returns slapd's settings.
func (s *Server) certificates(t testing.TB) []string {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey, name string) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		s.write(t, name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		return key
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	caKey := make(ca, ca, nil, "ca")
	s.CA = s.path("ca.crt")
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	key := make(own, ca, caKey, "server")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "server.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return []string{
		"TLSCACertificateFile " + s.CA, "TLSCertificateFile " + s.path("server.crt"), "TLSCertificateKeyFile " + s.path("server.key"),
	}
}
