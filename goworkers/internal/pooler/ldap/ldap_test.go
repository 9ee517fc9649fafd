package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/ldap/ldaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entries are people with names that are hard to say in a DN or a filter.
const entries = `dn: dc=example,dc=net
objectClass: organization
objectClass: dcObject
o: example
dc: example

dn: cn=reader,dc=example,dc=net
objectClass: person
cn: reader
sn: reader
userPassword: reader's secret

dn: ou=people,dc=example,dc=net
objectClass: organizationalUnit
ou: people

dn: uid=alice,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
mail: alice@example.net
userPassword: wonderland

dn: uid=bob\2C the \2B \22builder\22,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: bob, the + "builder"
cn: Bob
sn: B
mail: twins@example.net
userPassword: yes we can

dn: uid=star*(\5C),ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: star*(\)
cn: Star
sn: S
mail: twins@example.net
userPassword: twinkle

dn: uid=nopass,ou=people,dc=example,dc=net
objectClass: inetOrgPerson
uid: nopass
cn: N
sn: N

dn: ou=closed,dc=example,dc=net
objectClass: organizationalUnit
ou: closed

dn: uid=carol,ou=closed,dc=example,dc=net
objectClass: inetOrgPerson
uid: carol
cn: Carol
sn: C
userPassword: hidden
`

var access = []string{
	"to attrs=userPassword by anonymous auth by * none",
	`to dn.subtree="ou=closed,dc=example,dc=net" by dn.exact="cn=reader,dc=example,dc=net" read by anonymous auth by * none`,
	"to * by * read",
}

const (
	people = "ou=people,dc=example,dc=net"
	bob    = `bob, the + "builder"`
	star   = `star*(\)`
)

