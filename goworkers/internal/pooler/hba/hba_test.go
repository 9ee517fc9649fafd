package hba

// What the rules let in, and that we read them as PostgreSQL does.

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"goworkers/internal/pgtest"
)

func parse(t *testing.T, text string) *Rules {
	t.Helper()
	r, w := Parse("hba", text)
	if len(w) > 0 {
		t.Fatal(w)
	}
	return r
}

func TestFirstRuleThatFitsDecides(t *testing.T) {
	r := parse(t, `# comment
local   all          postgres                      peer map=m # comment
local   app,"all"    joe                           md5
hostssl all          all       10.1.0.0/16         scram-sha-256
host    all          evil      all                 reject
host    sameuser     all       192.168.1.77 255.255.255.0 password
hostnossl  x         "all"     2001:db8::/32       trust
host    replication  repl      127.0.0.1/32        md5
host    "replication" named    127.0.0.1/32        md5
`)
	ip := netip.MustParseAddr
	for _, c := range []struct {
		name string
		conn Conn
		line int // 0: refused
	}{
		{"unix socket, any database", Conn{Database: "x", User: "postgres"}, 2},
		{"list of databases", Conn{Database: "app", User: "joe"}, 3},
		{"quoted all is a name", Conn{Database: "all", User: "joe"}, 3},
		{"quoted all is not all", Conn{Database: "x", User: "joe"}, 0},
		{"TLS in the network", Conn{Database: "x", User: "u", Addr: ip("10.1.255.1"), TLS: true}, 4},
		{"IPv4 within IPv6", Conn{Database: "x", User: "u", Addr: ip("::ffff:10.1.255.1"), TLS: true}, 4},
		{"no TLS where it is wanted", Conn{Database: "x", User: "u", Addr: ip("10.1.255.1")}, 0},
		{"outside the network", Conn{Database: "x", User: "u", Addr: ip("10.2.0.1"), TLS: true}, 0},
		{"rejected by name", Conn{Database: "x", User: "evil", Addr: ip("::1")}, 5},
		{"the earlier rule wins", Conn{Database: "x", User: "evil", Addr: ip("10.1.0.1"), TLS: true}, 4},
		{"same user", Conn{Database: "u", User: "u", Addr: ip("192.168.1.3")}, 6},
		{"other user", Conn{Database: "v", User: "u", Addr: ip("192.168.1.3")}, 0},
		{"quoted user all", Conn{Database: "x", User: "all", Addr: ip("2001:db8::5")}, 7},
		{"TLS where it is not wanted", Conn{Database: "x", User: "all", Addr: ip("2001:db8::5"), TLS: true}, 0},
		{"replication", Conn{User: "repl", Addr: ip("127.0.0.1"), Replication: true}, 8},
		{"replication is no database", Conn{Database: "replication", User: "repl", Addr: ip("127.0.0.1")}, 0},
		{"quoted replication is a database", Conn{Database: "replication", User: "named", Addr: ip("127.0.0.1")}, 9},
		{"all is not replication", Conn{User: "postgres", Replication: true}, 0},
		{"unix socket is no address", Conn{Database: "u", User: "evil"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := 0
			if rule := r.Match(c.conn); rule != nil {
				got = rule.Line
			}
			if got != c.line {
				t.Errorf("line %d decides, want %d", got, c.line)
			}
		})
	}
	if r.rules[0].Map != "m" || r.rules[0].Method != Peer {
		t.Errorf("%+v", r.rules[0])
	}
	if new(Rules).Match(Conn{Database: "x", User: "x"}) != nil {
		t.Error("no rules let somebody in")
	}
}

// bad are lines that are left out; PostgreSQL refuses those too which it can.
var bad = []struct{ line, want string }{
	{"locale all all md5", `unknown kind of connection "locale" (use one of local, host, hostssl, hostnossl)`},
	{"local,host all all md5", "kind of connection is a list"},
	{"local", "ends before the database"},
	{"local all", "ends before the user"},
	{"local all all", "ends before the method"},
	{"host all all", "ends before the address"},
	{"host all all 10.0.0.1", "ends before the mask of the address"},
	{"host all all 10.0.0.1 md5", `"md5" is no mask for the address 10.0.0.1`},
	{"host all all 10.0.0.1 ffff:: md5", `"ffff::" is no mask for the address 10.0.0.1`},
	{"host all all 10.0.0.0/33 md5", `"10.0.0.0/33" is not ADDRESS/BITS`},
	{"local all all md6", `unknown method "md6" (use one of reject, trust, md5, password, scram-sha-256, peer, cert, ldap)`},
	{"host all all all peer", "method peer is for local connections"},
	{"host all all all cert", "method cert is for hostssl connections"},
	{"local all all md5 clientcert", "an option behind the method is not KEY=VALUE"},
	{"local all all md5 map=x", `method md5 has no option "map"`},
	{"hostssl all all all md5 klientcert=verify-full", `method md5 has no option "klientcert"`},
}

