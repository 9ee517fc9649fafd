package pooler

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	osuser "os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/ldap/ldaptest"
	"goworkers/pgwire"
)

// quoted is a value as connection strings have it.
func quoted(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// authLine is a line of auth_file.
func authLine(name, secret string) string {
	q := strings.NewReplacer(`"`, `""`)
	return `"` + q.Replace(name) + `" "` + q.Replace(secret) + "\"\n"
}

func TestRulesSayWhoLogsInHow(t *testing.T) {
	p := newPapers(t)
	db := pgtest.DB(t)
	me, err := osuser.Current()
	if err != nil {
		t.Fatal(err)
	}
	bothThreads(t, func(t *testing.T, threads string) {
		dir := t.TempDir()
		hba, ident := filepath.Join(dir, "hba.conf"), filepath.Join(dir, "ident.conf")
		write := func(path, text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		rules := `
local   pgbouncer  boss       trust
host    all        banned     127.0.0.1/32 reject
hostssl all        carol      all          cert map=people
hostnossl all      nossl      127.0.0.0 255.0.0.0 trust
hostssl all        ssl        127.0.0.1/32 trust
nonsense
local   all        alice,` + me.Username + ` peer map=system
local   all        plain      peer
host    other      plain      all          trust
host    d          plain      127.0.0.1/32 password
host    d          "md5"      127.0.0.1/32 md5
host    d          scram      127.0.0.1/32 scram-sha-256
host    sameuser   friend     127.0.0.1/32 trust
host    all        far        192.0.2.0/24 trust
host    replication all       all          trust
`
		write(hba, rules)
		write(ident, "people \"Bob of Sales\" carol\npeople alice all\nsystem "+me.Username+" alice\n")
		c := config{
			databases: entry("d", db, "user=postgres") + "\n" + entry("other", db, "user=postgres") + "\n" + entry("friend", db, "user=postgres"),
			authFile: authLine("plain", "geheim") + authLine("md5", pgwire.MD5Secret("md5", "geheim")) + authLine("scram", scramSecret(t, "geheim")) +
				authLine("boss", "x") + authLine("banned", "geheim") + authLine("carol", "") + authLine("nossl", "") + authLine("ssl", "") +
				authLine("alice", "") + authLine("friend", "") + authLine("far", "") + authLine(me.Username, ""),
			settings: threads + p.settings("prefer", "auth_type = hba", "auth_hba_file = "+hba, "auth_ident_file = "+ident, "admin_users = boss"),
		}
		r := start(t, c)
		r.waitLog(hba + `:7: unknown kind of connection "nonsense"`)
		unix := "host=" + r.dir
		const secure, password = "sslmode=require ", "password=geheim"
		for _, in := range [][]string{
			{"d", "user=plain", password}, {"d", "user=md5", password}, {"d", "user=scram", password}, {"other", "user=plain"},
			{"d", "user=nossl"}, {"d", secure, "user=ssl"}, {"friend", "user=friend"}, {"d", unix, "user=alice"},
			{"d", secure, "user=carol", with(p.bob)}, {"d", secure, "user=carol", with(p.alice)}, {"d", secure, "user=plain", password},
		} {
			r.enters(t, "postgres", in[0], in[1:]...)
		}
		const rejected, unmatched = "login rejected", "no authentication method is found"
		for _, out := range [][]string{
			{rejected, "d", "user=banned", password}, {unmatched, "d", secure, "user=nossl"}, {unmatched, "d", "user=ssl"},
			{unmatched, "d", "user=friend"}, {unmatched, "d", "user=far"}, {unmatched, "d", "user=nobody"}, {unmatched, "friend", "user=md5", password},
			{unmatched, "d", "user=carol"}, {unmatched, "pgbouncer", "user=boss"}, {unmatched, "d", unix, "user=scram", password},
			{unmatched, "nowhere", "user=plain", password},
			{"password authentication failed", "d", "user=plain password=wrong"}, {"password authentication failed", "d", "user=md5 password=wrong"},
			{"SASL authentication failed", "d", "user=scram password=wrong"},
			{`"peer" authentication failed`, "d", unix, "user=plain"}, {`"peer" authentication failed`, "d", unix, "user=" + me.Username},
			{"TLS certificate name mismatch", "d", secure, "user=carol"},
		} {
			r.bounces(t, out[0], out[1], out[2:]...)
		}
		r.waitLog("ident map: system does not have a match")
		if _, err := r.tryConsole(unix+" user=boss", "show version"); err != nil {
			t.Errorf("console over the unix socket: %v", err)
		}
		reload := func(wantErr bool) {
			t.Helper()
			if _, err := r.tryConsole(unix+" user=boss", "reload"); (err != nil) != wantErr {
				t.Errorf("reload: %v", err)
			}
		}
		// RELOAD reads the files again; without them the rules stay.
		write(hba, "host d banned 127.0.0.1/32 trust\nlocal pgbouncer boss trust\nlocal all plain peer map=nowhere\n")
		reload(false)
		r.enters(t, "postgres", "d", "user=banned")
		r.bounces(t, unmatched, "d", "user=plain", password)
		r.bounces(t, `"peer" authentication failed`, "d", unix, "user=plain")
		r.waitLog("ident map nowhere cannot be matched")
		if err := os.Remove(hba); err != nil {
			t.Fatal(err)
		}
		reload(true)
		r.enters(t, "postgres", "d", "user=banned")
		r.bounces(t, unmatched, "d", "user=plain", password)
	})
}

func TestAnyNeedsAForcedUser(t *testing.T) {
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "user=postgres") + "\n" + entry("open", db), settings: "auth_type = any\nadmin_users = boss"})
	r.enters(t, "postgres", "d", "user=whoever")
	r.bounces(t, "bouncer config error", "open", "user=whoever")
	r.waitLog(`auth_type=any needs a forced user: set user= for database "open"`)
	r.bounces(t, "no such database: nowhere", "nowhere", "user=whoever")
	r.bounces(t, "not allowed", "pgbouncer", "user=whoever")
	if _, err := r.tryConsole("user=boss", "show version"); err != nil {
		t.Error(err)
	}
}

