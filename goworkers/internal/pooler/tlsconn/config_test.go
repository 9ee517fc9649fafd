package tlsconn

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/tlsconn/tlstest"
)

func newBuilder() *builder { return &builder{prefix: "client_tls_", hash: sha256.New()} }

// said is all that a builder has found, one a line.
func (b *builder) said() string {
	var s strings.Builder
	for _, w := range b.warnings {
		fmt.Fprintln(&s, "warning:", w)
	}
	for _, e := range b.errs {
		fmt.Fprintln(&s, "error:", e)
	}
	return strings.TrimSpace(s.String())
}

func TestProtocolsAreReadAsThePoolersManualHasThem(t *testing.T) {
	const v10, v11, v12, v13 = tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13
	for _, c := range []struct {
		setting   string
		low, high uint16
		said      string // a part of it; empty: nothing
	}{
		{"", v12, v13, ""},
		{"secure", v12, v13, ""},
		{"Secure", v12, v13, ""},
		{"default", v12, v13, ""},
		{"all", v10, v13, ""},
		{"legacy", v10, v13, ""},
		{"tlsv1.2", v12, v12, ""},
		{"tlsv1.3", v13, v13, ""},
		{"tlsv1.2,tlsv1.3", v12, v13, ""},
		{"tlsv1.3 : tlsv1.2", v12, v13, ""},
		{"TLSv1.1, TLSv1.2", v11, v12, ""},
		{"all,!tlsv1.0", v11, v13, ""},
		{"all:!tlsv1.0:!tlsv1.1", v12, v13, ""},
		{"!tlsv1.3", v10, v12, ""},
		{"secure,!tlsv1.3", v12, v12, ""},
		{"tlsv1.0,tlsv1.3", v13, v13, "warning: client_tls_protocols = tlsv1.0,tlsv1.3: a version in between is missing, so nothing older than tlsv1.3 is used"},
		{"tlsv1.4", 0, 0, `error: client_tls_protocols = tlsv1.4: unknown word "tlsv1.4"; use secure, all`},
		{"secure,!all", 0, 0, "error: client_tls_protocols = secure,!all: no version is left; use secure"},
		{"sslv3", 0, 0, "unknown word"},
	} {
		b := newBuilder()
		low, high := b.versions(c.setting)
		if low != c.low || high != c.high {
			t.Errorf("%q gives %x to %x", c.setting, low, high)
		}
		if said := b.said(); (c.said == "") != (said == "") || !strings.Contains(said, c.said) {
			t.Errorf("%q: said %q", c.setting, said)
		}
	}
}

func TestCipherStringsBecomeGosSuites(t *testing.T) {
	secure := func(pick func(name string) bool) string {
		var names []string
		for _, s := range suites {
			if safe(s.id) && pick(s.name) {
				names = append(names, s.name)
			}
		}
		return strings.Join(names, ":")
	}
	every := secure(func(string) bool { return true })
	for _, c := range []struct{ setting, want, said string }{
		{"default", "", ""},
		{"fast", "", ""},
		{"Normal", "", ""},
		{"insecure", "", ""},
		{"HIGH", every, ""},
		{"HIGH:!aNULL", every, ""},
		{"HIGH:MEDIUM:+3DES:!aNULL", every, "nothing here for MEDIUM; used are ECDHE-"},
		{"DEFAULT:@STRENGTH", every, ""},
		{"DEFAULT@SECLEVEL=1", "", "no cipher that this program has is left"},
		{"DEFAULT:@SECLEVEL=1", every, "nothing here for @SECLEVEL=1"},
		{"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", ""},
		{"ECDHE-RSA-CHACHA20-POLY1305, ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES256-GCM-SHA384", ""},
		{"ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
			"warning: client_tls_ciphers = ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384: nothing here for DHE-RSA-AES256-GCM-SHA384; used are ECDHE-RSA-AES256-GCM-SHA384"},
		{"ECDHE+AESGCM", secure(func(n string) bool { return strings.Contains(n, "GCM") }), ""},
		{"ECDHE+AESGCM:!aECDSA", secure(func(n string) bool { return strings.Contains(n, "RSA-AES") && strings.Contains(n, "GCM") }), ""},
		{"HIGH:!SHA1:!SHA256", secure(func(n string) bool { return !strings.HasSuffix(n, "-SHA") }), ""},
		{"HIGH:-AES:ECDHE-RSA-AES128-SHA", secure(func(n string) bool { return strings.Contains(n, "CHACHA") }) + ":ECDHE-RSA-AES128-SHA", ""},
		{"!AES:HIGH", secure(func(n string) bool { return strings.Contains(n, "CHACHA") }), ""},
		{"AES128-SHA", "AES128-SHA", "AES128-SHA can be broken"},
		{"kRSA", "", "error: client_tls_ciphers = kRSA: no cipher that this program has is left; use default"},
		{"DHE-RSA-AES256-SHA", "", "no cipher that this program has is left"},
		{"HIGH:!ALL", "", "no cipher that this program has is left"},
	} {
		b := newBuilder()
		var names []string
		for _, id := range b.ciphers(c.setting) {
			names = append(names, suiteName(id))
		}
		if got := strings.Join(names, ":"); got != c.want {
			t.Errorf("%q gives %q, not %q", c.setting, got, c.want)
		}
		if said := b.said(); (c.said == "") != (said == "") || !strings.Contains(said, c.said) {
			t.Errorf("%q: said %q", c.setting, said)
		}
	}
}