// alien are lines that PostgreSQL takes, but not a pooler.
var alien = []struct{ line, want string }{
	{"local all +staff md5", `"+staff" asks for groups of roles, which a pooler does not know`},
	{"local samerole all md5", `"samerole" asks for groups of roles, which a pooler does not know`},
	{"hostssl all all all md5 clientcert=verify-full", `method md5 has no option "clientcert"`},
	{"host all all 10.0.0.1 255.0.255.0 md5", "mask 255.0.255.0 has gaps"},
	{"host all all example.com md5", `"example.com" is no address (names of hosts are not supported)`},
}

func TestBadLinesAreLeftOutAloud(t *testing.T) {
	for _, c := range slices.Concat(bad, alien, []struct{ line, want string }{
		{`local all "all md5`, "a quote is not closed"},
		{"local all a\x00b md5", "a zero byte"},
		{"local /x all md5", "regular expressions are not supported (quote a name that starts with /)"},
		{"local all @/nonexistent md5", "open /nonexistent: no such file or directory"},
		{"host all all ::ffff:1.2.3.4/128 md5", "address ::ffff:1.2.3.4 is not in its plain form"},
	}) {
		r, w := Parse("f", "\n"+c.line+"\nlocal all all trust\n")
		if len(w) != 1 || w[0].String() != "f:2: "+c.want+"; the line is left out" {
			t.Errorf("%q: warnings %v, want %q", c.line, w, c.want)
		}
		if len(r.rules) != 1 || r.rules[0].Line != 3 {
			t.Errorf("%q: the line behind it is lost: %+v", c.line, r.rules)
		}
	}
	_, w := Parse("f", "local all all ldap ldapbindpasswd=geheim geheim\nlocal all all md5 geheim")
	if strings.Contains(fmt.Sprint(w), "geheim") {
		t.Errorf("a secret is told: %v", w)
	}
}

func TestNamesFromFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("users", "a, b\n# c\n@more\n")
	write("more", "\"d e\" f")
	write("loop", "@loop")
	write("hba", "local all @users md5\nlocal all @loop md5\n")
	r, w, err := Load(filepath.Join(dir, "hba"))
	if err != nil || len(w) != 1 || !strings.Contains(w[0].String(), "hba:2: files of names nested deeper than 10") {
		t.Fatalf("%v %v", w, err)
	}
	for user, want := range map[string]bool{"a": true, "b": true, "c": false, "d e": true, "f": true, "g": false} {
		if got := r.Match(Conn{Database: "x", User: user}) != nil; got != want {
			t.Errorf("user %s: %v", user, got)
		}
	}
	if _, _, err := Load(filepath.Join(dir, "none")); err == nil || !strings.HasPrefix(err.Error(), "auth_hba_file: open ") {
		t.Errorf("missing file: %v", err)
	}
}

