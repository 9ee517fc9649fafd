package ini

// What Load makes of files: values, errors, warnings, reloading.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"goworkers/pgwire"
)

// parse fails the test on an error.
func parse(t *testing.T, text string) (*Config, []Warning) {
	t.Helper()
	c, w, err := Parse("t.ini", text)
	if err != nil {
		t.Fatal(err)
	}
	return c, w
}

func TestFileSetsWhatItSays(t *testing.T) {
	c, _ := parse(t, `
; comment
# comment
  [pgbouncer]
listen_addr = 127.0.0.1, ::1
	listen_port=7000
pool_mode = Transaction
server_lifetime = 0.25
auth_type = scram-sha-256
unix_socket_mode = 0750
log_connections = off
server_check_query =
admin_users = 'a', b   ; no comment here
service_name = p1
[databases]
plain =
app = host=/run/a,@b,10.0.0.1 port=6000 dbname=real user=u password='pa''ss wo=rd' pool_size = 3 pool_mode=statement reserve_pool=2
"we ""ird" = connect_query='select ''x'''
'it''s' = dbname=x
* = host=h
[users]
joe = pool_mode=session query_timeout=1.5
[peers]
3 = host=/tmp/p3
[databases]
late = auth_user=z
spaced = host = x port= 7
`)
	check := func(name string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	check("listen_addr", strings.Join(c.ListenAddr, "|"), "127.0.0.1|::1")
	check("listen_port", c.ListenPort, 7000)
	check("pool_mode", c.PoolMode, PoolTransaction)
	check("server_lifetime", c.ServerLifetime, 250*time.Millisecond)
	check("auth_type", c.AuthType, AuthSCRAM)
	check("unix_socket_mode", c.UnixSocketMode, os.FileMode(0o750))
	check("log_connections", c.LogConnections, false)
	check("server_check_query", c.ServerCheckQuery, "")
	check("value to the end of the line", strings.Join(c.AdminUsers, "|"), "'a'|b   ; no comment here")
	check("job_name by its alias", c.JobName, "p1")
	check("untouched", c.ServerIdleTimeout, 10*time.Minute)
	check("number of databases", len(c.Databases), 7)

	check("empty entry", c.Databases["plain"].DBName, "plain")
	check("empty entry's port", c.Databases["plain"].Port, 5432)
	app := c.Databases["app"]
	check("hosts", strings.Join(app.Hosts, "|"), "/run/a|@b|10.0.0.1")
	check("dbname", app.Target("app"), "real")
	check("password", app.Password.Reveal(), "pa'ss wo=rd")
	check("quoted key", c.Databases[`we "ird`].ConnectQuery, "select 'x'")
	check("key in single quotes", c.Databases["it's"].DBName, "x")
	check("template", c.Databases[AutoName].Target("any"), "any")
	check("section again", c.Databases["late"].AuthUser, "z")
	check("blanks around =", c.Databases["spaced"].Port, 7)
	check("peer", c.Peers[3].Port, 6432)

	joe := c.Users["joe"]
	check("joe's query_timeout", joe.QueryTimeout.Or(0), 1500*time.Millisecond)
	check("user wins", c.PoolModeOf(app, joe), PoolSession)
	check("database wins over global", c.PoolModeOf(app, nil), PoolStatement)
	check("global", c.PoolModeOf(c.Databases["plain"], nil), PoolTransaction)
	check("pool size of user without one", c.PoolSizeOf(app, joe), 3)
	check("reserve_pool alias", c.ReservePoolSizeOf(app, nil), 2)
	check("global wait", c.QueryWaitTimeoutOf(app, joe), 2*time.Minute)
}

func TestEveryErrorIsReportedOnItsLine(t *testing.T) {
	cases := []struct{ name, text, want string }{
		{"unknown setting", "[pgbouncer]\nlisten_prot = 1", "t.ini:2: [pgbouncer] listen_prot: unknown setting; did you mean listen_port?"},
		{"no number", "[pgbouncer]\nlisten_port = abc", "t.ini:2: [pgbouncer] listen_port = abc: not a whole number; give a number from 1 to 65535"},
		{"number out of range", "[pgbouncer]\nlisten_port = 0", "t.ini:2: [pgbouncer] listen_port = 0: out of range; give a number from 1 to 65535"},
		{"negative time", "[pgbouncer]\nquery_timeout = -1", "t.ini:2: [pgbouncer] query_timeout = -1: out of range; give seconds from 0 to 1000000000"},
		{"time with a unit", "[pgbouncer]\nquery_timeout = 1min", "t.ini:2: [pgbouncer] query_timeout = 1min: not a time; give seconds without a unit, fractions allowed: 0.5"},
		{"time that is no number", "[pgbouncer]\nquery_timeout = nan", "t.ini:2: [pgbouncer] query_timeout = nan: not a time; give seconds without a unit, fractions allowed: 0.5"},
		{"no boolean", "[pgbouncer]\nlog_stats = 2", "t.ini:2: [pgbouncer] log_stats = 2: not a yes or no; use 1 or 0"},
		{"unknown word", "[pgbouncer]\npool_mode = x", "t.ini:2: [pgbouncer] pool_mode = x: unknown value; use one of session, transaction, statement"},
		{"no mode", "[pgbouncer]\nunix_socket_mode = 0888", "t.ini:2: [pgbouncer] unix_socket_mode = 0888: not an octal file mode; give one from 0000 to 0777"},
		{"unknown section", "[databse]\na = b", "t.ini:1: unknown section [databse]; did you mean databases?"},
		{"unknown section unlike any", "[zzzzzzzzzz]", "t.ini:1: unknown section [zzzzzzzzzz]; known are databases, peers, pgbouncer, users"},
		{"key before a section", "a = b", "t.ini:1: a: key before the first section; put a line [pgbouncer] before it"},
		{"open section", "[pgbouncer", "t.ini:1: section is not [name]; close it with ] and put nothing behind it"},
		{"no =", "[databases]\napp host=x", "t.ini:2: [databases] no = after the key \"app\"; write key = value"},
		{"no key", "[databases]\n= x", "t.ini:2: [databases] line does not start with a key (letters, digits and _.-*, or quoted); write key = value"},
		{"open quote in a key", "[databases]\n\"x = 1", "t.ini:2: [databases] key lacks its closing \"; write key = value"},
		{"zero byte", "[pgbouncer]\nuser = a\x00b", "t.ini:2: [pgbouncer] a zero byte; write plain text"},
		{"unknown directive", "%incl x", "t.ini:1: unknown directive \"%incl\"; the only one is %include FILE"},
		{"missing include", "%include /nonexistent.ini", "t.ini:1: open /nonexistent.ini: no such file or directory; %include takes a path relative to the working directory"},
		{"unknown key of a database", "[databases]\na = hots=x", "t.ini:2: [databases] a: unknown key hots; did you mean host?"},
		{"bad key of a database", "[databases]\na = port=0", "t.ini:2: [databases] a = port=0: out of range; give a number from 1 to 65535"},
		{"empty quoted value", "[databases]\na = host=''", "t.ini:2: [databases] a: value of host is empty; give a value or leave the key out"},
		{"open quote", "[databases]\na = host='x", "t.ini:2: [databases] a: value of host lacks its closing '; close it; within it, '' is one quote"},
		{"glued quote", "[databases]\na = host='x'y", "t.ini:2: [databases] a: no blank after the quoted value of host; part the pairs by blanks; within quotes, '' is one quote"},
		{"no pair", "[databases]\na = host", "t.ini:2: [databases] a: connection string is not key=value pairs parted by blanks; quote values that hold blanks: key='a b'"},
		{"empty host in a list", "[databases]\na = host=x,,y", "t.ini:2: [databases] a = host=x,,y: empty name in the list of hosts; part hosts by single commas"},
		{"the console's name", "[databases]\npgbouncer = host=x", "t.ini:2: [databases] pgbouncer: the name is the console's; choose another name for the entry"},
		{"key of another section", "[users]\njoe = host=x", "t.ini:2: [users] joe: unknown key host; known are client_idle_timeout, idle_transaction_timeout, max_user_client_connections, max_user_connections, pool_mode, pool_size, query_timeout, query_wait_timeout, reserve_pool_size, transaction_timeout"},
		{"no peer id", "[peers]\n0 = host=x", "t.ini:2: [peers] 0: not a peer id; give a number from 1 to 16383"},
		{"peer without host", "[peers]\n1 = port=1", "t.ini:2: [peers] 1: no host; add host=NAME"},
		{"hba without a file", "[pgbouncer]\nauth_type = hba", "t.ini:2: [pgbouncer] auth_type: hba without a file; set auth_hba_file"},
		{"TLS without a key", "[pgbouncer]\nclient_tls_sslmode = allow", "t.ini:2: [pgbouncer] client_tls_sslmode: TLS with clients needs a key and a certificate; set client_tls_key_file and client_tls_cert_file"},
		{"nothing to listen on", "[pgbouncer]\nunix_socket_dir =", "t.ini: [pgbouncer] listen_addr: nothing to listen on; set listen_addr or unix_socket_dir"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Parse("t.ini", c.text)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}

	t.Run("all at once", func(t *testing.T) {
		_, _, err := Parse("t.ini", "[pgbouncer]\nx = 1\nlisten_port = y\n[what]\n[databases]\na = b\n")
		var lines []string
		for line := range strings.Lines(err.Error()) {
			at, _, _ := strings.Cut(line, ": ")
			lines = append(lines, at)
		}
		if got := strings.Join(lines, " "); got != "t.ini:2 t.ini:3 t.ini:4 t.ini:6" {
			t.Errorf("errors at %s", got)
		}
	})
}

func TestMissingFileIsOneClearError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.ini")
	_, _, err := Load(path)
	want := path + ": open " + path + ": no such file or directory; give the path of a readable file"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	var e *Error
	if !errors.As(err, &e) || e.File != path {
		t.Errorf("not an *Error about the file: %#v", err)
	}
}

func TestSecretsStayOutOfMessages(t *testing.T) {
	const secret = "geheim"
	for _, text := range []string{
		"[databases]\na = password=" + secret + " password=" + secret,
		"[databases]\na = passwrd=" + secret,
		"[databases]\na = password='" + secret,
		"[databases]\na = password='" + secret + "'" + secret,
		"[databases]\na = password=x " + secret,
		"[databases]\na = password=" + secret + " host=h1,,h2",
		"[databases]\na password=" + secret,
		"[databases]\n'a password=" + secret,
		"[databses]\na = password=" + secret,
		"a = password=" + secret,
		"[pgbouncer]\nldap_password = " + secret,
		"[pgbouncer]\nauth_ldap_options = ldapbindpasswd=" + secret,
		"[databases]\na = password=" + secret + strings.Repeat(secret, pgwire.MaxSecretSize),
		"[databases]\na = password=" + secret,
	} {
		c, warnings, err := Parse("t.ini", text)
		said := fmt.Sprintf("%v %v %v %+v %#v", err, warnings, c.Rows(), c.Databases["a"], c.Databases["a"])
		if strings.Contains(said, secret) {
			t.Errorf("%q is told:\n%s", shown(text), shown(said))
		}
	}
}

func TestWarnsOfRepetitionAndOldNames(t *testing.T) {
	c, w := parse(t, "[pgbouncer]\nconffile = a\nconffile = b\nauth_type = crypt\n[databases]\na =\na = \n")
	var said []string
	for _, x := range w {
		said = append(said, x.String())
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{
		"t.ini:3: [pgbouncer] conffile: set before at t.ini:2; this line counts",
		"t.ini:4: [pgbouncer] auth_type: crypt is spoken by no client since PostgreSQL 8.4 and means md5",
		"t.ini:7: [databases] a: stands at t.ini:6 too; this line counts",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in\n%s", want, all)
		}
	}
	if c.ConfFile != "b" || c.AuthType != AuthMD5 {
		t.Errorf("conffile %q, auth_type %s", c.ConfFile, c.AuthType)
	}
}

// files writes NAME, TEXT pairs into a folder and makes it the working directory.
func files(t *testing.T, pairs ...string) {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	write(t, pairs...)
}

func write(t *testing.T, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if err := os.WriteFile(pairs[i], []byte(pairs[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIncludeReadsInPlace(t *testing.T) {
	files(t,
		"main.ini", "[databases]\n%include dbs.ini\nlisten_port = 7000\n",
		"dbs.ini", "a = host=x\n[pgbouncer]\nverbose = 2\n")
	c, _, err := Load("main.ini")
	if err != nil || c.Databases["a"] == nil || c.Verbose != 2 || c.ListenPort != 7000 {
		t.Errorf("databases %v verbose %d port %d: %v", c.Databases, c.Verbose, c.ListenPort, err)
	}

	t.Run("errors name the included file", func(t *testing.T) {
		files(t, "main.ini", "%include sub.ini\n", "sub.ini", "\n\n[pgbouncer]\nx = 1\n")
		if _, _, err := Load("main.ini"); err == nil || !strings.HasPrefix(err.Error(), "sub.ini:4: ") {
			t.Error(err)
		}
	})
	t.Run("a file that includes itself", func(t *testing.T) {
		files(t, "main.ini", "%include main.ini\n")
		if _, _, err := Load("main.ini"); err == nil || err.Error() != "main.ini:1: %include nested deeper than 10; look for a file that includes itself" {
			t.Error(err)
		}
	})
	t.Run("ten levels", func(t *testing.T) {
		pairs := []string{"11.ini", "[pgbouncer]\nverbose = 3\n"}
		for i := 1; i <= 10; i++ {
			pairs = append(pairs, fmt.Sprintf("%d.ini", i), fmt.Sprintf("%%include %d.ini\n", i+1))
		}
		files(t, pairs...)
		if c, _, err := Load("1.ini"); err != nil || c.Verbose != 3 {
			t.Error(err)
		}
	})
}

func TestReload(t *testing.T) {
	const first = "[pgbouncer]\nlisten_port = 7000\nverbose = 1\nserver_lifetime = 5\n[databases]\na = host=x user=u\nb = host=x\n[users]\nu = pool_size=1\n"
	setup := func(t *testing.T, second string) (was, is *Config, w []Warning, err error) {
		files(t, "p.ini", first)
		was, _, err = Load("p.ini")
		if err != nil {
			t.Fatal(err)
		}
		write(t, "p.ini", second)
		is, w, err = was.Reload()
		return was, is, w, err
	}

	t.Run("takes what the file says now", func(t *testing.T) {
		_, c, _, err := setup(t, "[pgbouncer]\nlisten_port = 7000\nverbose = 2\n[databases]\nb = host=y\nc = host=z\n")
		if err != nil || c.Verbose != 2 || c.ServerLifetime != time.Hour || len(c.Databases) != 2 || c.Databases["b"].Host != "y" || len(c.Users) != 0 {
			t.Errorf("%v %+v", err, c)
		}
	})
	t.Run("keeps what needs a restart", func(t *testing.T) {
		_, c, w, err := setup(t, "[pgbouncer]\nlisten_port = 7001\n")
		if err != nil || c.ListenPort != 7000 {
			t.Errorf("%v, port %d", err, c.ListenPort)
		}
		found := false
		for _, x := range w {
			found = found || x.String() == `p.ini:2: [pgbouncer] listen_port: 7001 needs a restart to become effective; it stays "7000"`
		}
		if !found {
			t.Errorf("warnings: %v", w)
		}
	})
	t.Run("keeps the forced user", func(t *testing.T) {
		_, c, _, err := setup(t, "[databases]\na = host=y\n")
		if err != nil || c.Databases["a"].User != "u" || c.Databases["a"].Host != "y" {
			t.Errorf("%v %+v", err, c.Databases["a"])
		}
	})
	t.Run("broken file changes only what it says", func(t *testing.T) {
		was, c, _, err := setup(t, "[pgbouncer]\nverbose = 3\nserver_lifetime = x\n[databases]\nb = host=new\nc = hots=z\n")
		if err == nil || c.Verbose != 3 || c.ServerLifetime != 5*time.Second || c.ListenPort != 7000 {
			t.Errorf("%v verbose %d lifetime %s", err, c.Verbose, c.ServerLifetime)
		}
		if len(c.Databases) != 2 || c.Databases["b"].Host != "new" || c.Databases["a"] != was.Databases["a"] || c.Users["u"] == nil {
			t.Errorf("databases %v", c.Databases)
		}
	})
	t.Run("missing file changes nothing", func(t *testing.T) {
		files(t, "p.ini", first)
		was, _, err := Load("p.ini")
		if err != nil {
			t.Fatal(err)
		}
		os.Remove("p.ini")
		c, _, err := was.Reload()
		if err == nil || fmt.Sprint(c.Rows()) != fmt.Sprint(was.Rows()) || len(c.Databases) != 2 {
			t.Errorf("%v", err)
		}
	})
	t.Run("SET conffile leads to another file", func(t *testing.T) {
		files(t, "p.ini", first, "q.ini", "[pgbouncer]\nverbose = 7\n")
		was, _, err := Load("p.ini")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := was.Set("conffile", "q.ini"); err != nil {
			t.Fatal(err)
		}
		c, _, err := was.Reload()
		if err != nil || c.Verbose != 7 || c.Path != "q.ini" {
			t.Errorf("%v verbose %d path %s", err, c.Verbose, c.Path)
		}
	})
}

func TestSet(t *testing.T) {
	c := Default()
	if _, err := c.Set("query_timeout", "1.5"); err != nil || c.QueryTimeout != 1500*time.Millisecond {
		t.Errorf("%v %s", err, c.QueryTimeout)
	}
	for _, x := range []struct{ name, value, want string }{
		{"query_timout", "1", "unknown setting query_timout; did you mean query_timeout?"},
		{"listen_port", "1", "setting listen_port cannot be changed while running; change the file and restart"},
		{"query_timeout", "x", "query_timeout = x: not a time; give seconds without a unit, fractions allowed: 0.5"},
		{"auth_type", "hba", "auth_type: hba without a file; set auth_hba_file"},
		{"server_reset_query", "a\x00b", "server_reset_query: a zero byte; write plain text"},
	} {
		before := fmt.Sprint(c.Rows())
		if _, err := c.Set(x.name, x.value); err == nil || err.Error() != x.want {
			t.Errorf("SET %s = %s: %v", x.name, x.value, err)
		}
		if fmt.Sprint(c.Rows()) != before {
			t.Errorf("SET %s = %s failed, but changed something", x.name, x.value)
		}
	}
}

func TestRowsShowDefaultsInTheirOwnSpelling(t *testing.T) {
	rows := Default().Rows()
	for i, r := range rows {
		if r.Value != r.Default {
			t.Errorf("%s: %q, but default %q", r.Key, r.Value, r.Default)
		}
		if i > 0 && rows[i-1].Key >= r.Key {
			t.Errorf("%s comes after %s", r.Key, rows[i-1].Key)
		}
	}
}

func TestTablesHaveNoStrayNames(t *testing.T) {
	for _, name := range fixed {
		if _, ok := table[name]; !ok {
			t.Errorf("unknown setting %s", name)
		}
	}
	if len(table) != len(rows) {
		t.Errorf("%d rows, but %d names", len(rows), len(table))
	}
	at := map[any]string{}
	var s Settings
	for _, r := range rows {
		if other := at[r.at(&s)]; other != "" {
			t.Errorf("%s and %s are one field", r.Name, other)
		}
		at[r.at(&s)] = r.Name
		if r.Doc == "" || r.Group == "" {
			t.Errorf("%s lacks its text", r.Name)
		}
	}
}

func TestSampleIsTheDefault(t *testing.T) {
	var b strings.Builder
	if err := WriteSample(&b); err != nil {
		t.Fatal(err)
	}
	asIs, w := parse(t, b.String())
	if len(w) != 0 || len(asIs.Databases) != 0 {
		t.Errorf("the sample as it stands: warnings %v", w)
	}
	// Uncomment everything: the settings say what they are anyway.
	var all strings.Builder
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, ";") && !strings.HasPrefix(line, ";;") {
			line = line[1:]
		}
		all.WriteString(line)
	}
	c, _, err := Parse("t.ini", strings.ReplaceAll(all.String(), "conffile =", "conffile = t.ini"))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(c.Rows()) != fmt.Sprint(asIs.Rows()) {
		t.Errorf("uncommented sample differs from the default:\n%v\n%v", c.Rows(), asIs.Rows())
	}
	if c.Databases["app"].PoolSize.Value != 10 || c.Databases[AutoName] == nil || c.Users["report"] == nil || c.Peers[1] == nil {
		t.Error("example entries are not read")
	}
	for _, s := range AllSettings() {
		if !strings.Contains(b.String(), "\n;"+s.Name+" =") {
			t.Errorf("%s is not in the sample", s.Name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[pgbouncer]\nlisten_port = 1\n[databases]\n* = host=a,b password='x''y' pool_size=1\n[users]\na = pool_mode=session\n[peers]\n1 = host=x\n")
	f.Add("[databases]\n\"a\"\"b\" = port = 5 \n'x' =\r\n; c\n# c\n%x\n[a\n[b]c\n=")
	f.Add("[pgbouncer]\nquery_timeout = 1e300\nserver_lifetime = 0x1p-2\nunix_socket_mode=-1\nverbose=99999999999999999999\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "%include") {
			return // would read files
		}
		c, _, err := Parse("f.ini", text)
		if err != nil {
			n := strings.Count(err.Error(), "\n") + 1
			if n != len(c.errs) {
				t.Fatalf("%d errors on %d lines:\n%v", len(c.errs), n, err)
			}
			return
		}
		// What SHOW CONFIG tells can be read back.
		for _, r := range c.Rows() {
			s, _ := lookup(r.Key)
			if s.secret {
				continue
			}
			again := Default()
			if p := assign(s.at(&again.Settings), r.Value, s.bounds); p != nil {
				t.Fatalf("%s shows %q, which is refused: %s", r.Key, r.Value, p.what)
			}
			if got := show(s.at(&again.Settings)); got != r.Value {
				t.Fatalf("%s shows %q, then %q", r.Key, r.Value, got)
			}
		}
	})
}