func TestEverySuiteOfGoHasAName(t *testing.T) {
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		name := suiteName(s.ID)
		if s.SupportedVersions[0] == tls.VersionTLS13 != (name == s.Name) {
			t.Errorf("%s is called %s", s.Name, name)
		}
	}
}

func TestCurvesAreReadByOpenSSLsNames(t *testing.T) {
	for _, c := range []struct {
		setting string
		want    []tls.CurveID
		said    string
	}{
		{"", nil, ""},
		{"auto", nil, ""},
		{"none", nil, "no key exchange without curves here; auto is used"},
		{"prime256v1", []tls.CurveID{tls.CurveP256}, ""},
		{"P-384", []tls.CurveID{tls.CurveP384}, ""},
		{"X25519:secp521r1,x25519", []tls.CurveID{tls.X25519, tls.CurveP521}, ""},
		{"X448:X25519", []tls.CurveID{tls.X25519}, "no X448 here; the others are used"},
		{"sect571r1", nil, "error: client_tls_ecdhcurve = sect571r1: no such curve here; use auto"},
	} {
		b := newBuilder()
		if got := b.curves(c.setting); !slices.Equal(got, c.want) {
			t.Errorf("%q gives %v", c.setting, got)
		}
		if said := b.said(); (c.said == "") != (said == "") || !strings.Contains(said, c.said) {
			t.Errorf("%q: said %q", c.setting, said)
		}
	}
}

func TestSettingsThatCannotWorkAreNamed(t *testing.T) {
	ca := tlstest.NewCA(t, "authority")
	files := ca.Issue(t, "server", tlstest.Leaf{})
	other := ca.Issue(t, "other", tlstest.Leaf{})
	old := ca.Issue(t, "old", tlstest.Leaf{NotAfter: time.Date(2020, 5, 6, 7, 8, 0, 0, time.UTC)})
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty := write("empty.pem", "")
	broken := write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	locked := write("locked.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	for _, c := range []struct {
		name   string
		server bool // the side towards servers
		change func(*ini.Settings)
		want   string // parts of what is said, separated by |
	}{
		{"a key without a file", false, func(s *ini.Settings) { s.ClientTLS.KeyFile = "/nowhere/key" },
			"error: client_tls_key_file = /nowhere/key: no such file or directory; name a file that the pooler's user can read"},
		{"the key of another certificate", false, func(s *ini.Settings) { s.ClientTLS.KeyFile = other.Key },
			"error: client_tls_key_file = " + other.Key + ": private key does not match public key; name the key that " + files.Cert + " was made for"},
		{"a key with a passphrase", false, func(s *ini.Settings) { s.ClientTLS.KeyFile = locked }, "the key has a passphrase, which nobody is there to type; take it off: openssl pkey"},
		{"a certificate for a key", false, func(s *ini.Settings) { s.ClientTLS.KeyFile = files.Cert }, "no private key in it"},
		{"a key for a certificate", false, func(s *ini.Settings) { s.ClientTLS.CertFile = files.Key }, "error: client_tls_cert_file = " + files.Key + ": no certificate in it"},
		{"an empty CA file", false, func(s *ini.Settings) { s.ClientTLS.CAFile = empty }, "error: client_tls_ca_file = " + empty + ": no certificate in it"},
		{"a broken CA file", true, func(s *ini.Settings) { s.ServerTLS.CAFile = broken }, "error: server_tls_ca_file = " + broken + ": certificate 1: "},
		{"no key", false, func(s *ini.Settings) { s.ClientTLS.KeyFile = "" }, "TLS with clients needs a key and a certificate; set client_tls_key_file"},
		{"half a pair", true, func(s *ini.Settings) { s.ServerTLS.KeyFile = files.Key }, "a key and a certificate go together"},
		{"nothing to check clients against", false, func(s *ini.Settings) { s.ClientTLS.SSLMode = ini.SSLVerifyCA }, "error: client_tls_sslmode = verify-ca: there is nothing to check certificates against; set client_tls_ca_file"},
		{"nothing to check servers against", true, func(s *ini.Settings) { s.ServerTLS.SSLMode = ini.SSLVerifyFull }, "error: server_tls_sslmode = verify-full: there is nothing"},
		{"several at once", false, func(s *ini.Settings) { s.ClientTLS.Ciphers, s.ClientTLS.Protocols = "NULL", "sslv2" }, "client_tls_ciphers = NULL|client_tls_protocols = sslv2"},
		{"a CA file that is not used", true, func(s *ini.Settings) { s.ServerTLS.CAFile, s.ServerTLS.SSLMode = ca.File, ini.SSLRequire },
			"warning: server_tls_ca_file = " + ca.File + ": server_tls_sslmode = require takes any certificate"},
		{"an old certificate", false, func(s *ini.Settings) { s.ClientTLS.CertFile, s.ClientTLS.KeyFile = old.Cert, old.Key },
			"warning: client_tls_cert_file = " + old.Cert + ": the certificate has expired on 2020-05-06 07:08 UTC"},
		{"ciphers of TLS 1.3", false, func(s *ini.Settings) { s.ClientTLS13Ciphers = "TLS_AES_128_GCM_SHA256" }, "warning: client_tls13_ciphers = TLS_AES_128_GCM_SHA256: has no effect"},
		{"ciphers of TLS 1.3 with servers", true, func(s *ini.Settings) { s.ServerTLS13Ciphers = "X" }, "warning: server_tls13_ciphers = X: has no effect"},
		{"parameters of a key exchange", false, func(s *ini.Settings) { s.ClientTLSDHEParams = "legacy" }, "warning: client_tls_dheparams = legacy: there is no key exchange of this kind"},
		{"nothing wrong with clients", false, func(s *ini.Settings) { s.ClientTLS.CAFile = ca.File }, ""},
		{"nothing wrong with servers", true, func(s *ini.Settings) {}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := &ini.Default().Settings
			set.ClientTLS.SSLMode, set.ClientTLS.CertFile, set.ClientTLS.KeyFile = ini.SSLPrefer, files.Cert, files.Key
			c.change(set)
			b := newBuilder()
			build := ForClients
			if c.server {
				build = ForServers
			}
			cfg, warnings, err := build(set)
			b.warnings = warnings
			if err != nil {
				b.errs = append(b.errs, err)
			}
			if (cfg == nil) != (err != nil) {
				t.Errorf("config %v with error %v", cfg, err)
			}
			said := b.said()
			for _, part := range strings.Split(c.want, "|") {
				if c.want == "" && said != "" || !strings.Contains(said, part) {
					t.Errorf("said %q, without %q", said, part)
				}
			}
		})
	}
}

