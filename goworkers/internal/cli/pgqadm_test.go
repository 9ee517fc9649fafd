package cli

// pgqadm as an operator uses it, on a real server.

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"goworkers/internal/pgtest"
)

// setupIni writes an ini file for a database.
func setupIni(t *testing.T, section, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), section+".ini")
	if err := os.WriteFile(path, []byte("["+section+"]\n"+text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func setupPgqadm(t *testing.T, extensions ...string) (*pgtest.Database, func(args ...string) (int, string, string)) {
	t.Helper()
	d := pgtest.DB(t, extensions...)
	ini := setupIni(t, "pgqadm", "db = "+d.DSN)
	return d, func(args ...string) (int, string, string) {
		t.Helper()
		code, stdout, stderr := run(t, append([]string{"pgqadm", ini}, args...)...)
		return code, strings.ReplaceAll(stdout, ini, "INI"), strings.ReplaceAll(stderr, ini, "INI")
	}
}

// expect runs one admin command and compares all it says.
func expect(t *testing.T, pgqadm func(args ...string) (int, string, string), args string, code int, stdout, stderr string) {
	t.Helper()
	gotCode, gotOut, gotErr := pgqadm(strings.Fields(args)...)
	if gotCode != code || gotOut != stdout || gotErr != stderr {
		t.Errorf("pgqadm INI %s:\ngot  %d, %q, %q\nwant %d, %q, %q", args, gotCode, gotOut, gotErr, code, stdout, stderr)
	}
}

func TestPgqadmFromInstallToDrop(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t)
	expect(t, pgqadm, "status", 1, "", fmt.Sprintf("pgqadm: INI: [pgqadm] db: pgq is not installed in database %q; install it with: pgqadm INI install\n", d.Name))
	expect(t, pgqadm, "install", 0, "pgq 4.0 installed\n", "")
	expect(t, pgqadm, "install", 0, "pgq 4.0 is installed already\n", "")
	expect(t, pgqadm, "create q", 0, "queue q created\n", "")
	expect(t, pgqadm, "create q", 0, "queue q exists already\n", "")
	expect(t, pgqadm, "register q c", 0, "consumer c registered on queue q\n", "")
	expect(t, pgqadm, "register q c", 0, "consumer c is registered on queue q already\n", "")
	if got := pgtest.Value[string](t, d, `select queue_name || '/' || consumer_name from pgq.get_consumer_info()`); got != "q/c" {
		t.Errorf("the database has %s", got)
	}

	const missing = "pgqadm: queue \"nope\" does not exist; create it with: pgqadm INI create nope\n"
	expect(t, pgqadm, "register nope c", 1, "", missing)
	expect(t, pgqadm, "drop nope", 1, "", missing)
	expect(t, pgqadm, "config nope", 1, "", missing)
	expect(t, pgqadm, "config nope ticker_paused=1", 1, "", missing)

	code, stdout, stderr := pgqadm("drop", "q")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "consumers still attached (SQLSTATE PGQ08)") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("drop with a consumer: %d, %q, %q", code, stdout, stderr)
	}
	expect(t, pgqadm, "unregister q other", 1, "", "pgqadm: consumer \"other\" is not registered on queue \"q\"; list them with: pgqadm INI status\n")
	expect(t, pgqadm, "unregister q c", 0, "consumer c removed from queue q\n", "")
	expect(t, pgqadm, "register q c", 0, "consumer c registered on queue q\n", "")
	expect(t, pgqadm, "drop q --force", 0, "queue q dropped\n", "")
	if n := pgtest.Value[int64](t, d, `select count(*) from pgq.queue`); n != 0 {
		t.Errorf("%d queues are left", n)
	}
}

