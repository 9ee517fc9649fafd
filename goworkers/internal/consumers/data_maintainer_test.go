package consumers

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"goworkers/batch"
	"goworkers/internal/pgtest"
)

// maintain does one run.
func maintain(t *testing.T, text string) (string, error) {
	t.Helper()
	var cfg DataMaintainerConfig
	load(t, DataMaintainerService, &cfg, text)
	return drain(t, DataMaintainerService, cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewDataMaintainer(job, cfg) })
}

// services makes two databases with one table; that of the first is the list.
func services(t *testing.T, rows int) (read, write *pgtest.Database) {
	t.Helper()
	read, write = pgtest.DB(t), pgtest.DB(t)
	for _, db := range []*pgtest.Database{read, write} {
		db.Exec(t, fmt.Sprintf(`create table public.service (id int, username text, expires timestamptz, touched int not null default 0);
			insert into public.service select n, case n %% 4 when 0 then 'O''Hara' when 1 then 'Õie 日本' when 2 then null else E'tab\t"x"\\' end,
				'2008-05-20 10:00:00.5+03'::timestamptz + n * '1 day'::interval from generate_series(1, %d) n`, rows))
	}
	return read, write
}

func maintainText(read, write *pgtest.Database, more string) string {
	return fmt.Sprintf("job_name = maintainer\ndbread = %s\ndbwrite = %s\nsql_get_pk_list = select id, username, expires from public.service order by id;\n%s", read.DSN, write.DSN, more)
}

// touchSQL touches the row that it means, and shows when that happens twice.
const touchSQL = "sql_modify = update public.service set touched = touched + 1\n" +
	"   where id = %(id)s and username is not distinct from %(username)s and expires = %(expires)s -- 100 %% the same\n"

func TestMaintainerModifiesEachRow(t *testing.T) {
	for _, c := range []struct{ name, more string }{
		{"each by itself", ""},
		{"a portion at a time", "autocommit = 0\nfetch_count = 7\n"},
		{"under an open transaction", "with_hold = 0\nautocommit = 0\nfetch_count = 7\n"},
		{"resting", "commit_delay = 0.001\nautocommit = 0\nfetch_count = 50\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			read, write := services(t, 100)
			log, err := maintain(t, maintainText(read, write, touchSQL+c.more))
			if err != nil {
				t.Fatal(err)
			}
			if err := sameRows(write.Rows(t, "select touched, count(*) from public.service group by 1"), []string{"1|100"}); err != nil {
				t.Error(err)
			}
			if !strings.Contains(log, "run finished") || !strings.Contains(log, "rows=100") || !strings.Contains(log, "modified=100") {
				t.Errorf("the log is %s", log)
			}
		})
	}
}

func TestMaintainerReadsAFile(t *testing.T) {
	t.Parallel()
	write := pgtest.DB(t)
	write.Exec(t, "create table public.got (n bigserial, a text, b int)")
	big := strings.Repeat("Õ\"'\n", 10<<20/5)
	path := filepath.Join(t.TempDir(), "rows.csv")
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	_ = w.WriteAll([][]string{{"Name, full", "n"}, {"O'Hara; \"x\"", "1"}, {"", ""}, {big, "3"}, {"日本", "4"}})
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "job_name = m\nfileread = " + path + "\ncsv_empty_null = 1\nfetch_count = 3\nautocommit = 0\ndbwrite = " + write.DSN +
		"\nsql_modify = insert into public.got (a, b) values (%(Name, full)s, %(n)s)\n"
	if _, err := maintain(t, text); err != nil {
		t.Fatal(err)
	}
	want := []string{"O'Hara; \"x\"|1", "NULL|NULL", big + "|3", "日本|4"}
	if err := sameRows(write.Rows(t, "select a, b from public.got order by n"), want); err != nil {
		t.Error(err)
	}
	if _, err := maintain(t, text+"skip_rows = 3\n"); err != nil {
		t.Fatal(err)
	}
	if err := sameRows(write.Rows(t, "select a, b from public.got order by n"), append(want, want[3])); err != nil {
		t.Error(err)
	}
}

