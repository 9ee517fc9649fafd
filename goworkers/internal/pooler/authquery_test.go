package pooler

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// asker is what auth_query needs on a server: a user who may ask, users to ask for, and
// functions that answer in the ways that are wrong.
const asker = `
create role asker login password 'ask';
create role alice login password 'wonder''land';
create role bob login password 'build' valid until '2001-01-01';
create role carol login password 'sing' valid until 'infinity';
create role nopass login;
create function public.secret(who text) returns table(usename text, passwd text)
language sql security definer set search_path = pg_catalog, pg_temp as
$$select rolname, case when rolvaliduntil < now() then null else rolpassword end from pg_authid where rolname = who and rolcanlogin$$;
create function public.fails(who text) returns table(usename text, passwd text)
language plpgsql as $$begin raise exception 'no secrets today'; end$$;
grant usage on schema public to asker;
`

func TestAuthQueryFindsSecrets(t *testing.T) {
	server := guarded(t, asker)
	bothThreads(t, func(t *testing.T, threads string) {
		r := start(t, config{
			databases: leading("d", server) + leading("forced", server, "user=carol password=sing") + leading("own", server, "auth_user=asker") +
				leading("keys", server, "auth_dbname=keys", "auth_user=asker") + leading("*", server),
			authFile: `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n" + `"empty" ""` + "\n",
			settings: threads + "auth_type = scram-sha-256\nauth_user = asker\n" +
				"auth_query = select usename, passwd from public.secret($1)\nauth_dbname = keys\nadmin_users = postgres, alice",
		})
		const alice = `user=alice password='wonder\'land'`
		// The secret that the query gave opens the server as well.
		r.enters(t, "alice", "d", alice)
		r.enters(t, "alice", "own", alice)
		r.enters(t, "alice", "keys", alice)
		r.enters(t, "alice", "found_by_star", alice)
		r.enters(t, "carol", "forced", alice)
		r.enters(t, "carol", "d", "user=carol password=sing")
		r.bounces(t, "SASL authentication failed", "d", "user=alice password=wrong")
		r.bounces(t, "SASL authentication failed", "forced", "user=alice password=sing")
		r.bounces(t, "no such user", "d", "user=nobody password=x")
		r.bounces(t, "no such user", "d", "user=empty password=x")
		// Expired, and never set: both are NULL.
		r.bounces(t, "SASL authentication failed", "d", "user=bob password=build")
		r.bounces(t, "SASL authentication failed", "d", "user=nopass password=x")
		// The console asks in auth_dbname.
		ctx := background(t)
		console, err := pgconn.Connect(ctx, r.dsn("pgbouncer", alice))
		if err != nil {
			t.Fatal(err)
		}
		if res, err := console.Exec(ctx, "show users").ReadAll(); err != nil || len(res) != 1 {
			t.Errorf("console: %v", err)
		}
		console.Close(ctx)
		r.bounces(t, "not allowed", "pgbouncer", "user=carol password=sing")
		// The questions went as asker, also where clients are somebody else.
		for _, row := range r.consoleAs(t, alice, "show pools") {
			if row["database"] == "forced" && row["user"] == "asker" {
				t.Errorf("asked in the client's database although auth_dbname is set: %v", row)
			}
		}
	})
}

// consoleAs runs a command as another user than postgres.
func (r *rig) consoleAs(t *testing.T, login, sql string) []map[string]string {
	t.Helper()
	ctx := background(t)
	conn, err := pgconn.Connect(ctx, r.dsn("pgbouncer", login))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, row := range results[0].Rows {
		m := map[string]string{}
		for i, f := range results[0].FieldDescriptions {
			m[f.Name] = string(row[i])
		}
		rows = append(rows, m)
	}
	return rows
}

// Where the clients' user is given, the questions are still asked as auth_user.
func TestAuthQueryAsksAsAuthUserNotAsTheForcedUser(t *testing.T) {
	server := guarded(t, asker)
	r := start(t, config{
		databases: leading("d", server, "user=carol password=sing auth_user=asker",
			"auth_query='select current_user::text, passwd from public.secret($1) where current_user = ''asker'''"),
		authFile: `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n",
		settings: "auth_type = md5",
	})
	r.enters(t, "carol", "d", `user=alice password='wonder\'land'`)
	users := map[string]bool{}
	for _, row := range r.consoleAs(t, "user=postgres password=x", "show pools") {
		users[row["database"]+"/"+row["user"]] = true
	}
	if !users["d/asker"] || !users["d/carol"] {
		t.Errorf("pools: %v", users)
	}
}

func TestAuthQueryThatCannotBeUsedIsToldInTheLogOnly(t *testing.T) {
	server := guarded(t, asker)
	query := func(name, sql string) string {
		return leading(name, server, "auth_user=asker auth_query='"+strings.ReplaceAll(sql, "'", "''")+"'")
	}
	r := start(t, config{
		databases: query("one", "select passwd from public.secret($1)") +
			query("three", "select usename, passwd, 1 from public.secret($1)") +
			query("fails", "select usename, passwd from public.fails($1)") +
			query("wrong", "selekt $1") + query("none", "select 1, 2") +
			query("copies", "copy (select 1, 2) to stdout") + query("long", "select $1, repeat('x', 100000)") +
			query("begins", "begin") + query("nothing", ";") +
			leading("lost", server, "auth_user=asker auth_dbname=nowhere") + leading("console", server, "auth_user=asker auth_dbname=pgbouncer") +
			leading("off", server, "auth_user=asker auth_dbname=disabled") + leading("disabled", server),
		authFile: `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n",
		settings: "auth_type = scram-sha-256",
	})
	r.consoleAs(t, "user=postgres password=x", "show version")
	if _, err := r.tryConsole("user=postgres password=x", "disable disabled"); err != nil {
		t.Fatal(err)
	}
	for db, reason := range map[string]string{
		"one": "gives 1 columns", "three": "gives 3 columns", "fails": "no secrets today (SQLSTATE P0001)", "wrong": "SQLSTATE 42601",
		"none": "SQLSTATE 08P01", "copies": "SQLSTATE 08P01", "long": "DataRow of 1000", "begins": "SQLSTATE 08P01", "nothing": "SQLSTATE 08P01",
		"lost": "auth_dbname = nowhere", "console": "console's database", "off": "database disabled is disabled",
	} {
		r.bounces(t, "bouncer config error", db, "user=alice password=x")
		r.waitFor("the log tells why "+db, func() bool {
			for _, line := range strings.Split(r.log.String(), "\n") {
				if strings.Contains(line, "ERROR") && strings.Contains(line, ": "+db+"/alice@") && strings.Contains(line, reason) {
					return true
				}
			}
			return false
		})
	}
	// No server is left in a state that nobody knows.
	for _, row := range r.consoleAs(t, "user=postgres password=x", "show servers") {
		if row["state"] != "idle" {
			t.Errorf("server left behind: %v", row)
		}
	}
}

// tryConsole runs a command as somebody and gives the error.
func (r *rig) tryConsole(login, sql string) (n int, err error) {
	ctx := background(r.t)
	conn, err := pgconn.Connect(ctx, r.dsn("pgbouncer", login))
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	res, err := conn.Exec(ctx, sql).ReadAll()
	return len(res), err
}

func TestAuthQueryNoticesChangedPasswords(t *testing.T) {
	server := guarded(t, asker)
	admin := &pgtest.Database{DSN: server.DSN}
	r := start(t, config{
		databases: leading("d", server, "auth_user=asker pool_size=5"),
		authFile:  `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n",
		settings:  "auth_type = scram-sha-256\nauth_query = select usename, passwd from public.secret($1)",
	})
	r.enters(t, "carol", "d", "user=carol password=sing")
	held := r.connect("d", "user=carol password=sing")
	exec(t, held, "begin")
	admin.Exec(t, "alter role carol password 'hum'")
	r.bounces(t, "SASL authentication failed", "d", "user=carol password=sing")
	// The only server is in use: this one needs a new connection, with the new secret.
	r.enters(t, "carol", "d", "user=carol password=hum")
	exec(t, held, "commit")
}

// What a client wants its session to be must not bend the question (CVE-2025-12819).
func TestClientsParametersDoNotReachAuthQuery(t *testing.T) {
	server := guarded(t, asker+`
create schema evil authorization alice;
create function evil.now() returns timestamptz language sql as $$select '-infinity'::timestamptz$$;
create function evil.lower(text) returns text language sql as $$select 'alice'$$;
grant usage on schema evil to public;
grant pg_read_all_data to asker;
grant select on pg_catalog.pg_authid to asker;
`)
	r := start(t, config{
		databases: leading("d", server, "auth_user=asker", "pool_size=1"),
		authFile:  `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n",
		// Names that a search_path decides about, for which the default query has none.
		settings: "auth_type = scram-sha-256\ntrack_extra_parameters = search_path\nserver_idle_timeout = 1\n" +
			"auth_query = select rolname, case when rolvaliduntil < now() then null else rolpassword end from pg_authid where rolname = lower($1) and current_setting('search_path') !~ 'evil'",
	})
	evil := "options='-c search_path=evil,pg_catalog'"
	r.enters(t, "carol", "d", "user=carol password=sing", evil)
	for range 3 {
		r.bounces(t, "SASL authentication failed", "d", "user=bob password=build", evil)
		r.bounces(t, "SASL authentication failed", "d", "user=bob password=build application_name=x options='--search_path=evil'")
		r.bounces(t, "no such user", "d", `user=nobody password='wonder\'land'`, evil)
	}
	// The parameter does reach the client's own session.
	conn := r.connect("d", "user=carol password=sing", evil)
	if got := value[string](t, conn, "show search_path"); got != "evil, pg_catalog" {
		t.Errorf("search_path of the client: %q", got)
	}
}

// What the README tells an operator to do.
func TestAuthQueryOfTheReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(begin string) string {
		_, text, found := strings.Cut(string(readme), "    "+begin)
		if !found {
			t.Fatalf("README.md has no %q", begin)
		}
		text, _, _ = strings.Cut(text, "\n\n")
		return begin + text
	}
	server := guarded(t, asker+block("create schema pooler"))
	var settings []string
	for _, line := range strings.Split(block("auth_user = asker"), "\n") {
		setting, _, _ := strings.Cut(line, "#")
		settings = append(settings, strings.TrimSpace(setting))
	}
	r := start(t, config{
		databases: leading("mydb", server) + leading("*", server),
		authFile:  authLine("postgres", "x") + authLine("asker", "ask"),
		settings:  "auth_type = scram-sha-256\n" + strings.Join(settings, "\n"),
	})
	for _, db := range []string{"mydb", "other"} {
		r.enters(t, "carol", db, "user=carol password=sing")
		r.bounces(t, "SASL authentication failed", db, "user=bob password=build")
		r.bounces(t, "no such user", db, "user=nobody password=x")
	}
	if _, err := r.try("mydb", "user=asker password=ask"); err != nil {
		t.Error(err)
	}
}

// The query that is used when none is set refuses who has expired (CVE-2025-2291).
func TestDefaultAuthQuery(t *testing.T) {
	server := guarded(t, asker+"grant select on pg_catalog.pg_authid to asker; create role \"O'Brien \"\"x\"\"\" login password 'p';")
	r := start(t, config{
		databases: leading("d", server, "auth_user=asker"),
		authFile:  `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n",
		settings:  "auth_type = scram-sha-256",
	})
	r.enters(t, "carol", "d", "user=carol password=sing")
	r.enters(t, `O'Brien "x"`, "d", `user='O\'Brien "x"' password=p`)
	r.bounces(t, "SASL authentication failed", "d", "user=bob password=build")
	r.bounces(t, "SASL authentication failed", "d", "user=nopass password=x")
	r.bounces(t, "no such user", "d", "user=pg_monitor password=x")
}

// Many at once, few servers: everybody is asked for, and served in turn.
func TestManyLoginsAtOnceOverFewServers(t *testing.T) {
	server := guarded(t, asker)
	bothThreads(t, func(t *testing.T, threads string) {
		r := start(t, config{
			databases: leading("d", server, "auth_user=asker pool_size=2"),
			authFile:  `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n",
			settings: threads + "auth_type = scram-sha-256\nmax_client_conn = 300\nlog_connections = 0\nlog_disconnections = 0\n" +
				"auth_query = select usename, passwd from public.secret($1)",
		})
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				login, as := "user=carol password=sing", "carol"
				if i%4 == 1 {
					login, as = `user=alice password='wonder\'land'`, "alice"
				}
				switch user, err := r.try("d", login); {
				case err != nil || user != as:
					t.Errorf("login %d: %q, %v", i, user, err)
				}
				if i%10 == 0 {
					r.bounces(t, "SASL authentication failed", "d", login, "password=wrong")
				}
			})
		}
		wg.Wait()
	})
}

// While nobody can be asked, logins wait, and who goes leaves no question behind.
func TestAuthQueryWaitsForThePool(t *testing.T) {
	t.Parallel()
	server := guarded(t, asker)
	admin := &pgtest.Database{DSN: server.DSN}
	bothThreads(t, func(t *testing.T, threads string) {
		c := config{
			databases: leading("d", server) + leading("ask", server, "pool_size=1"),
			authFile:  `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n",
			settings: threads + "auth_type = md5\nauth_user = asker\nauth_dbname = ask\nclient_login_timeout = 1.5\n" +
				"auth_query = select usename, passwd from public.secret($1)",
		}
		r := start(t, c)
		const boss = "user=postgres password=x"
		do := func(sql string) {
			t.Helper()
			if _, err := r.tryConsole(boss, sql); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		waiting := func() (n string) {
			for _, row := range r.consoleAs(t, boss, "show pools") {
				if row["database"] == "ask" {
					n = row["cl_waiting"]
				}
			}
			return n
		}
		r.enters(t, "carol", "d", "user=carol password=sing")
		do("pause ask")
		done := make(chan error, 1)
		go func() {
			_, err := r.try("d", "user=carol password=sing")
			done <- err
		}()
		r.waitFor("the login waits", func() bool { return waiting() == "1" })
		do("resume ask")
		if err := <-done; err != nil {
			t.Errorf("login over a pause: %v", err)
		}
		do("pause ask")
		r.bounces(t, "client_login_timeout", "d", "user=carol password=sing")
		r.waitFor("the question is taken back", func() bool { return waiting() == "0" })
		// And so is that of a client that just leaves.
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(pgwire.AppendStartup(nil, []pgwire.Param{{Name: "user", Value: "carol"}, {Name: "database", Value: "d"}}))
		r.waitFor("the login waits", func() bool { return waiting() == "1" })
		conn.Close()
		r.waitFor("the question is taken back", func() bool { return waiting() == "0" })
		do("resume ask")
		r.enters(t, "carol", "d", "user=carol password=sing")

		// A query that hangs holds its server no longer than a login may take.
		admin.Exec(t, "create or replace function public.hangs(who text) returns table(usename text, passwd text) language sql volatile as "+
			"$$select who, null::text from pg_catalog.pg_sleep(600)$$")
		c.settings = strings.Replace(c.settings, "public.secret", "public.hangs", 1)
		r.write(c)
		do("reload")
		r.bounces(t, "client_login_timeout", "d", "user=carol password=sing")
		r.waitLog("auth_query takes longer than client_login_timeout")
		c.settings = strings.Replace(c.settings, "public.hangs", "public.secret", 1)
		r.write(c)
		do("reload")
		r.enters(t, "carol", "d", "user=carol password=sing")

		// RELOAD without the database tells those who wait in it.
		do("pause ask")
		go func() {
			_, err := r.try("d", "user=carol password=sing")
			done <- err
		}()
		r.waitFor("the login waits", func() bool { return waiting() == "1" })
		c.databases = leading("d", server)
		r.write(c)
		do("reload")
		if e := pgError(t, <-done); e.Message != "database removed" {
			t.Errorf("got %v", e)
		}
	})
}

// A question to a server that refuses it is answered with its reason; one that is down is
// waited for.
func TestAuthQueryOfAServerThatIsDown(t *testing.T) {
	server := guarded(t, asker)
	r := start(t, config{
		databases: leading("d", server, "auth_user=asker") + leading("who", server, "auth_user=stranger"),
		authFile:  `"postgres" "x"` + "\n" + `"asker" "ask"` + "\n" + `"stranger" "x"` + "\n",
		settings:  "auth_type = scram-sha-256\nauth_query = select usename, passwd from public.secret($1)\nserver_login_retry = 0.2\nquery_wait_timeout = 2",
	})
	if _, err := r.try("who", "user=carol password=sing"); err == nil || !strings.Contains(err.Error(), `password authentication failed for user "stranger"`) {
		t.Errorf("auth_user is refused: %v", err)
	}
	server.Stop(t)
	if _, err := r.try("d", "user=carol password=sing"); err == nil || !strings.Contains(err.Error(), "query_wait_timeout") {
		t.Errorf("server is down: %v", err)
	}
	r.waitLog("server login failed: connect failed: connection refused")
	server.Start(t)
	r.waitFor("the server is found again", func() bool {
		_, err := r.try("d", "user=carol password=sing")
		return err == nil
	})
	// A server that goes while it is asked.
	held := make(chan error, 1)
	admin := &pgtest.Database{DSN: server.DSN}
	admin.Exec(t, `create or replace function public.secret(who text) returns table(usename text, passwd text) language sql volatile
		as $$select who, null::text from pg_catalog.pg_sleep(600)$$`)
	go func() {
		_, err := r.try("d", "user=carol password=sing")
		held <- err
	}()
	admin.WaitFor(t, "select exists (select from pg_catalog.pg_stat_activity where usename = 'asker' and wait_event = 'PgSleep')")
	admin.Exec(t, "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity where usename = 'asker'")
	select {
	case err := <-held:
		if e := pgError(t, err); !strings.Contains(e.Message, "terminating connection") && e.Message != "bouncer config error" && e.Message != "server conn crashed?" {
			t.Errorf("got %v", e)
		}
	case <-time.After(20 * time.Second):
		t.Error("the login hangs")
	}
}