func TestPgqadmConfig(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q')`)
	expect(t, pgqadm, "config q queue_ticker_max_lag=0.5s ticker_max_count=7", 0,
		"q\n    ticker_max_count = 7\n    ticker_max_lag = 0.5s\n    ticker_idle_period = 60s\n    ticker_min_lag = 0.025s\n"+
			"    ticker_paused = false\n    external_ticker = false\n    notify = false\n    rotation_period = 7200s\n    retention = none\n"+
			"    consumer_expiry = none\n    disable_insert = false\n    per_tx_limit = none\n    extra_maint = none\n", "")
	// what config shows, it takes
	expect(t, pgqadm, "config q ticker_idle_period=60s rotation_period=7200s --json", 0,
		`{
  "q": {
    "consumer_expiry": null,
    "disable_insert": "false",
    "external_ticker": "false",
    "extra_maint": null,
    "notify": "false",
    "per_tx_limit": null,
    "retention": null,
    "rotation_period": "7200s",
    "ticker_idle_period": "60s",
    "ticker_max_count": "7",
    "ticker_max_lag": "0.5s",
    "ticker_min_lag": "0.025s",
    "ticker_paused": "false"
  }
}
`, "")
	// all or nothing
	expect(t, pgqadm, "config q ticker_max_count=8 ticker_max_lag=soon", 1, "",
		"pgqadm: set ticker_max_lag of queue \"q\" to \"soon\": invalid input syntax for type interval: \"soon\" (SQLSTATE 22007)\n")
	if n := pgtest.Value[int64](t, d, `select queue_ticker_max_count::int8 from pgq.queue`); n != 7 {
		t.Errorf("ticker_max_count is %d after a failure, want 7", n)
	}
	expect(t, pgqadm, "config q speed=9", 2, "", "pgqadm: config: unknown parameter \"speed\"; it is one of ticker_max_count, ticker_max_lag, "+
		"ticker_idle_period, ticker_min_lag, ticker_paused, external_ticker, notify, rotation_period, retention, consumer_expiry, "+
		"disable_insert, per_tx_limit, extra_maint\n")
	expect(t, pgqadm, "config q ticker_max_lag=none", 2, "", "pgqadm: config: ticker_max_lag must have a value; only these may be none: "+
		"retention, consumer_expiry, per_tx_limit, extra_maint\n")
	expect(t, pgqadm, "config q ticker_max_count", 2, "", "pgqadm: config: \"ticker_max_count\" is not KEY=VALUE\n")
}

func TestPgqadmMisuse(t *testing.T) {
	t.Parallel()
	_, pgqadm := setupPgqadm(t)
	names := "install, version, ticker, status, check, blockers, create, drop, config, rebase, register, unregister, " +
		"consumer-config, pause, resume, seek, dlq, shell"
	expect(t, pgqadm, "", 2, "", "pgqadm: no command given; behind the ini file stands one of "+names+"\n")
	expect(t, pgqadm, "fly", 2, "", "pgqadm: unknown command \"fly\"; it is one of "+names+"\n")
	expect(t, pgqadm, "-d ticker", 2, "", "pgqadm: option -d stands behind the ini file; usage: pgqadm [options] CONFIG.ini COMMAND [arguments]\n")
	expect(t, pgqadm, "create", 2, "", "pgqadm: wrong number of arguments; usage: pgqadm [options] CONFIG.ini create QUEUE\n")
	expect(t, pgqadm, "create a b", 2, "", "pgqadm: wrong number of arguments; usage: pgqadm [options] CONFIG.ini create QUEUE\n")
	if code, _, stderr := run(t, "pgqadm", "x.ini", "create", ""); code != 2 || stderr != "pgqadm: argument 1 of create is empty\n" {
		t.Errorf("empty name: %d, %q", code, stderr)
	}
	expect(t, pgqadm, "create a --force", 2, "", "pgqadm: create has no option --force; usage: pgqadm [options] CONFIG.ini create QUEUE\n")
}