// Passwords as people and programs make them, with each method and form of a secret.
func TestPasswordsOfAllKinds(t *testing.T) {
	passwords := map[string]string{
		"quotes": `o'" \ x"`, "utf8": "pässwörd £", "prepared": "I\u00ADX \u2168 \u00a0y", "unprepared": "\u0627\u0031 \x7f",
		"long": strings.Repeat("a long one, ", 5000), "semicolon": "; no comment", "like md5": "md5" + strings.Repeat("0", 31),
	}
	db := pgtest.DB(t)
	c := config{databases: entry("d", db, "user=postgres"), authFile: authLine("postgres", "x")}
	for name, password := range passwords {
		c.authFile += authLine(name+" plain", password) + authLine(name+" md5", pgwire.MD5Secret(name+" md5", password)) +
			authLine(name+" scram", scramSecret(t, password))
	}
	for _, method := range []string{"plain", "md5", "scram-sha-256"} {
		c.settings = "auth_type = " + method
		r := start(t, c)
		for name, password := range passwords {
			for _, form := range []string{"plain", "md5", "scram"} {
				user := "user=" + quoted(name+" "+form)
				if method == "scram-sha-256" && form == "md5" {
					r.bounces(t, "SASL authentication failed", "d", user, "password="+quoted(password))
					continue
				}
				// The driver prepares passwords by other rules than libpq and the server (RFC 8265
				// in place of SASLprep), so that this one is another to it.
				if scram := method == "scram-sha-256" || method == "md5" && form == "scram"; !scram || name != "prepared" {
					r.enters(t, "postgres", "d", user, "password="+quoted(password))
				}
				r.bounces(t, map[bool]string{true: "SASL", false: "password"}[method == "scram-sha-256" || method == "md5" && form == "scram"]+
					" authentication failed", "d", user, "password="+quoted(password+"x"))
				if name == "long" {
					continue // too long for a command line
				}
				cmd := osexec.Command("psql", "-XAt", "-c", "select 1", fmt.Sprintf("host=127.0.0.1 port=%d dbname=d %s sslmode=disable", r.port, user))
				cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
				if out, err := cmd.CombinedOutput(); err != nil || string(out) != "1\n" {
					t.Errorf("%s: psql as %s: %s", method, user, out)
				}
			}
		}
		// A password longer than any secret is none.
		r.bounces(t, map[bool]string{true: "SASL authentication failed", false: "..."}[method == "scram-sha-256"], "d", "user='utf8 plain'",
			"password="+strings.Repeat("x", pgwire.MaxSecretSize+4096))
	}
}