// TestReadsLinesAsPostgreSQLDoes holds our parser against the view pg_hba_file_rules.
func TestReadsLinesAsPostgreSQLDoes(t *testing.T) {
	good := []string{
		"local all all trust",
		"local   a,b , c  md5",
		"local a, b c md5",
		`local "a b","""q"""  "all",all scram-sha-256`,
		`local sameuser,replication,"sameuser" x reject # md5`,
		"host all all 10.1.2.3/8 md5",
		"host all all 10.1.2.3 255.255.255.240 md5",
		"host all all ::1/128 password",
		"host all all fe80:: ffff:ffff:: md5",
		"host all all all trust",
		"host all all 0.0.0.0/0 trust",
		"hostssl all all 1.2.3.4/32 cert map=m",
		"hostnossl a#b c md5",
		"local all all peer map=x",
		`local all all peer map="x y"`,
		"local all \\\n all md5",
		"local al\\\nl all md5",
		`local "" x md5`,
	}
	dir, err := os.MkdirTemp("", "hba-test.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "hba")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write("host all all 127.0.0.1/32 trust\n")
	server := pgtest.Server(t, "hba_file="+path)
	db := &pgtest.Database{Name: "postgres", DSN: server.DSN}
	// theirs reads a line as the server does; "" when it refuses it.
	theirs := func(line string) string {
		write(line + "\n")
		rows := db.Rows(t, "select coalesce(error, ''), type, array_to_string(database, '/'), array_to_string(user_name, '/'), address, netmask, auth_method, array_to_string(options, '/') from pg_hba_file_rules")
		if len(rows) != 1 {
			t.Fatalf("%q: %q", line, rows)
		}
		// The test's server has no TLS, which the view counts as an error of the line.
		return strings.TrimPrefix(rows[0], "hostssl record cannot match because SSL is disabled")
	}

	for _, line := range good {
		want := theirs(line)
		ours, w := Parse(path, line)
		if len(ours.rules) != 1 {
			// "a#b" ends the line: both refuse.
			if strings.HasPrefix(want, "|") {
				t.Errorf("%q: we refuse it with %v, the server takes it: %s", line, w, want)
			}
			continue
		}
		r := ours.rules[0]
		list := func(n names, specials ...string) string {
			return strings.Join(append(specials, n.list...), "/")
		}
		f := strings.Split(want, "|")
		if f[0] != "" {
			t.Errorf("%q: we take it, the server refuses it: %s", line, f[0])
			continue
		}
		// The view does not tell quoted words from bare ones, and keeps their order.
		same := func(what, got, want string) {
			a, b := strings.Split(got, "/"), strings.Split(want, "/")
			slices.Sort(a)
			slices.Sort(b)
			if !slices.Equal(a, b) {
				t.Errorf("%q: %s is %q for us, %q for the server", line, what, got, want)
			}
		}
		var dbs, users []string
		if r.databases.all {
			dbs = append(dbs, "all")
		}
		if r.databases.sameUser {
			dbs = append(dbs, "sameuser")
		}
		if r.databases.replication {
			dbs = append(dbs, "replication")
		}
		if r.users.all {
			users = append(users, "all")
		}
		same("type", kinds[r.kind], f[1])
		same("database", list(r.databases, dbs...), f[2])
		same("user", list(r.users, users...), f[3])
		same("method", r.Method.String(), f[6])
		if r.Map != "" {
			// To the server, cert implies clientcert.
			same("options", "map="+r.Map, strings.TrimSuffix(f[7], "/clientcert=verify-full"))
		}
		switch {
		case r.kind == local:
			same("address", "NULL", f[4])
		case r.any:
			same("address", "all", f[4])
		default:
			p, err := maskedPrefix(netip.MustParseAddr(f[4]), f[5])
			if err != nil {
				t.Fatal(err)
			}
			same("network", r.network.String(), p.Masked().String())
		}
	}
	for _, c := range bad {
		if got := theirs(c.line); strings.HasPrefix(got, "|") {
			t.Errorf("%q is good for the server: %s", c.line, got)
		}
	}
	for _, c := range alien {
		if got := theirs(c.line); !strings.HasPrefix(got, "|") {
			t.Errorf("%q is bad for the server too: %s", c.line, got)
		}
	}
}

func TestIdentMaps(t *testing.T) {
	m, w := ParseIdent("ident", `# comment
m  cert-name  joe
m  cert-name  ann   # comment
m  root       all
m  quoted     "all"
n  "two words" x
n  short
n  a b c
n  a,b c
n  /^x.*$ c
`)
	var lines []int
	for _, x := range w {
		lines = append(lines, x.Line)
	}
	if !slices.Equal(lines, []int{7, 8, 9, 10}) {
		t.Errorf("warnings: %v", w)
	}
	for _, c := range []struct {
		name, system, user string
		want               bool
	}{
		{"m", "cert-name", "joe", true}, {"m", "cert-name", "ann", true}, {"m", "cert-name", "root", false},
		{"m", "root", "anybody", true}, {"m", "quoted", "x", false}, {"m", "quoted", "all", true},
		{"n", "two words", "x", true}, {"n", "joe", "joe", false}, {"none", "joe", "joe", false},
		{"", "joe", "joe", true}, {"", "joe", "ann", false},
	} {
		if got := m.Allows(c.name, c.system, c.user); got != c.want {
			t.Errorf("map %q: %s as %s: %v", c.name, c.system, c.user, got)
		}
	}
	if !m.Has("m") || m.Has("none") || new(IdentMaps).Has("m") {
		t.Error("Has")
	}
	if _, _, err := LoadIdent(filepath.Join(t.TempDir(), "none")); err == nil || !strings.HasPrefix(err.Error(), "auth_ident_file: open ") {
		t.Errorf("missing file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("local all all peer map=m\nhost a,\"b c\" sameuser 10.0.0.0/8 md5\n")
	f.Add("host all all ::1 ffff:: \\\n cert # x\nhostssl \"\" ,, x 1.2.3.4 255.0.0.0 cert map=\"a\"b")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "@") {
			return // would read files
		}
		r, w := Parse("f", text)
		if lines := strings.Count(text, "\n") + 1; len(r.rules)+len(w) > lines {
			t.Fatalf("%d rules and %d warnings from %d lines", len(r.rules), len(w), lines)
		}
		r.Match(Conn{Database: "a", User: "a", Addr: netip.MustParseAddr("10.0.0.1")})
		for _, rule := range r.rules {
			if rule.kind != local && !rule.any && !rule.network.IsValid() {
				t.Fatalf("rule without a network: %+v", rule)
			}
		}
		ParseIdent("f", text)
	})
}