func TestPgqadmBadInput(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t)
	d.Exec(t, `create schema pgq; create function pgq.version() returns text language sql as $$ select '2.1.8'::text $$`)
	for _, tc := range []struct {
		name, text string
		code       int
		want       []string // one line each
	}{
		{"unknown key", "db = dbname=x\nloop_dely = 1", 2, []string{`[pgqadm] loop_dely = "1": unknown key; did you mean "loop_delay"?`}},
		{"wrong types and a missing key", "loop_delay = soon\nlog_count = many", 2, []string{
			`[pgqadm] log_count = "many": is not a whole number`,
			`[pgqadm] db: is missing; add db = … (connection string of the queue database (example: dbname=mydb host=127.0.0.1))`,
			`[pgqadm] loop_delay = "soon": is not a time span; write seconds (0.5) or a number with a unit (500ms, 10min, 1h)`,
		}},
		{"a period that spins", "db = dbname=x\nloop_delay = 0", 2, []string{
			`[pgqadm] loop_delay = "0": is too short; write 0.001 (seconds) or more, or a number with a unit (500ms)`,
		}},
		{"unreachable", "db = host=127.0.0.1 port=1 dbname=x user=y password=secret", 1, []string{
			`[pgqadm] db: cannot connect to database "x" at 127.0.0.1:1 as user "y": connection refused; start the server, or correct host and port`,
		}},
		{"no such database", "db = " + strings.Replace(d.DSN, "dbname="+d.Name, "dbname=nowhere", 1), 1, []string{
			`[pgqadm] db: cannot connect to database "nowhere" at SERVER as user "postgres": database "nowhere" does not exist (SQLSTATE 3D000); create the database, or correct dbname`,
		}},
		{"old pgq", "db = " + d.DSN, 1, []string{
			fmt.Sprintf(`[pgqadm] db: database %q has pgq 2.1.8, but 3.0 or newer is needed; update it with: alter extension pgq update`, d.Name),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ini := setupIni(t, "pgqadm", tc.text)
			code, stdout, stderr := run(t, "pgqadm", ini, "status")
			stderr = regexp.MustCompile(`127\.0\.0\.1:\d{2,}`).ReplaceAllString(stderr, "SERVER")
			want := ""
			for _, line := range tc.want {
				if !strings.HasPrefix(line, "pgqadm: ") {
					line = "pgqadm: " + ini + ": " + line
				}
				want += line + "\n"
			}
			if code != tc.code || stdout != "" || stderr != want {
				t.Errorf("got %d, %q, %q\nwant %d, %q", code, stdout, stderr, tc.code, want)
			}
		})
	}
	code, _, stderr := run(t, "pgqadm", "/nowhere/x.ini", "status")
	if code != 2 || stderr != "pgqadm: /nowhere/x.ini: cannot read the configuration file: no such file or directory; give the path of an ini file\n" {
		t.Errorf("missing file: %d, %q", code, stderr)
	}
	ini := setupIni(t, "pgqd", "")
	code, _, stderr = run(t, "pgqadm", ini, "status")
	if want := "pgqadm: " + ini + ": [pgqadm]: section not found; the file has [pgqd]; --ini prints a sample\n"; code != 2 || stderr != want {
		t.Errorf("other section: %d, %q", code, stderr)
	}
}

func ptr[T any](v T) *T { return &v }

func TestStatusTables(t *testing.T) {
	t.Parallel()
	s := status{Postgres: "15.4", PgQ: "4.0", Queues: []queueStatus{
		{Name: "events", Tables: 3, RotationPeriod: 7200, MaxCount: 500, MaxLag: 3, IdlePeriod: 60,
			TickerLag: ptr(4.4), EventsPerSecond: ptr(12.34), New: ptr(int64(7)), Consumers: []consumerStatus{
				{Name: "mover", Lag: ptr(61.0), LastSeen: ptr(2.0), Pending: ptr(int64(99))},
				{Name: "mover.idle", LastSeen: ptr(5.0)},
			}},
		{Name: "a_queue_with_a_name_that_is_too_long_for_its_column", Tables: 3, RotationPeriod: 60, MaxCount: 1, MaxLag: 0, IdlePeriod: 60},
	}}
	var b strings.Builder
	if err := s.print(&b); err != nil {
		t.Fatal(err)
	}
	want := `Postgres version: 15.4   PgQ version: 4.0

Event queue                    Rotation          Ticker   TLag     EPS     New
------------------------------------------------------------------------------
events                          3/7200s      500/3s/60s     4s    12.3       7
a_queue_with_a_name_that_is_too_long_for_its_column
                                  3/60s        1/0s/60s   NULL    NULL    NULL
------------------------------------------------------------------------------

Consumer                                               Lag  LastSeen   Pending
------------------------------------------------------------------------------
events:
  mover                                                61s        2s        99
  mover.idle                                          NULL        5s      NULL
------------------------------------------------------------------------------
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStatusOfADatabase(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.create_queue('r'); select pgq.register_consumer('q', 'c')`)
	for _, sql := range []string{
		`select pgq.insert_event('q', 't', 'd') from generate_series(1, 5)`,
		`update pgq.queue set queue_ticker_max_lag = '0'`,
		`select pgq.ticker('q')`,
		`update pgq.queue set queue_ticker_max_lag = '3 s'`,
		`select pgq.insert_event('q', 't', 'd') from generate_series(1, 2)`,
	} {
		d.Exec(t, sql)
	}
	code, stdout, stderr := pgqadm("status")
	if code != 0 || stderr != "" {
		t.Fatalf("got %d, %q", code, stderr)
	}
	for _, want := range []string{
		`(?m)^Postgres version: 1\d.*   PgQ version: 4\.0$`,
		`(?m)^q {24,}3/7200s      500/3s/60s +\d+s +[\d.]+       2$`,
		`(?m)^r {24,}3/7200s      500/3s/60s +\d+s    NULL       0$`,
		`(?m)^q:\n  c +\d+s +\d+s         5$`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("no line like %s in\n%s", want, stdout)
		}
	}
	code, stdout, _ = pgqadm("status", "--json")
	var s status
	if err := json.Unmarshal([]byte(stdout), &s); code != 0 || err != nil {
		t.Fatalf("--json: %d, %v", code, err)
	}
	if len(s.Queues) != 2 || len(s.Queues[0].Consumers) != 1 || *s.Queues[0].Consumers[0].Pending != 5 || *s.Queues[1].LastTick != 1 {
		t.Errorf("--json: %s", stdout)
	}
}

