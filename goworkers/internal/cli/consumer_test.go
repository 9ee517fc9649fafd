package cli

// The commands of consumers: files as printed in the presentation, and processes that
// are killed.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// presented are the presentation's files, but for the connection strings.
var presented = map[string]string{
	"queue_mover": `[queue_mover]
job_name = eventlog_to_target_mover

src_db = dbname=oltpdb
dst_db = dbname=batchdb

pgq_queue_name = batch_events
dst_queue_name = batch_events

pidfile = log/%(job_name)s.pid
logfile = pid/%(job_name)s.log
`,
	"simple_consumer": `[simple_consumer]
job_name      = job_to_be_done
src_db        = dbname=sourcedb
dst_db        = dbname=targetdb
pgq_queue_name = event_queue
dst_query     =
    SELECT * FROM function_to_be_run(%(username)s, %(email)s);

logfile       = ~/log/%(job_name)s.log
pidfile       = ~/pid/%(job_name)s.pid
`,
}

func TestFilesOfThePresentationRunAsPrinted(t *testing.T) {
	for name, text := range presented {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dst := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq", "pgq_ext")
			src.Exec(t, "select pgq.create_queue('batch_events'); select pgq.create_queue('event_queue')")
			dst.Exec(t, `select pgq.create_queue('batch_events');
				alter database `+dst.Name+` set search_path = public;
				create table public.done (username text, email text);
				create function public.function_to_be_run(i_username text, i_email text) returns text language sql as $$
					insert into public.done values (i_username, i_email) returning 'OK' $$`)
			text = strings.NewReplacer("dbname=oltpdb", src.DSN, "dbname=sourcedb", src.DSN, "dbname=batchdb", dst.DSN, "dbname=targetdb", dst.DSN).Replace(text)
			home := t.TempDir()
			for _, dir := range []string{"log", "pid"} {
				if err := os.Mkdir(filepath.Join(home, dir), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			ini := filepath.Join(home, name+".ini")
			if err := os.WriteFile(ini, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			program := link(t, name)
			command := func(args ...string) *exec.Cmd {
				cmd := exec.Command(program, append(args, ini)...)
				cmd.Dir = home
				cmd.Env = append(os.Environ(), "HOME="+home)
				return cmd
			}
			if out, err := command("--register").CombinedOutput(); err != nil {
				t.Fatalf("--register: %v\n%s", err, out)
			}
			src.Exec(t, `select pgq.insert_event(q, 'I:username', 'username=' || u || '&email', 'public.users', null, null, null)
				from unnest(array['batch_events', 'event_queue']) q, unnest(array['ann', 'O%27Hara']) u`)
			src.Exec(t, `select pgq.force_tick(queue_name), pgq.ticker(queue_name) from pgq.queue`)
			if out, err := command("-d").CombinedOutput(); err != nil {
				t.Fatalf("-d: %v\n%s", err, out)
			}
			src.WaitFor(t, `select sub_last_tick = (select max(tick_id) from pgq.tick where tick_queue = sub_queue) from pgq.subscription`)
			if out, err := command("-s").CombinedOutput(); err != nil || !strings.Contains(string(out), "SIGINT sent") {
				t.Errorf("-s: %v\n%s", err, out)
			}
			got, want := dst.Rows(t, `select * from public.done`), []string{"ann|NULL", "O'Hara|NULL"}
			if name == "queue_mover" {
				got, want = dst.Rows(t, `select ev_data from pgq.event_template order by ev_id`), []string{"username=ann&email", "username=O%27Hara&email"}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			log, err := filepath.Glob(home + "/*/*.log")
			pidfile := func() bool { left, _ := filepath.Glob(home + "/*/*.pid"); return len(left) == 0 }
			if err != nil || len(log) != 1 {
				t.Errorf("the log is in %q, %v", log, err)
			}
			pgtest.Eventually(t, soon, "the daemon ends and takes its pid file along", pidfile)
		})
	}
}

// The help of each command shows a file that the command takes.
func TestFilesInTheHelpAreTaken(t *testing.T) {
	for _, command := range commands() {
		text := command.Description
		at := strings.Index(text, "\n   ["+command.Name+"]\n") + 1
		if at == 0 || !strings.Contains(text, command.Name+" -d ") {
			continue
		}
		t.Run(command.Name, func(t *testing.T) {
			section, _, _ := strings.Cut(text[at:], "\n\n   "+command.Name+" ")
			var lines []string
			for _, line := range strings.Split(section, "\n")[1:] {
				lines = append(lines, strings.TrimPrefix(line, "   "))
			}
			ini := setupIni(t, command.Name, strings.Join(lines, "\n"))
			// It names a pid file, so that it is misuse to look for a process only when
			// the file is refused.
			code, _, stderr := run(t, command.Name, "--set", "pidfile="+t.TempDir()+"/no.pid", "-s", ini)
			if code != 1 || !strings.Contains(stderr, "no.pid") {
				t.Errorf("%d, %s", code, stderr)
			}
		})
	}
}

func TestSamplesAreTakenOnceTheyAreFilledIn(t *testing.T) {
	for _, command := range commands() {
		if !slices.ContainsFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), "register") }) {
			continue
		}
		t.Run(command.Name, func(t *testing.T) {
			code, stdout, stderr := run(t, command.Name, "--ini")
			if code != 0 || stderr != "" || !strings.Contains(stdout, "["+command.Name+"]\n") {
				t.Fatalf("%d, %q, %q", code, stdout, stderr)
			}
			// The required keys stand open.
			filled := regexp.MustCompile(`(?m)^(\w+) =$`).ReplaceAllString(stdout, "$1 = dbname=x")
			_, body, _ := strings.Cut(filled, "["+command.Name+"]\n")
			ini := setupIni(t, command.Name, body)
			if code, _, stderr := run(t, command.Name, "--set", "pidfile="+t.TempDir()+"/no.pid", "-s", ini); code != 1 || !strings.Contains(stderr, "no.pid") {
				t.Errorf("%d, %s", code, stderr)
			}
		})
	}
}

