package pooler

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// program finds one of the server's programs.
func program(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv("PGBIN"); dir != "" {
		return dir + "/" + name
	}
	path, err := osexec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a program and gives what it says.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := osexec.CommandContext(background(t), program(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (r *rig) leaks() []string {
	var found []string
	for _, line := range strings.Split(r.log.String(), "\n") {
		if _, what, ok := strings.Cut(line, "session state left behind by "); ok && strings.Contains(line, " C-") {
			found = append(found, strings.TrimSuffix(what, ": other clients of this pool may meet it"))
		}
	}
	return found
}

func TestGuardTellsWhatIsLeftBehind(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "server_reset_query_always = 1"})
	for _, tc := range []struct {
		sql  []string // each a query of its own
		want string   // "" = nothing
	}{
		{[]string{"set enable_seqscan = off"}, "SET"},
		{[]string{"begin; select 1; commit; set enable_seqscan = off"}, "SET"},
		{[]string{"begin; rollback; set enable_seqscan = off"}, "SET"},
		{[]string{"set timezone = 'Asia/Tokyo'; set enable_seqscan = off"}, "SET"},
		{[]string{"listen x"}, "LISTEN"},
		{[]string{"begin", "listen x", "commit"}, "LISTEN"},
		{[]string{"prepare p as select 1"}, "PREPARE"},
		{[]string{"begin", "prepare p2 as select 1", "rollback"}, "PREPARE"},
		{[]string{"declare c cursor with hold for select 1"}, "DECLARE CURSOR"},
		{[]string{"load 'plpgsql'"}, "LOAD"},
		{[]string{"begin", "set local enable_seqscan = off", "commit"}, ""},
		{[]string{"begin; set local enable_seqscan = off; commit"}, ""},
		{[]string{"begin", "savepoint a", "rollback to a", "set local enable_seqscan = off", "commit"}, ""},
		{[]string{"begin", "declare c cursor for select 1", "fetch c", "commit"}, ""},
		{[]string{"set timezone = 'Europe/Tallinn'", "set timezone = 'Asia/Tokyo'"}, ""},
		{[]string{"begin", "set application_name = 'x'", "commit"}, ""},
		{[]string{"prepare transaction 'x'"}, ""}, // fails
		{[]string{"select pg_catalog.set_config('enable_seqscan', 'off', true)"}, ""},
	} {
		a := r.rawLogin("d")
		before := len(r.leaks())
		// Twice: it is told once.
		for range 2 {
			for _, sql := range tc.sql {
				a.Write(pgwire.AppendQuery(nil, sql))
				skipTo(t, a, pgwire.MsgReadyForQuery)
			}
		}
		a.Close()
		if tc.want == "" {
			// Somebody whose turn is later has something told.
			a = r.rawLogin("d")
			a.Write(pgwire.AppendQuery(nil, "unlisten *; listen sentinel"))
			skipTo(t, a, pgwire.MsgReadyForQuery)
			a.Close()
		}
		want := tc.want
		if want == "" {
			want = "LISTEN"
		}
		r.waitFor("the guard's word", func() bool { return len(r.leaks()) > before })
		if got := strings.Join(r.leaks()[before:], " "); got != want {
			t.Errorf("%q: told %q, want %q", tc.sql, got, want)
		}
	}
}

func TestGuardResetsOrCloses(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	for _, tc := range []struct {
		guard string
		kept  bool // the server
		clean bool // the session of the next client
	}{
		{"ignore", true, false}, {"log", true, false}, {"reset", true, true}, {"close", false, true},
		{"reset\nserver_reset_query =", false, true},
	} {
		t.Run(tc.guard, func(t *testing.T) {
			r := start(t, config{databases: entry("d", db, "pool_size=1"), settings: "session_state_guard = " + tc.guard})
			a, b := r.connect("d"), r.connect("d")
			for _, sql := range []string{"set enable_seqscan = off", "listen x", "prepare p as select 1", "declare c cursor with hold for select 1"} {
				pid := value[int](t, b, backend)
				exec1(t, a, sql)
				left := value[int](t, b, "select (select pg_catalog.count(*) from pg_catalog.pg_listening_channels())::int"+
					" + (select pg_catalog.count(*) from pg_catalog.pg_prepared_statements where not name like 'PGBOUNCER%')::int"+
					" + (select pg_catalog.count(*) from pg_catalog.pg_cursors where is_holdable)::int"+
					" + (pg_catalog.current_setting('enable_seqscan') = 'off')::int")
				if got := value[int](t, b, backend); (got == pid) != tc.kept {
					t.Errorf("%s: server kept: %v", sql, got == pid)
				}
				if (left == 0) != tc.clean {
					t.Errorf("%s: %d things are left", sql, left)
				}
			}
			if tc.guard != "ignore" {
				r.waitFor("the log tells", func() bool { return len(r.leaks()) > 0 })
			}
			if told := len(r.leaks()); told > 1 || told > 0 && tc.guard == "ignore" {
				t.Errorf("told %d times", told)
			}
		})
	}
}

// exec1 is exec by the simple protocol.
func exec1(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(background(t), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestGuardIsSilentAboutNormalTraffic(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	db.Exec(t, "do $$ begin execute pg_catalog.format('alter database %I set search_path = public', pg_catalog.current_database()); end $$")
	r := start(t, config{databases: entry("d", db, "pool_size=2"), settings: "session_state_guard = close"})
	run(t, "psql", "-X", "-d", r.dsn("d"), "-c", "create table public.t(x int)", "-c", "\\d public.t", "-c", "begin", "-c", "insert into public.t values (1)",
		"-c", "commit", "-c", "copy public.t to stdout", "-c", "\\encoding LATIN1", "-c", "select * from public.t", "-c", "\\dt *.*")
	run(t, "pgbench", "-i", "-q", "-n", r.dsn("d"))
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		run(t, "pgbench", "-n", "-M", protocol, "-c", "4", "-j", "4", "-t", "50", r.dsn("d"))
	}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		cfg, err := pgx.ParseConfig(r.dsn("d", "timezone=Asia/Tokyo"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(background(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			tx, err := conn.Begin(background(t))
			if err != nil {
				t.Fatal(err)
			}
			sub, err := tx.Begin(background(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Exec(background(t), "insert into public.t values ($1)", i); err != nil {
				t.Fatal(err)
			}
			if _, err := sub.CopyFrom(background(t), pgx.Identifier{"public", "t"}, []string{"x"}, pgx.CopyFromRows([][]any{{i}})); err != nil {
				t.Fatal(err)
			}
			if err := sub.Rollback(background(t)); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(background(t)); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close(context.Background())
	}
	// What has been told by now comes before this.
	exec1(t, r.connect("d"), "listen sentinel")
	r.waitFor("the guard's word", func() bool { return len(r.leaks()) > 0 })
	if got := fmt.Sprint(r.leaks()); got != "[LISTEN]" {
		t.Errorf("told %s", got)
	}
}