func TestCheckNamesTroubles(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.create_queue('p'); select pgq.register_consumer('q', 'c')`)
	expect(t, pgqadm, "check", 0, "no problem found, 2 queue(s) looked at\n", "")
	expect(t, pgqadm, "check --json", 0, "[]\n", "")
	d.Exec(t, `update pgq.tick set tick_time = now() - interval '3 hours' where tick_queue = 1;
		update pgq.queue set queue_ticker_paused = true where queue_name = 'p'`)
	// Seconds pass meanwhile.
	steady := func(args ...string) (int, string, string) {
		code, stdout, stderr := pgqadm(args...)
		return code, regexp.MustCompile(`108\d\ds`).ReplaceAllString(stdout, "10800s"), stderr
	}
	expect(t, steady, "check", 1, "queue p: the ticker is paused; resume with: pgqadm INI config p ticker_paused=false\n"+
		"queue q: the last tick is 10800s old; is the ticker running? start it with: pgqadm -d INI ticker, or read its log\n"+
		"queue q, consumer c: lags by 10800s and holds up the rotation (every 7200s); start it, or remove it with: pgqadm INI unregister q c\n",
		"pgqadm: 3 problem(s) found\n")
}

// A consumer that lags is told long before it holds up a rotation, unless it is paused
// or has done all there is.
func TestCheckNamesConsumersThatLag(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.register_consumer('q', 'c');
		update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	d.Exec(t, `update pgq.tick set tick_time = now() - interval '1200 seconds'`)
	steady := func(args ...string) (int, string, string) {
		code, stdout, stderr := pgqadm(args...)
		return code, regexp.MustCompile(`12\d\ds`).ReplaceAllString(stdout, "1200s"), stderr
	}
	expect(t, steady, "check", 1, "queue q: the last tick is 1200s old; is the ticker running? start it with: pgqadm -d INI ticker, or read its log\n",
		"pgqadm: 1 problem(s) found\n")
	d.Exec(t, `select pgq.ticker('q')`)
	told := "queue q, consumer c: lags by 1200s, of which %s are allowed (check_lag); is it running, and is it fast enough? read its log\n"
	expect(t, steady, "check", 1, fmt.Sprintf(told, "15m0s"), "pgqadm: 1 problem(s) found\n")
	expect(t, steady, "check --lag 60", 1, fmt.Sprintf(told, "1m0s"), "pgqadm: 1 problem(s) found\n")
	expect(t, steady, "check --lag 3600", 0, "no problem found, 1 queue(s) looked at\n", "")
	expect(t, steady, "check --lag soon", 2, "", "pgqadm: --lag \"soon\": give a whole number, 1 or more\n")
	d.Exec(t, `select pgq.pause_consumer('q', 'c')`)
	expect(t, steady, "check", 1, "queue q, consumer c: is paused; resume with: pgqadm INI resume q c\n", "pgqadm: 1 problem(s) found\n")
}

// What names hold does not steer the terminal.
func TestPgqadmShowsControlCharacters(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue(E'q\x1b[2J'); select pgq.register_consumer(E'q\x1b[2J', E'c\x07'); update pgq.queue set queue_disable_insert = true`)
	for _, command := range []string{"status", "check", "config", "consumer-config"} {
		_, stdout, _ := pgqadm(command)
		if strings.ContainsAny(stdout, "\x1b\x07") || !strings.Contains(stdout, `q\x1B[2J`) {
			t.Errorf("%s: %q", command, stdout)
		}
	}
}

// Behind -- stand names, also those that begin with a dash.
func TestPgqadmTakesNamesWithADash(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	expect(t, pgqadm, "create -- -dash", 0, "queue -dash created\n", "")
	d.WaitFor(t, `select count(*) = 1 from pgq.queue where queue_name = '-dash'`)
}
