package cli

// pgq without library and extension, made and used by a role that is no superuser.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/internal/pgtest"
)

// scriptless is pgqadm in a folder bin of its own; share is where its script may lie.
func scriptless(t *testing.T) (program, share string) {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	// Beside the built one, so that a link will do for a copy.
	prefix, err := os.MkdirTemp(binaryDir, "prefix")
	if err != nil {
		t.Fatal(err)
	}
	program, share = filepath.Join(prefix, "bin", "pgqadm"), filepath.Join(prefix, "share", "skytools")
	for _, dir := range []string{filepath.Dir(program), share} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(binary, program); err != nil {
		t.Fatal(err)
	}
	return program, share
}

func TestPgqWithoutALibrary(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	setup := func(role string) (*pgtest.Database, string) {
		t.Helper()
		d := server.DB(t)
		d.Exec(t, fmt.Sprintf("grant create on database %s to %s", d.Name, role))
		return d, setupIni(t, "pgqadm", fmt.Sprintf("db = %s user=%s\nloop_delay = 3600\nmaint_delay = 3600\n", d.DSN, role))
	}
	for _, role := range []string{"owner createrole", "another"} {
		server.DB(t).Exec(t, "create role "+role+" login")
	}
	d, ini := setup("owner")
	program, share := scriptless(t)
	pgConfig := filepath.Join(os.Getenv("SKYTOOLS_TEST_TREE"), "bin", "pg_config")
	config := pgConfig
	call := func(code int, stdout, stderr string, args ...string) {
		t.Helper()
		cmd := exec.Command(program, append([]string{ini}, args...)...)
		cmd.Env = append(os.Environ(), "PG_CONFIG="+config)
		var said strings.Builder
		cmd.Stderr = &said
		out, _ := cmd.Output() // its code is compared
		gotOut, gotErr := strings.ReplaceAll(string(out), ini, "INI"), strings.ReplaceAll(said.String(), ini, "INI")
		if cmd.ProcessState.ExitCode() != code || gotOut != stdout || gotErr != stderr {
			t.Errorf("pgqadm INI %q:\ngot  %d, %q, %q\nwant %d, %q, %q", args, cmd.ProcessState.ExitCode(), gotOut, gotErr, code, stdout, stderr)
		}
	}

	config = "/nowhere/pg_config"
	call(1, "", "pgqadm: no script "+filepath.Join(share, plonlyScript)+", and /nowhere/pg_config --sharedir: "+
		"fork/exec /nowhere/pg_config: no such file or directory; name the script with --script FILE\n", "install", "--plonly")
	config = pgConfig
	version := pgtest.Value[string](t, d, "show server_version")
	call(0, fmt.Sprintf("pgqadm 4.0\nPostgreSQL %s, database %s\n", version, d.Name), "", "version")
	call(0, "pgq 4.0 installed\n", "", "install", "--plonly")
	call(0, "pgq 4.0 is installed already\n", "", "install", "--plonly")
	call(0, "pgq 4.0 is installed already, by a script\n", "", "install")
	call(0, fmt.Sprintf("pgqadm 4.0\nPostgreSQL %s, database %s\npgq 4.0, by a script\n", version, d.Name), "", "version")
	call(0, fmt.Sprintf("{\n  \"pgqadm_version\": \"4.0\",\n  \"postgres_version\": %q,\n  \"database\": %q,\n"+
		"  \"extensions\": [],\n  \"pgq_by_script\": \"4.0\"\n}\n", version, d.Name), "", "version", "--json")
	if n := pgtest.Value[int](t, d, `select count(*) from pg_catalog.pg_proc p join pg_catalog.pg_language l on l.oid = p.prolang
		where p.pronamespace = 'pgq'::regnamespace and l.lanname in ('c', 'internal')`); n != 0 {
		t.Errorf("%d functions want a library", n)
	}

	// The ticker and the consumer do nothing for an hour, unless they are woken.
	call(0, "queue q created\n", "", "create", "q")
	call(0, "consumer c registered on queue q\n", "", "register", "q", "c")
	if code, out, errOut := run(t, "pgqadm", ini, "config", "q", "notify=true", "ticker_idle_period=1 hour"); code != 0 {
		t.Fatalf("config: %d, %s%s", code, out, errOut)
	}
	ticker := startProcess(t, program, ini, "ticker")
	pgtest.Eventually(t, soon, "the ticker works", func() bool { return ticker.says("pgq version ok") })
	d.WaitFor(t, `select exists (select from pg_stat_activity where datname = current_database() and usename = 'owner'
		and state = 'idle' and query like '%queue_ticker_paused%')`)
	d.Exec(t, `create table public.applied (n bigint generated always as identity, data text); grant insert on public.applied to owner`)
	consumed := consume(t, d, "owner")
	d.WaitFor(t, `select exists (select from pg_stat_activity where datname = current_database() and application_name = 'sink'
		and state = 'idle' and query like '%next_batch%')`)
	for _, data := range []string{"a", "b", "c"} {
		d.Exec(t, `set role owner; select pgq.insert_event('q', 't', '`+data+`')`)
		d.WaitFor(t, `select exists (select from public.applied where data = '`+data+`')`)
	}
	if got := d.Rows(t, "select data from public.applied order by n"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("applied %v", got)
	}
	consumed()

	call(0, "no problem found, 1 queue(s) looked at\n", "", "check")
	call(0, "nothing holds up a rotation\n", "", "blockers")
	call(0, "no consumer has dead events\n", "", "dlq", "count")
	call(0, "queue q needs no repair\n", "", "rebase", "q")
	call(0, "consumer c on queue q paused\n", "", "pause", "q", "c")
	call(0, "consumer s registered on queue q with 2 slots\n", "", "register", "q", "s", "--slots", "2")
	call(0, "CREATE\nREGISTER\n n\n---\n 2\n(1 row)\n\n", "", "shell", "-c",
		"create queue r; register consumer d on r; select count(*) as n from pgq.queue")
	if code, out, _ := run(t, "pgqadm", ini, "shell", "-c", "show version"); code != 0 || !strings.Contains(out, " pgq, by a script | 4.0") {
		t.Errorf("show version: %d, %s", code, out)
	}
	if code, out, _ := run(t, "pgqadm", ini, "status"); code != 0 || !strings.Contains(out, "   PgQ version: 4.0\n") || !strings.Contains(out, "\n  s#1 ") {
		t.Errorf("status: %d, %s", code, out)
	}
	ticker.kill()

	// The roles exist now: who installs needs no right to make them. The script lies
	// beside the program.
	d, ini = setup("another")
	config = "/nowhere/pg_config"
	found, err := exec.Command(pgConfig, "--sharedir").Output()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(strings.TrimSpace(string(found)), "extension", plonlyScript)
	d.Exec(t, "create schema pgq authorization another")
	exists := fmt.Sprintf("pgqadm: install pgq in database %q: schema pgq exists already (SQLSTATE 42P06); "+
		"PgQ or something else is installed in this database; This script makes a new schema and changes none\n", d.Name)
	call(1, "", exists, "install", "--plonly", "--script", script)
	d.Exec(t, "drop schema pgq")
	if err := os.Symlink(script, filepath.Join(share, plonlyScript)); err != nil {
		t.Fatal(err)
	}
	call(0, "pgq 4.0 installed\n", "", "install", "--plonly")
	call(0, "queue q created\n", "", "create", "q")
}

// consume runs a consumer of queue q that waits to be woken; what it returns ends it.
func consume(t *testing.T, d *pgtest.Database, role string) (stop func()) {
	t.Helper()
	cfg := batch.ConsumerConfig{
		JobConfig: batch.JobConfig{JobName: "sink", LoopDelay: time.Hour},
		SrcDB:     batch.ConnString(d.DSN + " user=" + role), QueueName: "q", ConsumerName: "c",
	}
	job, err := batch.NewJob("sink", cfg.JobConfig, nil)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := batch.NewConsumer(job, cfg, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
		for ev, err := range b.Events() {
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "insert into public.applied (data) values ($1)", ev.Data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := job.Run(ctx, worker.Work); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return stop
}