// A file whose end is broken: what stands before is done, and the error says how to go
// on.
func TestMaintainerStopsAtABrokenLine(t *testing.T) {
	t.Parallel()
	write := pgtest.DB(t)
	write.Exec(t, "create table public.got (n bigserial, b int)")
	path := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(path, []byte("n;x\n1;1\n2;2\n3;3\n4\n5;5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "job_name = m\nfileread = " + path + "\ncsv_delimiter = ;\nfetch_count = 2\nautocommit = 0\ndbwrite = " + write.DSN +
		"\nsql_modify = insert into public.got (b) values (%(n)s)\n"
	log, err := maintain(t, text)
	if err == nil || !strings.Contains(err.Error(), path+": line 5 has 1 fields") || !strings.Contains(log, "go on with --set skip_rows=3") {
		t.Errorf("error %v, log %s", err, log)
	}
	if err := os.WriteFile(path, []byte("n;x\n1;1\n2;2\n3;3\n4;4\n5;5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := maintain(t, text+"skip_rows = 3\n"); err != nil {
		t.Fatal(err)
	}
	if err := sameRows(write.Rows(t, "select b from public.got order by n"), []string{"1", "2", "3", "4", "5"}); err != nil {
		t.Error(err)
	}
}

func TestMaintainerRunsItsOtherStatements(t *testing.T) {
	const hooks = "sql_before_run = insert into public.said values ('before ' || %(job_name)s)\n" +
		"sql_after_run = insert into public.said values (%(job_name)s || ' did ' || %(rows)s)\n" +
		"sql_on_crash = insert into public.said values (%(job_name)s || ' failed after ' || %(rows)s || ': ' || %(error)s)\n"
	for _, c := range []struct {
		name, more string
		want       []string
		fault      string
	}{
		{"all is well", touchSQL, []string{"before maintainer", "maintainer did 5"}, ""},
		{"a row fails", "sql_modify = select 1 / (%(id)s - 3)\n", []string{"before maintainer", "maintainer failed after 2: %"}, `[data_maintainer] sql_modify: row 3 (id "3"): ERROR: division by zero (SQLSTATE 22012)`},
		{"a row of a portion fails", "autocommit = 0\nfetch_count = 2\nsql_modify = select 1 / (%(id)s - 4)\n", []string{"before maintainer", "maintainer failed after 2: %"}, `sql_modify: row 4 (id "4"): ERROR: division by zero`},
		{"no such column", "sql_modify = select %(nothing)s\n", []string{"before maintainer", "maintainer failed after 0: %"}, `[data_maintainer] sql_modify: needs the column "nothing", but the rows have id, username, expires`},
		{"a statement that the server refuses", "sql_modify = selekt %(id)s\n", []string{"before maintainer", "maintainer failed after 0: %"}, `[data_maintainer] sql_modify: the server refuses the statement: ERROR: syntax error`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			read, write := services(t, 5)
			write.Exec(t, "create table public.said (what text, n bigserial)")
			_, err := maintain(t, maintainText(read, write, c.more+hooks))
			if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("error %v\nwant %q", err, c.fault)
			}
			got := write.Rows(t, "select what from public.said order by n")
			if len(got) != len(c.want) {
				t.Fatalf("said %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if start, open := strings.CutSuffix(want, "%"); open && (!strings.HasPrefix(got[i], start) || !strings.Contains(got[i], c.fault)) || !open && got[i] != want {
					t.Errorf("said %q, want %q", got[i], want)
				}
			}
		})
	}
}

func TestMaintainerWithoutRows(t *testing.T) {
	t.Parallel()
	read, write := services(t, 0)
	write.Exec(t, "create table public.said (what text)")
	text := maintainText(read, write, touchSQL+"dbafter = "+read.DSN+"\nsql_after_run = insert into public.said values ('after'); select 1\n")
	read.Exec(t, "create table public.said (what text)")
	for _, after := range []string{"0", "1"} {
		if _, err := maintain(t, text+"after_zero_rows = "+after+"\n"); err != nil {
			t.Fatal(err)
		}
		if got := pgtest.Value[int](t, read, "select count(*)::int from public.said"); fmt.Sprint(got) != after {
			t.Errorf("after_zero_rows = %s: sql_after_run ran %d times", after, got)
		}
	}
}

func TestMaintainerWaitsWhileItIsThrottled(t *testing.T) {
	t.Parallel()
	read, write := services(t, 5)
	read.Exec(t, "create table public.lag as select true as high")
	var cfg DataMaintainerConfig
	load(t, DataMaintainerService, &cfg, maintainText(read, write, touchSQL+"dbthrottle = "+read.DSN+"\nsql_throttle = select high from public.lag\n"))
	job, log := newJob(t, DataMaintainerService, cfg.JobConfig)
	worker, err := NewDataMaintainer(job, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- job.Run(context.Background(), worker.Work) }()
	pgtest.Eventually(t, 10*time.Second, "it waits", func() bool { return strings.Contains(log.String(), "sql_throttle has the run wait") })
	if n := pgtest.Value[int](t, write, "select sum(touched)::int from public.service"); n != 0 {
		t.Errorf("%d rows were touched meanwhile", n)
	}
	read.Exec(t, "update public.lag set high = false")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := pgtest.Value[int](t, write, "select sum(touched)::int from public.service"); n != 5 || !strings.Contains(log.String(), "sql_throttle lets the run go on") {
		t.Errorf("%d rows were touched, log %s", n, log)
	}
}

// The operator wants it to end while it rests after its first commit.
func TestMaintainerEndsBetweenTwoCommits(t *testing.T) {
	t.Parallel()
	read, write := services(t, 10)
	for _, more := range []string{"", "autocommit = 0\nfetch_count = 2\n"} {
		write.Exec(t, "update public.service set touched = 0; create table if not exists public.said (what text)")
		var cfg DataMaintainerConfig
		load(t, DataMaintainerService, &cfg, maintainText(read, write, touchSQL+more+
			"commit_delay = 3600\nsql_after_run = insert into public.said values ('after')\nsql_on_crash = insert into public.said values ('crash')\n"))
		job, log := newJob(t, DataMaintainerService, cfg.JobConfig)
		stop := make(chan struct{})
		job.Signals = &batch.Signals{Stop: stop}
		worker, err := NewDataMaintainer(job, cfg)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- job.Run(context.Background(), worker.Work) }()
		write.WaitFor(t, "select sum(touched) > 0 from public.service")
		close(stop)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		want := "1"
		if more != "" {
			want = "2"
		}
		if got := write.Rows(t, "select sum(touched) from public.service"); got[0] != want || !strings.Contains(log.String(), "run stopped between two commits") {
			t.Errorf("%s rows were touched, want %s; log %s", got[0], want, log)
		}
		if got := write.Rows(t, "select what from public.said"); len(got) != 0 {
			t.Errorf("said %q", got)
		}
	}
}

