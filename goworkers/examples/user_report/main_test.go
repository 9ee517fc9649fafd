package main

// The program as users run it: built, configured by an ini file, fed by triggers
// through queue movers, and killed.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const usersSQL = `
	create table public.users (username text primary key, email text, score bigint not null default 0);
	select pgq.create_queue('users');
	update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
	create trigger log after insert or update or delete on public.users
		for each row execute function pgq.logutriga('users');
	create table public.logins (username text primary key, logins bigint not null);
	create function public.login(i_username text) returns void language sql as $$
		insert into public.logins as l values (i_username, 1)
			on conflict (username) do update set logins = l.logins + 1;
		select pgq.insert_event('users', 'user_login', 'username=' || i_username || '&at=' || extract(epoch from now()));
	$$;`

// build compiles a command of this module.
func build(t *testing.T, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(pkg))
	if out, err := exec.Command("go", "build", "-o", program, pkg).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	return program
}

func reportDB(t *testing.T) *pgtest.Database {
	t.Helper()
	db := pgtest.DB(t, "pgq_ext")
	schema, err := os.ReadFile("report.sql")
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, string(schema))
	return db
}

// settings are --set arguments, so that the ini file of the example is used as it is.
func settings(t *testing.T, pairs ...string) (args []string) {
	dir := t.TempDir()
	common := []string{"logfile=" + dir + "/log", "pidfile=" + dir + "/pid", "loop_delay=0.01", "exception_sleep=0.01"}
	for _, pair := range append(common, pairs...) {
		args = append(args, "--set", pair)
	}
	return args
}

// start runs a program that is killed at the latest when the test ends.
func start(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program, args...)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill(cmd)
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), said.String())
		}
	})
	return cmd
}

func kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	}
}

// tickAll ticks the queues of all databases until the test ends.
func tickAll(t *testing.T, databases ...*pgtest.Database) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var conns []pgq.DB
	for _, db := range databases {
		conns = append(conns, db.Conn(t))
	}
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			for _, conn := range conns {
				if _, err := pgq.Ticker(ctx, conn); err != nil && ctx.Err() == nil {
					t.Errorf("ticker: %v", err)
				}
			}
			<-ticker.C
		}
	}()
}

func TestReportAgreesThroughKills(t *testing.T) {
	report, skytools := build(t, "goworkers/examples/user_report"), build(t, "goworkers/cmd/skytools")
	queue, target := pgtest.DB(t, "pgq", "pgq_ext"), reportDB(t)
	queue.Exec(t, `select pgq.create_queue('all_users');
		update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)

	reportArgs := append(settings(t, "src_db="+queue.DSN, "dst_db="+target.DSN), "user_report.ini")
	moverINI := filepath.Join(t.TempDir(), "mover.ini")
	if err := os.WriteFile(moverINI, []byte("[queue_mover]\npgq_queue_name = users\ndst_queue_name = all_users\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var partitions []*pgtest.Database
	var moverArgs [][]string
	for p := range 2 {
		db := pgtest.DB(t, "pgq")
		db.Exec(t, usersSQL)
		db.Exec(t, "select pgq.register_consumer('users', $1)", fmt.Sprintf("mover_p%d", p))
		partitions = append(partitions, db)
		args := settings(t, fmt.Sprintf("job_name=mover_p%d", p), "src_db="+db.DSN, "dst_db="+queue.DSN)
		moverArgs = append(moverArgs, append(append([]string{"queue_mover"}, args...), moverINI))
	}
	queue.Exec(t, "select pgq.register_consumer('all_users', 'user_report')")
	tickAll(t, append(partitions, queue)...)

	reporter := start(t, report, reportArgs...)
	movers := []*exec.Cmd{start(t, skytools, moverArgs[0]...), start(t, skytools, moverArgs[1]...)}
	seen := int64(0)
	for round := range 6 {
		for p, db := range partitions {
			db.Exec(t, `insert into public.users select format('u%s.%s', $1::int, n), format('u%s+&=@x', n), n from generate_series($2::int, $2 + 199) n`, p, round*200)
			db.Exec(t, `update public.users set score = score + 1000, email = nullif(email, 'u7+&=@x') where hashtext(username || $1::int::text) % 3 = 0`, round)
			db.Exec(t, `delete from public.users where hashtext(username || $1::int::text) % 17 = 0`, round)
			db.Exec(t, `select public.login(username) from public.users where hashtext(username || $1::int::text) % 5 = 0`, round)
		}
		// When some more has come through, kill one of the three, and start it anew.
		target.WaitFor(t, "select coalesce(sum(events), 0) > $1 from report.batches", seen)
		seen = pgtest.Value[int64](t, target, "select sum(events)::bigint from report.batches")
		switch round % 3 {
		case 0, 2:
			kill(reporter)
			reporter = start(t, report, reportArgs...)
		case 1:
			for p := range movers {
				kill(movers[p])
				movers[p] = start(t, skytools, moverArgs[p]...)
			}
		}
	}

	const eventsSQL = "select count(*) from pgq.event_template"
	events := int64(0)
	for _, db := range partitions {
		events += pgtest.Value[int64](t, db, eventsSQL)
	}
	target.WaitFor(t, "select sum(events) >= $1 from report.batches", events)
	kill(reporter)
	for _, mover := range movers {
		kill(mover)
	}

	if got := pgtest.Value[int64](t, queue, eventsSQL); got != events {
		t.Errorf("%d events in the common queue, %d in the partitions", got, events)
	}
	if got := target.Rows(t, "select sum(events), (select sum(events) from report.latency) from report.batches"); got[0] != fmt.Sprintf("%[1]d|%[1]d", events) {
		t.Errorf("the report counts %s events (batches|latency), the partitions made %d", got[0], events)
	}
	for _, same := range []struct{ source, report string }{
		{"select username, email, score from public.users", "select username, email, score from report.users"},
		{"select username, logins from public.logins", "select username, logins from report.logins"},
	} {
		var want []string
		for _, db := range partitions {
			want = append(want, db.Rows(t, same.source)...)
		}
		got := target.Rows(t, same.report)
		slices.Sort(want)
		slices.Sort(got)
		if len(want) == 0 || !slices.Equal(want, got) {
			t.Errorf("%s: %d rows, the partitions have %d, or they differ", same.report, len(got), len(want))
		}
	}
	if got := target.Rows(t, `select report.latency_percentile(0) > 0, report.latency_percentile(0.5) <= report.latency_percentile(0.99),
			report.latency_percentile(1) = (select max(seconds) from report.latency)`); got[0] != "t|t|t" {
		t.Errorf("percentiles: %s", got[0])
	}
	t.Logf("%d events; latency p50 %.3f s, p99 %.3f s", events,
		pgtest.Value[float64](t, target, "select report.latency_percentile(0.5)"),
		pgtest.Value[float64](t, target, "select report.latency_percentile(0.99)"))
}

func TestReportRefusesEventsItCannotApply(t *testing.T) {
	t.Parallel()
	report := build(t, "goworkers/examples/user_report")
	for _, c := range []struct{ name, sql, want string }{
		{"a truncated table", "select pgq.insert_event('users', 'R', '', 'public.users', null, null, null)", "cannot apply type"},
		{"broken data", "select pgq.insert_event('users', 'user_login', 'username=%4')", "is no escape"},
		{"a login of nobody", "select pgq.insert_event('users', 'user_login', 'at=1')", "SQLSTATE 23502"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, target := pgtest.DB(t, "pgq"), reportDB(t)
			src.Exec(t, usersSQL)
			src.Exec(t, "select pgq.register_consumer('users', 'user_report')")
			src.Exec(t, "select public.login('before')")
			src.Exec(t, c.sql)
			src.Exec(t, "select pgq.ticker()")
			// Below 0 is one round: its error ends the program.
			args := append(settings(t, "queue_name=users", "src_db="+src.DSN, "dst_db="+target.DSN, "loop_delay=-1"), "user_report.ini")
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, report, args...).CombinedOutput()
			if err == nil || ctx.Err() != nil || !strings.Contains(string(out), c.want) {
				t.Errorf("error %v, output %s, want %q", err, out, c.want)
			}
			if got := target.Rows(t, "select * from report.logins"); len(got) != 0 {
				t.Errorf("a part of the batch stayed: %v", got)
			}
		})
	}
}

func TestReportTellsItsKeys(t *testing.T) {
	t.Parallel()
	report := build(t, "goworkers/examples/user_report")
	out, err := exec.Command(report, "--ini").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"[user_report]", "src_db", "dst_db", "queue_name", "consumer_name", "pgq_lazy_fetch"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the sample lacks %s:\n%s", want, out)
		}
	}
	// The ini file beside the program is complete and free of unknown keys.
	section, err := batch.Load("user_report.ini", "user_report", batch.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var cfg config
	if err := section.Decode(&cfg); err != nil {
		t.Error(err)
	}
	cmd := exec.Command(report, "--set", "src_db=", "user_report.ini")
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "[user_report] src_db") {
		t.Errorf("without src_db: %v, %s", err, out)
	}
}