// Processes that are killed somewhere in a batch, again and again.
func TestConsumersKeepCountThroughKills(t *testing.T) {
	const queueOfEvents = `select coalesce(sum(n), 0)::int from (select count(*) n from pgq.event_template) c`
	for _, c := range []struct {
		command, keys  string
		once           bool
		done, distinct string // queries for what the target has
	}{
		{"queue_splitter", "queue_field = ev_type", true, queueOfEvents, `select count(distinct ev_data)::int from pgq.event_template`},
		{"simple_consumer", "dst_query = insert into public.done values (%(n)s)", false, `select count(*)::int from public.done`, `select count(distinct n)::int from public.done`},
		{"simple_local_consumer", "local_tracking_file = %(config_dir)s/place.tick\ndst_query = insert into public.done values (%(n)s)", false, `select count(*)::int from public.done`, `select count(distinct n)::int from public.done`},
		{"simple_serial_consumer", "dst_query = insert into public.done values (%(n)s)", true, `select count(*)::int from public.done`, `select count(distinct n)::int from public.done`},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			src, dst := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq", "pgq_ext")
			src.Exec(t, "select pgq.create_queue('events')")
			// The sequence tells of work that was not committed, too.
			dst.Exec(t, `select pgq.create_queue('I:0'); select pgq.create_queue('I:1');
				create table public.done (n int, tried bigserial)`)
			const tried = `select coalesce((select sum(last_value) from (select last_value from public.done_tried_seq where is_called
				union all select last_value from pgq.event_1_id_seq where is_called union all select last_value from pgq.event_2_id_seq where is_called) s), 0) > $1::bigint`
			ini := setupIni(t, c.command, fmt.Sprintf("job_name = job\nsrc_db = %s\ndst_db = %s\nqueue_name = events\nloop_delay = 0.01\nexception_sleep = 0.01\n%s\n", src.DSN, dst.DSN, c.keys))
			program := link(t, c.command)
			if code, _, stderr := call(t, program, "--register", ini); code != 0 || !strings.Contains(stderr, "consumer registered") {
				t.Fatalf("--register: %d, %q", code, stderr)
			}
			const rounds, events = 8, 500
			producer := src.Conn(t)
			for round := range rounds {
				if _, err := producer.Exec(ctx, `select pgq.insert_event('events', 'I:' || n % 2, 'n=' || n) from generate_series($1::int, $2::int) n`,
					round*events+1, (round+1)*events); err != nil {
					t.Fatal(err)
				}
				if _, err := pgq.ForceTick(ctx, producer, "events"); err != nil {
					t.Fatal(err)
				}
				if _, err := pgq.Ticker(ctx, producer); err != nil {
					t.Fatal(err)
				}
				before := pgtest.Value[int64](t, dst, `select (select last_value from public.done_tried_seq) + (select last_value from pgq.event_1_id_seq) + (select last_value from pgq.event_2_id_seq)`)
				cmd := exec.Command(program, "-q", ini)
				cmd.Stderr = os.Stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				dst.WaitFor(t, tried, before+int64(round*37))
				if round == rounds-1 {
					src.WaitFor(t, `select s.sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription s`)
				}
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				_ = cmd.Wait() // it was killed
			}
			count, distinct := pgtest.Value[int](t, dst, c.done), pgtest.Value[int](t, dst, c.distinct)
			if distinct != rounds*events || c.once && count != distinct {
				t.Errorf("%d events, %d different ones, want %d", count, distinct, rounds*events)
			}
			t.Logf("%d events done, %d different ones", count, distinct)
			if code, _, stderr := call(t, program, "--unregister", ini); code != 0 {
				t.Errorf("--unregister: %d, %q", code, stderr)
			}
		})
	}
}