func TestDisabledMeansNoConfig(t *testing.T) {
	set := &ini.Default().Settings
	set.ServerTLS.SSLMode = ini.SSLDisable
	for _, build := range []func(*ini.Settings) (*Config, []string, error){ForClients, ForServers} {
		if c, warnings, err := build(set); c != nil || warnings != nil || err != nil {
			t.Errorf("got %v, %q, %v", c, warnings, err)
		}
	}
}

func TestOnlyRealChangesMakeConfigsDiffer(t *testing.T) {
	ca := tlstest.NewCA(t, "authority")
	files := ca.Issue(t, "server", tlstest.Leaf{})
	set := &ini.Default().Settings
	set.ServerTLS.CertFile, set.ServerTLS.KeyFile = files.Cert, files.Key
	build := func() *Config {
		t.Helper()
		c, _, err := ForServers(set)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := build()
	if !Equal(before, build()) {
		t.Error("the same settings make another config")
	}
	if Equal(before, nil) || Equal(nil, before) || !Equal(nil, nil) {
		t.Error("no config is wrongly compared")
	}
	ca.Issue(t, "server", tlstest.Leaf{})
	renewed := build()
	if Equal(before, renewed) {
		t.Error("another certificate in the file makes no difference")
	}
	for name, change := range map[string]func(){
		"protocols": func() { set.ServerTLS.Protocols = "tlsv1.3" },
		"ciphers":   func() { set.ServerTLS.Ciphers = "HIGH" },
		"sslmode":   func() { set.ServerTLS.SSLMode = ini.SSLRequire },
		"ca_file":   func() { set.ServerTLS.CAFile = ca.File },
	} {
		saved := *set
		change()
		if Equal(renewed, build()) {
			t.Errorf("%s makes no difference", name)
		}
		*set = saved
	}
	// Where a file lies is no change; the same bytes elsewhere are the same.
	data, err := os.ReadFile(files.Key)
	if err != nil {
		t.Fatal(err)
	}
	set.ServerTLS.KeyFile = filepath.Join(t.TempDir(), "moved.key")
	if err := os.WriteFile(set.ServerTLS.KeyFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if !Equal(renewed, build()) {
		t.Error("a file that has moved makes a difference")
	}
}