// A run that ends at any step leaves whole commits, and the next one does the rest: the
// statement has the condition of the list, so nothing is done twice.
func TestMaintainerSurvivesAStopAtAnyStep(t *testing.T) {
	for _, more := range []string{"", "autocommit = 0\n"} {
		t.Run("with "+more, func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t)
			db.Exec(t, "create table public.service (id int generated always as identity, touched int not null default 0)")
			faults := pgtest.NewFaults(t)
			through := faults.Through(t, db)
			text := fmt.Sprintf("job_name = m\ndbread = %s\ndbwrite = %[1]s\nfetch_count = 2\nsql_get_pk_list = select id from public.service where touched = 0\n"+
				"sql_modify = update public.service set touched = touched + 1 where id = %%(id)s and touched = 0\n%s", through.DSN, more)
			rows := 0
			produce := func() {
				db.Exec(t, "insert into public.service select from generate_series(1, 5)")
				rows += 5
			}
			stopAtEachStep(t, faults, produce, func() error {
				_, err := maintain(t, text)
				if err != nil && strings.Contains(err.Error(), "sql_on_crash") {
					t.Errorf("there is no sql_on_crash: %v", err)
				}
				return err
			}, func() error {
				return sameRows(db.Rows(t, "select touched, count(*) from public.service group by 1"), []string{fmt.Sprintf("1|%d", rows)})
			})
		})
	}
}

// A job with loop_delay goes on by itself when its server comes back.
func TestMaintainerGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	db := server.DB(t)
	db.Exec(t, "create table public.service (id int generated always as identity, touched int not null default 0); insert into public.service select from generate_series(1, 1000)")
	var cfg DataMaintainerConfig
	load(t, DataMaintainerService, &cfg, fmt.Sprintf("job_name = m\ndbread = %s\ndbwrite = %[1]s\nloop_delay = 0.01\ncommit_delay = 0.005\n"+
		"sql_get_pk_list = select id from public.service where touched = 0\nsql_modify = update public.service set touched = touched + 1 where id = %%(id)s and touched = 0\n", db.DSN))
	log := running(t, DataMaintainerService, cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewDataMaintainer(job, cfg) })
	db.WaitFor(t, "select sum(touched) > 20 from public.service")
	server.Stop(t)
	pgtest.Eventually(t, 10*time.Second, "the loss is in the log", func() bool { return strings.Contains(log.String(), "work failed") })
	server.Start(t)
	pgtest.Eventually(t, time.Minute, "all rows are done", func() bool {
		return slices.Equal(db.Rows(t, "select touched, count(*) from public.service group by 1"), []string{"1|1000"})
	})
}

func TestMaintainerTellsItsProgress(t *testing.T) {
	t.Parallel()
	read, write := services(t, 300)
	var cfg DataMaintainerConfig
	load(t, DataMaintainerService, &cfg, maintainText(read, write, touchSQL+"stats_period = 0.001\n"))
	var terminal bytes.Buffer
	cfg.Progress = &terminal
	log, err := drain(t, DataMaintainerService, cfg.JobConfig, func(job *batch.Job) (batch.Worker, error) { return NewDataMaintainer(job, cfg) })
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"progress", "total=300", "eta=", "rate=", "rows=300"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q: %.300s", want, log)
		}
	}
	if line := terminal.String(); !strings.Contains(line, " of 300 rows, ") || !strings.Contains(line, " left\r") || !strings.HasSuffix(line, "\x1b[K") {
		t.Errorf("the terminal shows %q", line)
	}
}
