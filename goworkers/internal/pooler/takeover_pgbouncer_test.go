package pooler

// The online restart between PgBouncer and us, in both directions, with Debian's own
// programs: 1.18 always, newer ones when scripts/bench/pgbouncer-tree has fetched them.

import (
	"context"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgwire"
)

// pgbouncer gives the program of a Debian suite; "" when that suite is not there.
func pgbouncer(t *testing.T, suite string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	top := filepath.Join(filepath.Dir(file), "../../..")
	if _, err := os.Stat(filepath.Join(top, ".build/peers", suite, "pgbouncer.list")); err != nil && suite != "bookworm" {
		return ""
	}
	dir, err := os.MkdirTemp("", "pgbouncer.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := osexec.Command(filepath.Join(top, "scripts/bench/pgbouncer-tree"), dir, suite).CombinedOutput(); err != nil {
		t.Fatalf("pgbouncer-tree %s: %v\n%s", suite, err, out)
	}
	return filepath.Join(dir, "pgbouncer")
}

// pgbouncerRig has a configuration that both programs know.
func pgbouncerRig(t testing.TB, program string, c config) (r *rig, peer func(args ...string) *process) {
	t.Helper()
	if out, err := osexec.Command(program, "-V").Output(); err == nil && strings.HasPrefix(string(out), "PgBouncer 1.18") {
		c.settings = strings.ReplaceAll(c.settings, "max_prepared_statements = 200\n", "")
	}
	c.settings += "\npidfile = PIDFILE"
	r = newRig(t, c)
	c.settings = strings.Replace(c.settings, "PIDFILE", filepath.Join(r.dir, "pid"), 1)
	r.write(c)
	if err := os.Chmod(r.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	r.share()
	return r, func(args ...string) *process {
		t.Helper()
		return launch(t, osexec.Command(program, append(args, r.conf)...))
	}
}

func (r *rig) upPeer(pr *process) *process {
	r.t.Helper()
	r.waitFor("PgBouncer is up", func() bool { return strings.Contains(pr.stderr.String(), "process up") })
	return pr
}

// psqlAsOwner asks the console as the pooler's own system user.
func (r *rig) psqlAsOwner(sql string) string {
	r.t.Helper()
	cmd := osexec.Command("psql", "-X", "-At", "-h", r.dir, "-p", fmt.Sprint(r.port), "-U", consoleName, "-c", sql, consoleName)
	cmd.Env = append(os.Environ(), "PGPASSFILE=/dev/null", "HOME=/")
	unprivileged(r.t, cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("psql: %v: %s", err, out)
	}
	return string(out)
}

// guests are clients of a pooler before it is taken over.
type guests struct {
	idle, inBlock, session *pgx.Conn
	pid, sessionPID        int
	slept                  chan error
	sleeper                *pgx.Conn
	waking                 chan error
}

func (r *rig) invite(ctx context.Context, t *testing.T) *guests {
	t.Helper()
	g := &guests{idle: r.connect("d"), inBlock: r.connect("d"), session: r.connect("s"), sleeper: r.connect("d"), slept: make(chan error, 1), waking: make(chan error, 1)}
	exec(t, g.idle, "set timezone = 'Asia/Tokyo'")
	exec(t, g.inBlock, "begin")
	exec(t, g.inBlock, "set local work_mem = '7MB'")
	g.pid = value[int](t, g.inBlock, backend)
	exec(t, g.session, "create temp table kept (x int)")
	g.sessionPID = value[int](t, g.session, backend)
	go func() {
		_, err := g.sleeper.Exec(ctx, "select pg_sleep(60)")
		g.slept <- err
	}()
	waker := r.connect("d")
	go func() {
		// It waits on the server, and is answered by way of the new process.
		_, err := waker.Exec(ctx, "select pg_advisory_lock(4711); select pg_advisory_unlock(4711)", pgx.QueryExecModeSimpleProtocol)
		g.waking <- err
	}()
	r.waitFor("servers are linked", func() bool { return r.pool("d")["sv_active"] == "3" })
	return g
}

// still looks whether all is as it was.
func (g *guests) still(t *testing.T, r *rig, db *pgtest.Database) {
	t.Helper()
	if got := value[int](t, g.inBlock, backend); got != g.pid {
		t.Errorf("the transaction was on server %d and is on %d", g.pid, got)
	}
	if got := value[string](t, g.inBlock, "show work_mem"); got != "7MB" {
		t.Errorf("work_mem of the transaction is %s", got)
	}
	exec(t, g.inBlock, "commit")
	exec(t, g.inBlock, "select 1")
	if got := value[string](t, g.idle, "show timezone"); got != "Asia/Tokyo" {
		t.Errorf("the time zone is %s", got)
	}
	if got := value[int](t, g.session, backend); got != g.sessionPID {
		t.Errorf("the session was on server %d and is on %d", g.sessionPID, got)
	}
	exec(t, g.session, "insert into pg_temp.kept values (1)")
	db.Exec(t, "select pg_advisory_unlock_all()")
	if err := g.sleeper.PgConn().CancelRequest(background(t)); err != nil {
		t.Fatal(err)
	}
	if e := pgError(t, <-g.slept); e.Code != "57014" {
		t.Errorf("the cancelled query ends with %v", e)
	}
	exec(t, g.sleeper, "select 1")
	// Newcomers come in.
	exec(t, r.connect("d"), "select 1")
	exec(t, r.connect("s"), "select 1")
}

func TestTakeoverFromPgBouncer(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		program := pgbouncer(t, suite)
		if program == "" {
			continue
		}
		t.Run(suite, func(t *testing.T) {
			db := pgtest.DB(t)
			r, peer := pgbouncerRig(t, program, config{databases: entry("d", db, "pool_size=3") + "\n" + entry("s", db, "pool_mode=session pool_size=2"),
				settings: "max_prepared_statements = 200\nserver_tls_sslmode = disable\nsuspend_timeout = 5"})
			lock := db.Conn(t)
			exec(t, lock, "select pg_advisory_lock(4711)")
			old := r.upPeer(peer())
			ctx := background(t)
			g := r.invite(ctx, t)
			next := r.process(takeOverEnv + "=1").says("up").says("alone")
			old.endsWell()
			if _, err := os.Stat(filepath.Join(r.dir, "pid")); err == nil {
				t.Error("PgBouncer has left its pid file")
			}
			exec(t, lock, "select pg_advisory_unlock(4711)")
			if err := <-g.waking; err != nil {
				t.Errorf("the query that ran during the takeover: %v", err)
			}
			g.still(t, r, db)
			// From us to us, with what PgBouncer had.
			r.takeOver(next)
			exec(t, g.idle, "select 1")
			exec(t, g.session, "insert into pg_temp.kept values (2)")
		})
	}
}