// challenge is what a stranger sees of a login: the kind of the request, and salt and
// iterations of SCRAM.
func (r *rig) challenge(t *testing.T, user string) string {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	conn.Write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: user}, {Name: "database", Value: "d"}}))
	code, _, err := pgwire.ParseAuthentication(skipTo(t, conn, pgwire.MsgAuthentication))
	if err != nil {
		t.Fatal(err)
	}
	if code != pgwire.AuthSASL {
		return code.String()
	}
	conn.Write(pgwire.AppendSASLInitialResponse(nil, pgwire.MechanismSCRAM, []byte("n,,n=,r=0123456789")))
	_, data, err := pgwire.ParseAuthentication(skipTo(t, conn, pgwire.MsgAuthentication))
	if err != nil {
		t.Fatal(err)
	}
	_, salt, _ := strings.Cut(string(data), ",s=")
	return "SCRAM " + salt
}

// Who asks for users that do not exist meets the same as for those that do.
func TestUnknownUsersAreAskedAsKnownOnesAre(t *testing.T) {
	db := pgtest.DB(t)
	scram, md5 := authLine("known", scramSecret(t, "geheim")), authLine("known", pgwire.MD5Secret("known", "geheim"))
	for _, tc := range []struct{ method, secret, want string }{
		{"plain", md5, "AuthenticationCleartextPassword"}, {"md5", md5, "AuthenticationMD5Password"}, {"md5", scram, "SCRAM"}, {"scram-sha-256", scram, "SCRAM"},
		{"scram-sha-256", authLine("known", "geheim"), "SCRAM"},
	} {
		r := start(t, config{databases: entry("d", db), authFile: tc.secret + authLine("empty", ""), settings: "auth_type = " + tc.method})
		known := r.challenge(t, "known")
		if !strings.HasPrefix(known, tc.want) {
			t.Errorf("%v: %s", tc, known)
		}
		seen := map[string]bool{known: true}
		for _, user := range []string{"nobody", "somebody", "empty"} {
			got := r.challenge(t, user)
			if tc.want != "SCRAM" {
				if got != known {
					t.Errorf("%v: %s is asked by %s", tc, user, got)
				}
				continue
			}
			if again := r.challenge(t, user); again != got {
				t.Errorf("%v: %s has salt %s, then %s", tc, user, got, again)
			}
			_, iterations, _ := strings.Cut(known, ",i=")
			if len(got) != len(known) || !strings.HasSuffix(got, ",i="+iterations) {
				t.Errorf("%v: %s has %s, the known user %s", tc, user, got, known)
			}
			if seen[got] {
				t.Errorf("%v: %s shares its salt", tc, user)
			}
			seen[got] = true
		}
	}
}

func TestPAMIsRefusedWithWhatToUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pooler.ini")
	if err := os.WriteFile(path, []byte("[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir =\nauth_type = pam\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := ini.Load(path)
	if err == nil {
		var p *Pooler
		if p, err = New(cfg, Options{Log: io.Discard}); err == nil {
			p.Close()
			t.Fatal("it starts")
		}
	}
	for _, want := range []string{path, "auth_type = pam", "ldap"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

const directory = `dn: dc=example,dc=net
objectClass: organization
objectClass: dcObject
o: example
dc: example

dn: uid=alice,dc=example,dc=net
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
userPassword: wonder'land

dn: uid=carol,dc=example,dc=net
objectClass: inetOrgPerson
uid: carol
cn: Carol
sn: C
userPassword: choir

dn: uid=stranger,dc=example,dc=net
objectClass: inetOrgPerson
uid: stranger
cn: Stranger
sn: S
userPassword: hello
`

func TestDirectoryVerifiesPasswords(t *testing.T) {
	slapd := ldaptest.Start(t, false, directory, "to attrs=userPassword by anonymous auth by * none", "to * by * read")
	server := guarded(t, asker)
	options := fmt.Sprintf(`ldapurl="ldap://127.0.0.1:%d/%s?uid?sub"`, slapd.Port, ldaptest.Suffix)
	hba := filepath.Join(t.TempDir(), "hba.conf")
	rule := fmt.Sprintf(`host all all all ldap ldapserver=127.0.0.1 ldapport=%d ldapprefix="uid=" ldapsuffix=",%s"`, slapd.Port, ldaptest.Suffix)
	if err := os.WriteFile(hba, []byte(rule+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothThreads(t, func(t *testing.T, threads string) {
		for _, settings := range []string{"auth_type = ldap\nauth_ldap_options = " + options, "auth_type = hba\nauth_hba_file = " + hba} {
			r := start(t, config{
				databases: leading("d", server) + leading("forced", server, "user=postgres"),
				authFile:  authLine("carol", "sing") + authLine("postgres", "x"),
				settings:  threads + settings + "\nadmin_users = stranger\nauth_user = asker\nclient_login_timeout = 5",
			})
			// The directory's password opens the server too, unless auth_file has another.
			r.enters(t, "alice", "d", `user=alice password='wonder\'land'`)
			r.enters(t, "carol", "d", "user=carol password=choir")
			r.enters(t, "postgres", "forced", "user=stranger password=hello")
			const refused = "LDAP authentication failed"
			r.bounces(t, refused, "d", "user=alice password=wrong")
			r.bounces(t, refused, "d", "user=carol password=sing")
			r.bounces(t, refused, "d", "user=nobody password=x")
			r.bounces(t, refused, "d", "user='*' password=hello")
			r.bounces(t, "empty password returned by client", "d", "user=alice password=''")
			if _, err := r.tryConsole("user=stranger password=hello", "show version"); err != nil {
				t.Error(err)
			}
			// A directory that does not answer holds nobody else up.
			slapd.Freeze(t)
			slow := make(chan error, 3)
			for range cap(slow) {
				go func() {
					_, err := r.try("d", "user=carol password=choir")
					slow <- err
				}()
			}
			if err := r.dialAndQuit(); err != nil {
				t.Error(err)
			}
			slapd.Thaw(t)
			for range cap(slow) {
				if err := <-slow; err != nil {
					t.Error(err)
				}
			}
			slapd.Kill()
			r.bounces(t, refused, "d", "user=carol password=choir")
			r.waitLog("LDAP: LDAP server 127.0.0.1:")
			slapd.Run(t)
			if strings.Contains(r.log.String(), "choir") {
				t.Error("the log tells a password")
			}
		}
	})
}

// dialAndQuit tells whether the pooler answers newcomers.
func (r *rig) dialAndQuit() error {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	conn.Write(pgwire.AppendSSLRequest(nil))
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// The keys learned from a client's SCRAM login open a server that has the same secret.
func TestSCRAMPassesThrough(t *testing.T) {
	server := guarded(t, "create role dora login password 'geheim'; create role erik login password 'geheim'; create role fred login password e'I\\u00ADX \\u2168'")
	admin := &pgtest.Database{DSN: server.DSN}
	secret := func(name string) string {
		return pgtest.Value[string](t, admin, "select rolpassword from pg_catalog.pg_authid where rolname = $1", name)
	}
	bothThreads(t, func(t *testing.T, threads string) {
		admin.Exec(t, "alter role dora password 'geheim'")
		hba := filepath.Join(t.TempDir(), "hba.conf")
		if err := os.WriteFile(hba, []byte("local all all trust\nhost all all all scram-sha-256\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := config{
			databases: leading("d", server, "pool_size=5") + leading("d2", server) + leading("forced", server, "user=dora") + leading("fred", server),
			authFile:  authLine("postgres", "x") + authLine("dora", secret("dora")) + authLine("erik", scramSecret(t, "geheim")) + authLine("fred", "IX IX"),
			settings:  threads + "auth_type = hba\nauth_hba_file = " + hba,
		}
		r := start(t, c)
		const login = "user=dora password=geheim"
		unix := "host=" + r.dir + " user=dora"
		const wrongType = "server login failed: wrong password type"
		r.bounces(t, wrongType, "d2", unix) // nothing is known yet
		r.enters(t, "dora", "d", login)
		// What is known of the user holds for all databases, whoever asks for a server.
		r.waitFor("server_login_retry is over", func() bool { _, err := r.try("d2", unix); return err == nil })
		held := r.connect("d", login)
		exec(t, held, "begin")
		r.enters(t, "dora", "d", unix) // a new server for one who has shown no password
		exec(t, held, "commit")
		// Prepared as the server has it.
		r.enters(t, "fred", "fred", "host="+r.dir+" user=fred")
		// Same password, another salt: not the same secret.
		r.bounces(t, `password authentication failed for user "erik"`, "d", "user=erik password=geheim")
		// A forced user's secret is nobody's proof.
		r.bounces(t, wrongType, "forced", login)
		// A changed secret is as good as the first.
		admin.Exec(t, "alter role dora password 'neu'")
		c.authFile = strings.Replace(c.authFile, c.authFile[strings.Index(c.authFile, `"dora"`):strings.Index(c.authFile, `"erik"`)], authLine("dora", secret("dora")), 1)
		r.write(c)
		if _, err := r.tryConsole("host="+r.dir, "reload"); err != nil {
			t.Fatal(err)
		}
		exec(t, held, "begin")
		r.bounces(t, "SASL authentication failed", "d", login)
		r.enters(t, "dora", "d", "user=dora password=neu")
		if _, err := r.tryConsole("host="+r.dir, "reconnect d"); err != nil {
			t.Fatal(err)
		}
		r.enters(t, "dora", "d", unix)
		exec(t, held, "commit")
	})
}

// A server that asks for the system user over its unix socket.
func TestPeerOpensServers(t *testing.T) {
	me, err := osuser.Current()
	if err != nil {
		t.Fatal(err)
	}
	server := guarded(t, "create role \""+me.Username+"\" login", "local all all peer")
	dir := pgtest.Value[string](t, &pgtest.Database{DSN: server.DSN}, "show unix_socket_directories")
	r := start(t, config{databases: fmt.Sprintf("d = host=%s port=%d dbname=postgres user=%s", dir, server.Port, me.Username)})
	r.enters(t, me.Username, "d")
}

// Nothing secret is said anywhere, however much is logged.
func TestLoginsTellNoSecrets(t *testing.T) {
	p := newPapers(t)
	server := guarded(t, asker)
	admin := &pgtest.Database{DSN: server.DSN}
	stored := pgtest.Value[string](t, admin, "select rolpassword from pg_catalog.pg_authid where rolname = 'alice'")
	md5 := pgwire.MD5Secret("mary", "lambkin")
	key, err := os.ReadFile(p.server.Key)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.FieldsFunc(stored, func(r rune) bool { return r == '$' || r == ':' })
	hidden := append([]string{"wonder'land", "mistaken", "askpass", "lambkin", md5[3:], "forcedpw", hex.EncodeToString([]byte("wonder")),
		strings.Split(string(key), "\n")[1]}, parts[2:]...)
	admin.Exec(t, "alter role asker password 'askpass'")
	for _, method := range []string{"plain", "md5", "scram-sha-256"} {
		r := start(t, config{
			databases: leading("d", server, "auth_user=asker") + leading("bad", server, "user=carol password=forcedpw"),
			authFile:  authLine("postgres", "x") + authLine("asker", "askpass") + authLine("mary", md5),
			settings:  p.settings("prefer", "auth_type = "+method, "verbose = 3", "auth_query = select usename, passwd from public.secret($1)"),
		})
		if method != "plain" && method != "md5" {
			r.enters(t, "alice", "d", `user=alice password='wonder\'land'`)
		} else {
			_, _ = r.try("d", `user=alice password='wonder\'land'`)
		}
		r.bounces(t, "...", "d", "user=alice password=mistaken")
		r.bounces(t, "...", "d", "user=mary password=lambkin")
		r.bounces(t, "...", "bad", "user=mary password=lambkin")
		r.bounces(t, "...", "d", "user=nobody password=mistaken")
		// A password where something else is due.
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		conn.Write(pgwire.AppendPassword(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "mary"}, {Name: "database", Value: "d"}}), "lambkin"))
		answer, _ := io.ReadAll(conn)
		conn.Close()
		var said strings.Builder
		said.Write(answer)
		for _, show := range []string{"clients", "servers", "pools", "users", "databases", "config", "lists"} {
			for _, row := range r.consoleAs(t, "user=postgres password=x", "show "+show) {
				fmt.Fprintln(&said, row)
			}
		}
		r.waitLog("closing because: client close request")
		said.WriteString(r.log.String())
		for _, secret := range hidden {
			if bytes.Contains([]byte(said.String()), []byte(secret)) {
				t.Errorf("%s: %q is told", method, secret)
			}
		}
	}
}