func TestDataMaintainerKeepsCountThroughKills(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", "autocommit = 0\n"} {
		db := pgtest.DB(t)
		const rows = 1000
		db.Exec(t, fmt.Sprintf(`create table public.service (id int, touched int not null default 0); insert into public.service select generate_series(1, %d)`, rows))
		ini := setupIni(t, "data_maintainer", fmt.Sprintf("pidfile = %s/job.pid\ndbread = %s\ndbwrite = %[2]s\nfetch_count = 10\ncommit_delay = 0.001\n"+
			"sql_get_pk_list = select id from public.service where touched = 0\n"+
			"sql_modify = update public.service set touched = touched + 1 where id = %%(id)s and touched = 0\n%s", t.TempDir(), db.DSN, more))
		program := link(t, "data_maintainer")
		for round := range 5 {
			cmd := exec.Command(program, "-q", ini)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			db.WaitFor(t, "select sum(touched) > $1 from public.service", round*100)
			if round == 2 { // this time it may end its commit
				if code, _, stderr := call(t, program, "-s", ini); code != 0 {
					t.Errorf("-s: %d, %q", code, stderr)
				}
				if err := cmd.Wait(); err != nil {
					t.Errorf("stopped by -s: %v", err)
				}
				continue
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it was killed
		}
		if left := pgtest.Value[int](t, db, "select count(*)::int from public.service where touched = 0"); left == 0 {
			t.Error("the processes were too fast to be killed in the middle")
		}
		code, _, stderr := call(t, program, ini)
		if code != 0 || !strings.Contains(stderr, "run finished") {
			t.Errorf("%d, %q", code, stderr)
		}
		if got := db.Rows(t, "select touched, count(*) from public.service group by 1"); !slices.Equal(got, []string{fmt.Sprintf("1|%d", rows)}) {
			t.Errorf("touched|count = %v", got)
		}
	}
}

func TestDataMaintainerRefusesBadInput(t *testing.T) {
	t.Parallel()
	const good = "dbwrite = dbname=b\nsql_modify = select %(a)s\n"
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "sql_modify: is missing"},
		{"no source", good, "sql_get_pk_list: is missing, and so is fileread"},
		{"two sources", good + "dbread = dbname=a\nsql_get_pk_list = select 1\nfileread = x\n", `fileread = "x": stands beside sql_get_pk_list`},
		{"no dbread", good + "sql_get_pk_list = select 1\n", "dbread: is missing"},
		{"two statements", "dbwrite = dbname=b\nsql_modify = select 1; select %(a)s\nfileread = x\n", "is more than one statement"},
		{"a parameter that a hook does not have", good + "fileread = x\nsql_before_run = select %(rows)s\n", "sql_before_run = \"select %(rows)s\": has %(rows)s; it may have %(job_name)s"},
		{"a delimiter of two", good + "fileread = x\ncsv_delimiter = ;;\n", "csv_delimiter = \";;\": must be one character"},
		{"rows to skip of a query", good + "dbread = dbname=a\nsql_get_pk_list = select 1\nskip_rows = 1\n", "skip_rows = \"1\": is for fileread"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ini := setupIni(t, "data_maintainer", c.text)
			code, stdout, stderr := run(t, "data_maintainer", ini)
			if code != 2 || stdout != "" || !strings.Contains(stderr, ini+": [data_maintainer] ") || !strings.Contains(stderr, c.want) {
				t.Errorf("%d, %q, %q, want 2 and %q", code, stdout, stderr, c.want)
			}
		})
	}
	d := pgtest.DB(t)
	ini := setupIni(t, "data_maintainer", "dbwrite = "+d.DSN+"\nsql_modify = select %(a)s::text\nfileread = /no/such.csv\n")
	if code, _, stderr := run(t, "data_maintainer", ini); code != 1 || !strings.Contains(stderr, ini+": [data_maintainer] fileread: open /no/such.csv: no such file or directory") {
		t.Errorf("%d, %q", code, stderr)
	}
}

func TestSimpleConsumersRefuseBadStatements(t *testing.T) {
	for _, command := range []string{"simple_consumer", "simple_serial_consumer"} {
		for _, c := range []struct{ name, query, want string }{
			{"none", "", "dst_query: is missing"},
			{"two", "select 1; select 2", `is more than one statement; write a function`},
			{"quotes", "select '%(a)s'", "has %(a)s inside of quotes; take the quotes off"},
			{"no field", "select %(pgq.id)s", "the fields of an event are pgq.tick_id"},
		} {
			t.Run(command+"/"+c.name, func(t *testing.T) {
				text := "src_db = dbname=a\ndst_db = dbname=b\nqueue_name = q\n"
				if c.query != "" {
					text += "dst_query = " + c.query + "\n"
				}
				ini := setupIni(t, command, text)
				code, stdout, stderr := run(t, command, ini)
				if code != 2 || stdout != "" || !strings.Contains(stderr, ini+": ["+command+"] dst_query") || !strings.Contains(stderr, c.want) {
					t.Errorf("%d, %q, %q, want 2 and %q", code, stdout, stderr, c.want)
				}
			})
		}
	}
	ini := setupIni(t, "simple_consumer", "src_db = dbname=a\ndst_db = dbname=b\nqueue_name = q\ndst_query = select 1\nconsumer_slots = 2\nconsumer_workers = 2\n")
	if code, _, stderr := run(t, "simple_consumer", ini); code != 2 || !strings.Contains(stderr, "[simple_consumer] consumer_workers: has no workers side by side") {
		t.Errorf("consumer_workers: %d, %q", code, stderr)
	}
}