// What opens further servers for a user whose password nobody knows is handed on.
func TestTakeoverFromPgBouncerKeepsSCRAMKeys(t *testing.T) {
	db := pgtest.DB(t)
	secret, err := pgwire.BuildSCRAMSecret("correct horse", []byte("saltsaltsaltsalt"), 4096)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "do $$ begin create role takeover_guest login; exception when duplicate_object then null; end $$")
	r, peer := pgbouncerRig(t, pgbouncer(t, "bookworm"), config{databases: entry("d", db), settings: "auth_type = scram-sha-256\nserver_tls_sslmode = disable",
		authFile: "\"postgres\" \"secret\"\n\"takeover_guest\" \"" + secret.Text() + "\"\n"})
	old := r.upPeer(peer())
	guest := r.connect("d", "user=takeover_guest password='correct horse'")
	exec(t, guest, "select 1")
	keys := func() (list []string) {
		for line := range strings.Lines(r.psqlAsOwner("show fds")) {
			if f := strings.Split(strings.TrimSpace(line), "|"); len(f) == 15 && f[1] == taskClient {
				list = append(list, f[13]+" "+f[14])
			}
		}
		return list
	}
	before := keys()
	next := r.process(takeOverEnv + "=1").says("alone")
	old.endsWell()
	after := keys()
	if len(before) != 1 || len(before[0]) < 130 || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("keys were %v and are %v", len(before), len(after))
	}
	r.takeOver(next)
	if again := keys(); fmt.Sprint(before) != fmt.Sprint(again) {
		t.Errorf("the next process does not have the keys")
	}
	exec(t, guest, "select 1")
}

// PgBouncer can take over from us, too.
func TestTakeoverByPgBouncer(t *testing.T) {
	for _, suite := range []string{"bookworm", "trixie"} {
		program := pgbouncer(t, suite)
		if program == "" {
			continue
		}
		t.Run(suite, func(t *testing.T) {
			db := pgtest.DB(t)
			r, peer := pgbouncerRig(t, program, config{databases: entry("d", db, "pool_size=4") + "\n" + entry("s", db, "pool_mode=session pool_size=2"),
				settings: "server_tls_sslmode = disable\nsuspend_timeout = 5"})
			lock := db.Conn(t)
			exec(t, lock, "select pg_advisory_lock(4711)")
			old := r.process().says("up")
			g := r.invite(background(t), t)
			r.upPeer(peer("-R"))
			old.endsWell()
			exec(t, lock, "select pg_advisory_unlock(4711)")
			if err := <-g.waking; err != nil {
				t.Errorf("the query that ran during the takeover: %v", err)
			}
			g.still(t, r, db)
		})
	}
}

// PgBouncer 1.26 has no SUSPEND any more: that is said, and it goes on.
func TestTakeoverOfWhatCannotBeTakenOverSaysSo(t *testing.T) {
	program := pgbouncer(t, "forky")
	if program == "" {
		// The words of 1.26 are those of 1.18 for what it does not know.
		t.Log("PgBouncer 1.26 has not been fetched")
		return
	}
	db := pgtest.DB(t)
	r, peer := pgbouncerRig(t, program, config{databases: entry("d", db), settings: "server_tls_sslmode = disable"})
	r.upPeer(peer())
	a := r.connect("d")
	exec(t, a, "begin")
	r.process(takeOverEnv + "=1").fails("it knows no SUSPEND, so it cannot be taken over")
	exec(t, a, "commit")
}
