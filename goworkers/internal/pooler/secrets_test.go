package pooler

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/internal/pooler/ldap/ldaptest"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// output is all that a pooler tells anybody: its log, each SHOW, the metrics.
func (r *rig) output() string {
	r.t.Helper()
	ctx := background(r.t)
	conn, err := pgconn.Connect(ctx, r.dsn("pgbouncer", "user=pgbouncer", "host="+r.dir))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(ctx)
	var all strings.Builder
	for what := range shows {
		if what == "fds" {
			continue // hands connections over, secrets included
		}
		res, err := conn.Exec(ctx, "show "+what).ReadAll()
		if err != nil {
			r.t.Fatalf("show %s: %v", what, err)
		}
		for _, row := range res[0].Rows {
			for _, v := range row {
				all.Write(v)
				all.WriteByte('\n')
			}
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Get("http://" + r.p.metrics.server.Addr + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer reply.Body.Close()
	if _, err := io.Copy(&all, reply.Body); err != nil {
		r.t.Fatal(err)
	}
	r.waitLog("db=pgbouncer user=pgbouncer")
	return all.String() + r.log.String()
}

// tries logs in and runs a query, if it can.
func (r *rig) tries(db, user, password string) error {
	conn, err := pgconn.Connect(background(r.t), r.dsn(db, "user="+user, "password="+password))
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(background(r.t), "select 1").ReadAll()
	return err
}

// keys are the secret words of the cancel keys of all clients and servers.
func (r *rig) keys() (list []string) {
	word := func(key []byte) {
		if len(key) < 8 {
			return
		}
		n := binary.BigEndian.Uint32(key[4:])
		list = append(list, fmt.Sprintf("%08x", n), hex.EncodeToString(key))
		if n > 1<<24 { // not by chance
			list = append(list, fmt.Sprint(n))
		}
	}
	done := make(chan struct{})
	r.p.main.loop.Post(func() {
		r.p.alone(func() {
			r.p.eachClient(func(c *client) { word(c.key[:]) })
			r.p.eachPool(func(pl *dbPool) {
				pl.EachServer(func(ps *pool.Server) {
					if s, ok := ps.Owner.(*server); ok {
						word(s.key)
					}
				})
			})
		})
		close(done)
	})
	<-done
	return list
}

// Whatever clients and servers prove themselves with, and whatever goes wrong with it,
// no secret comes out again.
func TestNoSecretComesOut(t *testing.T) {
	const adminPassword, wrong, entryPassword, brokenPassword = "aDm1n-sEcReT", "wR0ng-sEcReT", "eNtRy-sEcReT", "bR0ken-sEcReT"
	server := pgtest.Server(t)
	admin, err := pgx.Connect(background(t), server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	run := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(background(t), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	var secrets []string
	password := map[string]string{}
	for _, role := range []string{"md", "scr", "clear", "asked", "watcher"} {
		password[role] = role + "-sEcReT"
		how := "scram-sha-256"
		if role == "md" {
			how = "md5"
		}
		run(fmt.Sprintf("set password_encryption = '%s'; create role %s login superuser password '%s'", how, role, password[role]))
	}
	stored := func(role string) string {
		return value[string](t, admin, "select rolpassword from pg_catalog.pg_authid where rolname = $1", role)
	}
	file := value[string](t, admin, "show hba_file")
	run("copy (values ('host all md 127.0.0.1/32 md5'), ('host all scr,asked 127.0.0.1/32 scram-sha-256'), ('host all clear 127.0.0.1/32 password'), " +
		"('host all postgres,watcher 127.0.0.1/32 trust'), ('local all all trust')) to '" + file + "'; select pg_catalog.pg_reload_conf()")
	for role, p := range password {
		secrets = append(secrets, p, stored(role), pgwire.MD5Secret(role, p))
	}
	secrets = append(secrets, adminPassword, wrong, entryPassword, brokenPassword, ldaptest.AdminPassword)
	// The parts of a SCRAM secret, and what a client proves with it.
	for _, role := range []string{"scr", "asked"} {
		s, err := pgwire.ParseSCRAMSecret(stored(role))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{s.StoredKey, s.ServerKey, s.Salt} {
			secrets = append(secrets, base64.StdEncoding.EncodeToString(part), hex.EncodeToString(part))
		}
	}
	line := func(name, more string) string {
		return fmt.Sprintf("%s = host=127.0.0.1 port=%d dbname=postgres %s\n", name, server.Port, more)
	}
	databases := line("own", "") + line("md", "user=md password="+password["md"]) + line("scr", "user=scr password="+password["scr"]) +
		line("clear", "user=clear password="+password["clear"]) + line("bad", "user=scr password="+entryPassword) +
		line("asking", "auth_user=watcher") + "nowhere = host=127.0.0.1 port=1 user=scr password=" + entryPassword + "\n"
	authFile := fmt.Sprintf("\"postgres\" \"%s\"\n\"md\" \"%s\"\n\"scr\" \"%s\"\n\"clear\" \"%s\"\n\"watcher\" \"\"\n",
		adminPassword, stored("md"), stored("scr"), password["clear"])
	directory := ldaptest.Start(t, false, "dn: "+ldaptest.Suffix+"\nobjectClass: organization\nobjectClass: dcObject\no: example\ndc: example\n\n"+
		"dn: uid=clear,"+ldaptest.Suffix+"\nobjectClass: inetOrgPerson\nuid: clear\ncn: c\nsn: c\nuserPassword: "+password["clear"]+"\n",
		"to * by anonymous auth by * read")
	options := fmt.Sprintf(`ldapserver=127.0.0.1 ldapport=%d ldapbasedn="%s" ldapbinddn="cn=admin,%s" ldapbindpasswd="%s"`,
		directory.Port, ldaptest.Suffix, ldaptest.Suffix, ldaptest.AdminPassword)
	for _, tc := range []struct {
		auth, more string
		in         []string // who gets in to the database own
	}{
		{"trust", "", nil},
		{"plain", "", []string{"clear"}},
		{"md5", "", []string{"md", "scr", "clear", "asked"}},
		{"scram-sha-256", "log_format = json\n", []string{"scr", "clear", "asked"}},
		{"hba", "auth_hba_file = %s\n", []string{"md", "scr", "clear"}},
		{"ldap", "auth_ldap_options = " + options + "\n", []string{"clear"}},
		{"any", "", nil},
	} {
		t.Run(tc.auth, func(t *testing.T) {
			rules := filepath.Join(t.TempDir(), "hba")
			text := "local all all trust\nhost all md 127.0.0.1/32 md5\nhost all scr 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 password\n"
			if err := os.WriteFile(rules, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			more := tc.more
			if strings.Contains(more, "auth_hba_file") {
				more = fmt.Sprintf(more, rules)
			}
			c := config{databases: databases, authFile: authFile,
				settings: "verbose = 3\nserver_login_retry = 0\nquery_wait_timeout = 2\nmetrics_listen = 127.0.0.1:0\nauth_type = " + tc.auth + "\n" + more}
			r := start(t, c)
			for _, user := range tc.in {
				db := "own"
				if user == "asked" {
					db = "asking"
				}
				if err := r.tries(db, user, password[user]); err != nil {
					t.Errorf("%s is not let in to %s: %v", user, db, err)
				}
			}
			for _, db := range []string{"md", "scr", "clear"} {
				r.tries(db, "clear", password["clear"]) // whatever comes of it
			}
			for _, db := range []string{"own", "bad", "asking", "nowhere", "unknown", "pgbouncer"} {
				for _, user := range []string{"md", "scr", "asked", "nobody"} {
					r.tries(db, user, password[user])
					r.tries(db, user, wrong)
				}
			}
			r.tries("pgbouncer", "postgres", adminPassword)
			held, err := pgconn.Connect(background(t), r.dsn("own", "user=clear", "password="+password["clear"]))
			if err == nil {
				defer held.Close(context.Background())
				held.Exec(background(t), "begin").ReadAll()
			}
			// A file whose faults are told, and settings that are changed on the console.
			r.write(config{databases: databases + "broken = host=h password=" + brokenPassword + " no_such_key=1\n" +
				"worse = password='" + brokenPassword + "\n" + "twice = password=" + brokenPassword + " password=" + brokenPassword + "\n",
				authFile: authFile + "\"half\" \"" + brokenPassword + "\nhalf " + brokenPassword + "\n", settings: c.settings})
			r.reread()
			r.write(c)
			r.reread()
			console, err := pgconn.Connect(background(t), r.dsn("pgbouncer", "user=pgbouncer", "host="+r.dir))
			if err != nil {
				t.Fatal(err)
			}
			defer console.Close(context.Background())
			for _, sql := range []string{
				"set auth_ldap_options = 'ldapserver=h ldapbasedn=dc=x ldapbinddn=cn=x ldapbindpasswd=" + brokenPassword + "'",
				"set auth_ldap_options = 'ldapserver=h ldapbindpasswd=" + brokenPassword + " what=ever'",
			} {
				res, err := console.Exec(background(t), sql).ReadAll()
				text := ""
				if e, ok := asPgError(err); ok {
					text = e.Message + e.Detail + e.Hint
				}
				for _, r := range res {
					text += r.CommandTag.String()
				}
				if !strings.HasPrefix(text, "SET ") || strings.Contains(text, brokenPassword) {
					t.Errorf("SET answers %q", text)
				}
			}
			out := r.output()
			for _, s := range append(secrets, r.keys()...) {
				if i := strings.Index(out, s); i >= 0 {
					begin := strings.LastIndexByte(out[:i], '\n') + 1
					end := i + strings.IndexByte(out[i:], '\n')
					t.Errorf("%q comes out: %s", s, out[begin:end])
				}
			}
			for _, sign := range []string{"login attempt", "pooler error", "pooler_max_client_conn", "transaction"} {
				if !strings.Contains(out, sign) {
					t.Errorf("not all was looked at: no %q", sign)
				}
			}
		})
	}
}