func parse(t *testing.T, format string, args ...any) *Options {
	t.Helper()
	o, err := Parse(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// verify gives the result as one word, and the error.
func verify(t *testing.T, o *Options, user, password string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := o.Verify(ctx, user, password)
	if err != nil && password != "" && strings.Contains(err.Error(), password) {
		t.Errorf("the error has the password: %v", err)
	}
	var trouble *Trouble
	switch {
	case err == nil:
		return "yes", nil
	case errors.Is(err, ErrRefused):
		return "no", err
	case errors.As(err, &trouble):
		return "trouble", err
	}
	t.Fatalf("an error of no kind: %v", err)
	return "", err
}

func TestVerify(t *testing.T) {
	s := ldaptest.Start(t, true, entries, access...)
	trust := roots(t, s.CA)
	server := fmt.Sprintf("ldapserver=127.0.0.1 ldapport=%d ", s.Port)
	simple := parse(t, `%s ldapprefix="uid=" ldapsuffix=",%s"`, server, people)
	search := parse(t, "%s ldapbasedn=%s", server, people)
	mail := parse(t, "%s ldapbasedn=dc=example,dc=net ldapsearchfilter=(|(uid=$username)(mail=$username))", server)
	reader := parse(t, `%s ldapbasedn=dc=example,dc=net ldapbinddn=cn=reader,dc=example,dc=net ldapbindpasswd="reader's secret"`, server)
	url := parse(t, "ldapurl=ldap://127.0.0.1:%d/dc=example,dc=net?mail?sub", s.Port)
	oneLevel := parse(t, "ldapurl=ldap://127.0.0.1:%d/dc=example,dc=net?uid?one", s.Port)

	for _, tc := range []struct {
		name     string
		o        *Options
		user     string
		password string
		want     string
		says     string // part of the error
	}{
		{"simple", simple, "alice", "wonderland", "yes", ""},
		{"simple, wrong password", simple, "alice", "Wonderland", "no", `refused by LDAP: user "alice" cannot bind as "uid=alice,ou=people,dc=example,dc=net": Invalid Credentials`},
		{"simple, nobody", simple, "mallory", "wonderland", "no", ""},
		{"simple, somebody elsewhere", simple, "carol", "hidden", "no", ""},
		{"simple, special characters", simple, bob, "yes we can", "yes", ""},
		{"simple, more of them", simple, star, "twinkle", "yes", ""},
		{"simple, no password in the directory", simple, "nopass", "hunter2", "no", ""},
		{"simple, other entry by DN", simple, "alice,ou=people,dc=example,dc=net", "wonderland", "no", ""},
		{"simple, into another unit", simple, "carol,ou=closed,dc=example,dc=net#", "hidden", "no", ""},
		{"simple, two values", simple, "alice+uid=alice", "wonderland", "no", ""},
		{"search", search, "alice", "wonderland", "yes", ""},
		{"search, wrong password", search, "alice", "wrong", "no", "Invalid Credentials"},
		{"search, nobody", search, "mallory", "hunter2", "no", `user "mallory" is not below "ou=people,dc=example,dc=net"`},
		{"search, special characters", search, bob, "yes we can", "yes", ""},
		{"search, more of them", search, star, "twinkle", "yes", ""},
		{"search, everybody", search, "*", "wonderland", "no", `user "*" is not below`},
		{"search, pattern", search, "ali*", "wonderland", "no", ""},
		{"search, injection", search, "x)(|(uid=alice)", "wonderland", "no", ""},
		{"search, injection after the end", search, "alice)(uid=*))(|(uid=*", "wonderland", "no", ""},
		{"search, escapes in the name", search, `\61lice`, "wonderland", "no", ""},
		{"search, two entries", mail, "twins@example.net", "twinkle", "no", "is not one entry"},
		{"search, by either attribute", mail, "alice@example.net", "wonderland", "yes", ""},
		{"search, by the other", mail, "alice", "wonderland", "yes", ""},
		{"search, hidden entry", mail, "carol", "hidden", "no", "is not below"},
		{"reader finds it", reader, "carol", "hidden", "yes", ""},
		{"reader, wrong password", reader, "carol", "reader's secret", "no", "Invalid Credentials"},
		{"url", url, "alice@example.net", "wonderland", "yes", ""},
		{"url, below its scope", oneLevel, "alice", "wonderland", "no", "is not below"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := verify(t, tc.o, tc.user, tc.password)
			if got != tc.want {
				t.Errorf("%s, want %s: %v", got, tc.want, err)
			}
			if err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %s", err, tc.says)
			}
		})
	}

	t.Run("what cannot be true is not asked", func(t *testing.T) {
		// The server would let in whoever gives no password: it allows bind_anon_dn.
		// Nobody listens where these options lead, so an attempt would be trouble.
		nowhere := parse(t, `ldapserver=127.0.0.1 ldapport=1 ldapprefix="uid=" ldapsuffix=",%s"`, people)
		domain := parse(t, `ldapserver=127.0.0.1 ldapport=1 ldapprefix=CORP\`)
		for _, tc := range []struct {
			o              *Options
			user, password string
		}{
			{nowhere, "alice", ""}, {nowhere, "", "hunter2"}, {nowhere, "al\x00ice", "hunter2"}, {nowhere, "al\xffice", "hunter2"},
			{domain, "x,cn=admin", "hunter2"}, {domain, "x@other", "hunter2"}, {domain, `OTHER\x`, "hunter2"}, {domain, "a/b", "hunter2"},
		} {
			if got, err := verify(t, tc.o, tc.user, tc.password); got != "no" {
				t.Errorf("%q with %q: %s, %v", tc.user, tc.password, got, err)
			}
		}
		if got, err := verify(t, domain, "alice", "hunter2"); got != "trouble" {
			t.Errorf("what can be asked: %s, %v", got, err)
		}
	})
	t.Run("trouble of the pooler's own", func(t *testing.T) {
		for _, tc := range []struct{ name, options, says string }{
			{"wrong ldapbindpasswd", "ldapbasedn=dc=example,dc=net ldapbinddn=cn=reader,dc=example,dc=net ldapbindpasswd=geheim", "bind as ldapbinddn: LDAP Result Code 49"},
			{"no such base", "ldapbasedn=dc=example,dc=org", "search below dc=example,dc=org: LDAP Result Code "},
			{"TLS without trust", "ldaptls=1 ldapbasedn=dc=example,dc=net", "encrypt the connection: "},
		} {
			got, err := verify(t, parse(t, "%s %s", server, tc.options), "alice", "wonderland")
			if got != "trouble" || !strings.HasPrefix(err.Error(), fmt.Sprintf("LDAP server 127.0.0.1:%d: %s", s.Port, tc.says)) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%s: %s, %v", tc.name, got, err)
			}
		}
	})
	t.Run("TLS", func(t *testing.T) {
		for _, tc := range []struct{ name, options, want string }{
			{"StartTLS", fmt.Sprintf("ldapserver=127.0.0.1 ldapport=%d ldaptls=1 ldapbasedn=%s", s.Port, people), "yes"},
			{"ldaps", fmt.Sprintf("ldapserver=127.0.0.1 ldapport=%d ldapscheme=ldaps ldapbasedn=%s", s.TLSPort, people), "yes"},
			{"ldaps by name and URL", fmt.Sprintf("ldapurl=ldaps://localhost:%d/%s??sub", s.TLSPort, people), "yes"},
			{"ldaps, another name", fmt.Sprintf("ldapurl=ldaps://127.0.0.2:%d/%s??sub", s.TLSPort, people), "trouble"},
			{"ldaps where there is none", fmt.Sprintf("ldapserver=127.0.0.1 ldapport=%d ldapscheme=ldaps ldapbasedn=%s", s.Port, people), "trouble"},
			{"none where there is ldaps", fmt.Sprintf("ldapserver=127.0.0.1 ldapport=%d ldapbasedn=%s", s.TLSPort, people), "trouble"},
		} {
			o := parse(t, "%s", tc.options)
			o.TLS = trust
			if got, err := verify(t, o, "alice", "wonderland"); got != tc.want {
				t.Errorf("%s: %s, want %s: %v", tc.name, got, tc.want, err)
			}
			if got, err := verify(t, o, "alice", "wrong"); tc.want == "yes" && got != "no" {
				t.Errorf("%s with a wrong password: %s, %v", tc.name, got, err)
			}
		}
		if trust.ServerName != "" {
			t.Error("the caller's settings were changed")
		}
	})
	t.Run("TLS as ldap.conf says", func(t *testing.T) {
		conf := filepath.Join(t.TempDir(), "ldap.conf")
		t.Setenv("LDAPCONF", conf)
		for _, tc := range []struct{ name, text, env, want, says string }{
			{"file of certificates", "# TLS_CACERT /x\nTLS_CACERT " + s.CA, "", "yes", ""},
			{"variable", "tls_cacert /missing", s.CA, "yes", ""},
			{"no check", "TLS_REQCERT never", "", "yes", ""},
			{"nothing", "TLS_REQCERT demand", "", "trouble", "certificate"},
			{"missing file", "TLS_CACERT /missing", "", "trouble", "read the settings of TLS: TLS_CACERT of ldap.conf: open /missing: no such file or directory"},
			{"no certificates", "TLS_CACERT " + conf, "", "trouble", "read the settings of TLS: TLS_CACERT of ldap.conf: " + conf + " has no certificates"},
		} {
			if err := os.WriteFile(conf, []byte(tc.text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Setenv("LDAPTLS_CACERT", tc.env)
			got, err := verify(t, parse(t, "ldapserver=localhost ldapport=%d ldaptls=1 ldapbasedn=%s", s.Port, people), "alice", "wonderland")
			if got != tc.want || err != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s: %s, want %s: %v", tc.name, got, tc.want, err)
			}
		}
	})
	t.Run("many at once", func(t *testing.T) {
		w := NewWorkers(4, 100)
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Add(1)
			job := func(ctx context.Context) {
				defer wg.Done()
				password, want := "wonderland", error(nil)
				if i%2 == 1 {
					password, want = "wrong", ErrRefused
				}
				if err := search.Verify(ctx, "alice", password); !errors.Is(err, want) {
					t.Errorf("with %s: %v", password, err)
				}
			}
			if !w.Submit(job) {
				t.Error("refused")
				wg.Done()
			}
		}
		wg.Wait()
		w.Stop()
	})
}

func roots(t *testing.T, path string) *tls.Config {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	if !c.RootCAs.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in " + path)
	}
	return c
}

// A server that cannot encrypt is never sent a password when encryption is wanted.
func TestStartTLSThatIsDeniedEndsIt(t *testing.T) {
	s := ldaptest.Start(t, false, entries, access...)
	o := parse(t, "ldapserver=127.0.0.1 ldapport=%d ldaptls=1 ldapbasedn=%s", s.Port, people)
	got, err := verify(t, o, "alice", "wonderland")
	if got != "trouble" || !strings.Contains(err.Error(), "encrypt the connection: LDAP Result Code") {
		t.Errorf("%s: %v", got, err)
	}
}

func TestServersThatAreLostAreTrouble(t *testing.T) {
	s := ldaptest.Start(t, true, entries, access...)
	link := pgtest.NewLink(t, s.Port)
	trust := roots(t, s.CA)
	through := fmt.Sprintf("ldapserver=127.0.0.1 ldapport=%d ldapbasedn=%s ", link.Port, people)
	plain, encrypted := parse(t, "%s", through), parse(t, "%s ldaptls=1", through)
	encrypted.TLS = trust

	t.Run("at every byte", func(t *testing.T) {
		// The answers to a search and a bind have some hundred bytes.
		ended := 0
		for after := 0; ; after++ {
			for _, do := range []pgtest.Action{pgtest.Close, pgtest.Reset} {
				link.Set(pgtest.Fault{Do: do, Way: pgtest.ToClient, After: after})
				got, err := verify(t, plain, "alice", "wonderland")
				if got == "yes" {
					ended++
				} else if got != "trouble" {
					t.Fatalf("%v after %d bytes: %s, %v", do, after, got, err)
				}
			}
			if ended >= 2 {
				if after < 50 {
					t.Fatalf("the whole answer came in %d bytes", after)
				}
				break
			}
			if after > 1000 {
				t.Fatal("no end of the answer")
			}
		}
	})
	t.Run("that stand still", func(t *testing.T) {
		for _, o := range []*Options{plain, encrypted} {
			for _, after := range []int{0, 5, 20} {
				link.Set(pgtest.Fault{Do: pgtest.Stall, Way: pgtest.ToClient, After: after})
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				err := o.Verify(ctx, "alice", "wonderland")
				cancel()
				if err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "no answer within ") {
					t.Errorf("still after %d bytes: %v", after, err)
				}
			}
		}
		link.Heal()
	})
	t.Run("frozen and then killed", func(t *testing.T) {
		s.Freeze(t)
		arrived := make(chan struct{})
		proxy := relay(t, s.Port, arrived)
		result := make(chan error, 1)
		o := parse(t, "ldapserver=127.0.0.1 ldapport=%d ldapbasedn=%s", proxy, people)
		go func() { result <- o.Verify(t.Context(), "alice", "wonderland") }()
		<-arrived
		s.Kill()
		var trouble *Trouble
		if err := <-result; !errors.As(err, &trouble) || errors.Is(err, ErrRefused) || trouble.Doing != "search below "+people {
			t.Errorf("%v", err)
		}
		if got, err := verify(t, plain, "alice", "wonderland"); got != "trouble" {
			t.Errorf("a dead server: %s, %v", got, err)
		}
		s.Run(t)
		if got, err := verify(t, plain, "alice", "wonderland"); got != "yes" {
			t.Errorf("a server that is back: %s, %v", got, err)
		}
	})
	t.Run("and the next one is asked", func(t *testing.T) {
		several := parse(t, `ldapserver="127.0.0.9 127.0.0.8 127.0.0.1" ldapport=%d ldapbasedn=%s`, s.Port, people)
		if got, err := verify(t, several, "alice", "wonderland"); got != "yes" {
			t.Errorf("%s: %v", got, err)
		}
		if got, err := verify(t, several, "alice", "wrong"); got != "no" {
			t.Errorf("wrong password: %s, %v", got, err)
		}
		// One that takes connections and says nothing leaves time for the others.
		mute, err := net.Listen("tcp", fmt.Sprintf("127.0.0.9:%d", s.Port))
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := several.Verify(ctx, "alice", "wonderland"); err != nil {
			t.Error(err)
		}
		s.Kill()
		_, err = verify(t, parse(t, `ldapserver="127.0.0.7 127.0.0.1" ldapport=%d ldapbasedn=%s`, s.Port, people), "alice", "wonderland")
		for _, ip := range []string{"127.0.0.7", "127.0.0.1"} {
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("LDAP server %s:%d: connect: ", ip, s.Port)) {
				t.Errorf("the error does not tell of %s: %v", ip, err)
			}
		}
		s.Run(t)
	})
	t.Run("and being told to end is heard at once", func(t *testing.T) {
		s.Freeze(t)
		defer s.Thaw(t)
		w := NewWorkers(2, 10)
		result := make(chan error, 5)
		for range 5 {
			w.Submit(func(ctx context.Context) { result <- plain.Verify(ctx, "alice", "wonderland") })
		}
		start := time.Now()
		w.Stop()
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("Stop took %v", took)
		}
		for range 5 {
			if err := <-result; !errors.Is(err, context.Canceled) {
				t.Errorf("a job got %v", err)
			}
		}
	})
}

// relay leads to a port; arrived is closed when a client has sent something.
func relay(t *testing.T, port int, arrived chan struct{}) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer l.Close()
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return
		}
		defer server.Close()
		b := make([]byte, 4096)
		n, _ := client.Read(b)
		server.Write(b[:n])
		close(arrived)
		for {
			n, err := server.Read(b)
			if err != nil {
				return
			}
			client.Write(b[:n])
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestAnswersThatAreNoLDAP(t *testing.T) {
	for name, answer := range map[string]string{
		"text":                "HTTP/1.1 400 Bad Request\r\n\r\n",
		"huge length":         "\x30\x84\x7f\xff\xff\xff",
		"nothing and the end": "",
		"another message":     "\x30\x0c\x02\x01\x63\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
		"bind without result": "\x30\x05\x02\x01\x01\x61\x00",
		"no operation":        "\x30\x03\x02\x01\x01",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer l.Close()
			wg.Go(func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				c.Read(make([]byte, 4096))
				c.Write([]byte(answer))
			})
			o := parse(t, `ldapserver=127.0.0.1 ldapport=%d ldapprefix="uid=" ldapsuffix=",dc=x"`, l.Addr().(*net.TCPAddr).Port)
			if got, err := verify(t, o, "alice", "wonderland"); got != "trouble" {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}
