package pooler

import (
	"fmt"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

func scramSecret(t *testing.T, password string) string {
	t.Helper()
	s, err := pgwire.BuildSCRAMSecret(password, nil, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return s.Text()
}

// Every way for a client to prove itself, against every form of a secret.
func TestClientsProveThemselves(t *testing.T) {
	db := pgtest.DB(t)
	secrets := map[string]string{
		"plain": "geheim", "md5": pgwire.MD5Secret("alice", "geheim"), "scram": scramSecret(t, "geheim"),
	}
	for _, method := range []string{"plain", "md5", "scram-sha-256", "trust"} {
		for form, secret := range secrets {
			t.Run(method+" with "+form+" secret", func(t *testing.T) {
				r := start(t, config{
					databases: entry("d", db, "user=postgres"),
					settings:  "auth_type = " + method,
					authFile:  fmt.Sprintf("\"alice\" \"%s\"\n\"postgres\" \"x\"\n", secret),
				})
				if method == "scram-sha-256" && form == "md5" {
					if e := r.refused("d", "user=alice password=geheim"); e.Message != "SASL authentication failed" {
						t.Fatalf("got %v", e)
					}
					return
				}
				for range 2 {
					conn := r.connect("d", "user=alice password=geheim")
					if got := value[string](t, conn, "select current_user::text"); got != "postgres" {
						t.Fatalf("user %q on the server", got)
					}
				}
				want := "password authentication failed"
				if method == "scram-sha-256" || method == "md5" && form == "scram" {
					want = "SASL authentication failed"
				}
				if method == "trust" {
					if e := r.refused("d", "user=nobody"); e.Message != `"trust" authentication failed` {
						t.Fatalf("unknown user: %v", e)
					}
					return
				}
				if e := r.refused("d", "user=alice password=wrong"); e.Message != want || e.Severity != "FATAL" || e.Code != "08P01" {
					t.Fatalf("wrong password: %v", e)
				}
				// The answer must not tell that there is no such user.
				want = "password authentication failed"
				if method == "scram-sha-256" {
					want = "SASL authentication failed"
				}
				if e := r.refused("d", "user=nobody password=wrong"); e.Message != want {
					t.Fatalf("unknown user: %v", e)
				}
				r.waitLog("login attempt: db=d user=nobody tls=no replication=no")
				r.waitLog("no such user: nobody")
				if e := r.refused("nowhere", "user=alice password=geheim"); e.Message != "no such database: nowhere" {
					t.Fatalf("unknown database: %v", e)
				}
				r.waitFor("the log is written", func() bool { return strings.Contains(r.log.String(), "no such database: nowhere") })
				if strings.Contains(r.log.String(), "geheim") || strings.Contains(r.log.String(), secret) {
					t.Fatal("the log tells a secret")
				}
			})
		}
	}
}

// Every way to log in to a server that asks for a password.
func TestPoolerProvesItselfToServers(t *testing.T) {
	server := pgtest.Server(t)
	admin, err := pgx.Connect(background(t), server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(background(t), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("set password_encryption = 'md5'; create role m login password 'geheim'; " +
		"set password_encryption = 'scram-sha-256'; create role s login password 'geheim'; create role c login password 'geheim'")
	stored := value[string](t, admin, "select rolpassword from pg_catalog.pg_authid where rolname = 's'")
	hba := value[string](t, admin, "show hba_file")
	exec("copy (values ('host all m 127.0.0.1/32 md5'), ('host all s 127.0.0.1/32 scram-sha-256'), " +
		"('host all c 127.0.0.1/32 password'), ('host all postgres 127.0.0.1/32 trust'), ('local all all trust')) to " +
		"'" + hba + "'; select pg_catalog.pg_reload_conf()")
	admin.Close(background(t))
	line := func(name, more string) string {
		return fmt.Sprintf("%s = host=127.0.0.1 port=%d dbname=postgres %s\n", name, server.Port, more)
	}
	r := start(t, config{
		databases: line("md5", "user=m password=geheim") + line("scram", "user=s password=geheim") + line("clear", "user=c password=geheim") +
			line("wrong", "user=s password=other") + line("own", "") + line("md5file", "user=m"),
		authFile: fmt.Sprintf("\"postgres\" \"x\"\n\"s\" \"%s\"\n\"m\" \"%s\"\n", stored, pgwire.MD5Secret("m", "geheim")),
	})
	for db, user := range map[string]string{"md5": "m", "scram": "s", "clear": "c", "md5file": "m"} {
		conn := r.connect(db)
		if got := value[string](t, conn, "select current_user::text"); got != user {
			t.Errorf("%s: logged in as %q", db, got)
		}
	}
	e := r.refused("wrong")
	if !strings.Contains(e.Message, "password authentication failed") || e.Code != "28P01" {
		t.Errorf("got %v", e)
	}
	if e := r.refused("wrong"); !strings.HasPrefix(e.Message, "server login has been failing, cached error: ") || !strings.HasSuffix(e.Message, "(server_login_retry)") {
		t.Errorf("at once again: %v", e)
	}
	// A SCRAM secret without a client's proof cannot log in.
	if e := r.refused("own", "user=s"); e.Message != "server login failed: wrong password type" {
		t.Errorf("got %v", e)
	}
	r.write(config{
		databases: line("own", ""), settings: "auth_type = scram-sha-256",
		authFile: fmt.Sprintf("\"postgres\" \"x\"\n\"s\" \"%s\"\n", stored),
	})
	if _, err := r.command("reload"); err != nil {
		t.Fatal(err)
	}
	// With it, it can: the keys are passed through.
	r.waitFor("server_login_retry is over", func() bool {
		conn, err := pgx.Connect(background(t), r.dsn("own", "user=s password=geheim"))
		if err != nil {
			return false
		}
		defer conn.Close(background(t))
		return value[string](t, conn, "select current_user::text") == "s"
	})
}

func TestPsqlGetsInAndOut(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	for _, host := range []string{"127.0.0.1", r.dir} {
		out, err := osexec.Command("psql", "-X", "-At", "-c", "select 1", "-c", "\\copy (select 2) to stdout",
			fmt.Sprintf("host=%s port=%d user=postgres dbname=d", host, r.port)).CombinedOutput()
		if err != nil || string(out) != "1\n2\n" {
			t.Fatalf("%s: %v", out, err)
		}
	}
}
