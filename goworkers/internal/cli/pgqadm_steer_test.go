package cli

// pgqadm's commands of an operator's day: steering consumers, dead events, what is
// wrong and what to do.

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"goworkers/internal/pgtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got\n%s", path, got)
	}
}

func TestPgqadmHelp(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := run(t, "pgqadm", "-h")
	if code != 0 || stderr != "" {
		t.Errorf("%d, %q", code, stderr)
	}
	golden(t, "pgqadm_help.txt", stdout)
}

func TestPgqadmSteersConsumers(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q')`)
	expect(t, pgqadm, "register q c --at 1", 0, "consumer c registered on queue q at tick 1\n", "")
	expect(t, pgqadm, "register q c --at=1", 0, "consumer c on queue q moved to tick 1\n", "")
	expect(t, pgqadm, "register q s --slots 3 --key ev_type", 0, "consumer s registered on queue q with 3 slots\n", "")
	expect(t, pgqadm, "register q s --slots 3 --key ev_type", 0, "consumer s is registered on queue q with 3 slots already\n", "")
	expect(t, pgqadm, "register q c --at 7", 1, "", "pgqadm: register consumer \"c\" on queue \"q\" at tick 7: cannot reposition, tick not found: 7 (SQLSTATE PGQ05)"+
		"; Queue \"q\" never had this tick, or rotated past it\n")
	expect(t, pgqadm, "register q c --at soon", 2, "", "pgqadm: --at \"soon\": give a whole number, 0 or more\n")
	expect(t, pgqadm, "register q c --slots 0", 2, "", "pgqadm: --slots \"0\": give a whole number, 1 or more\n")
	expect(t, pgqadm, "register q c --slots", 2, "", "pgqadm: option --slots of register needs a value\n")
	expect(t, pgqadm, "register q c --key ev_type", 2, "", "pgqadm: register: --key is for --slots: events with the same key go to the same slot\n")
	expect(t, pgqadm, "register q c --at 1 --slots 2", 2, "", "pgqadm: register: --at and --slots do not go together; "+
		"register the slots, then move them with: pgqadm INI seek q c TIME\n")

	expect(t, pgqadm, "pause q c", 0, "consumer c on queue q paused\n", "")
	expect(t, pgqadm, "pause q c", 0, "consumer c on queue q is paused already\n", "")
	expect(t, pgqadm, "resume q c", 0, "consumer c on queue q resumed\n", "")
	expect(t, pgqadm, "resume q c", 0, "consumer c on queue q is not paused\n", "")
	const nobody = "pgqadm: consumer \"nobody\" is not registered on queue \"q\"; list them with: pgqadm INI status\n"
	expect(t, pgqadm, "pause q nobody", 1, "", nobody)
	expect(t, pgqadm, "seek q nobody 2026-01-01", 1, "", nobody)
	expect(t, pgqadm, "consumer-config q nobody", 1, "", nobody)
	expect(t, pgqadm, "consumer-config q nobody max_retries=1", 1, "", nobody)
	expect(t, pgqadm, "unregister q nobody", 1, "", nobody)

	d.Exec(t, `update pgq.tick set tick_time = '2026-01-01 10:00'`)
	expect(t, pgqadm, "seek q c 2026-01-01 11:00", 0, "consumer c on queue q moved to tick 1\n", "")
	expect(t, pgqadm, "seek q c 1 hour ago", 0, "consumer c on queue q moved to tick 1\n", "")
	expect(t, pgqadm, "seek q s 1 hour ago", 0, "consumer s on queue q moved to tick 1\n", "")
	expect(t, pgqadm, "seek q c soon", 2, "", "pgqadm: seek: cannot read the time \"soon\"; write it like 2026-11-22 14:00, or 2 hours ago\n")
	code, _, stderr := pgqadm("seek", "q", "c", "2025-01-01")
	if code != 1 || !strings.Contains(stderr, "(SQLSTATE PGQ05)") || !strings.Contains(stderr, "retention") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("seek before all ticks: %d, %q", code, stderr)
	}
	expect(t, pgqadm, "unregister q s", 0, "consumer s removed from queue q, 3 registrations\n", "")
	expect(t, pgqadm, "unregister q c", 0, "consumer c removed from queue q\n", "")
	expect(t, pgqadm, "rebase q", 0, "queue q needs no repair\n", "")
	expect(t, pgqadm, "rebase nope", 1, "", "pgqadm: queue \"nope\" does not exist; create it with: pgqadm INI create nope\n")
}

func TestPgqadmConsumerConfig(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'), pgq.create_queue('empty'), pgq.register_consumer('q', 'c'), pgq.register_consumer('q', 'd')`)
	const c = "q c\n    paused = true\n    max_retries = 5\n    retry_delay = 0.5s\n    retry_max_delay = 60s\n"
	expect(t, pgqadm, "consumer-config q c max_retries=5 sub_retry_delay=0.5s retry_max_delay=1min paused=true", 0, c, "")
	expect(t, pgqadm, "consumer-config", 0, c+"q d\n    paused = false\n    max_retries = none\n    retry_delay = none\n    retry_max_delay = 3600s\n", "")
	expect(t, pgqadm, "consumer-config q c max_retries=none --json", 0, `{
  "q": {
    "c": {
      "max_retries": null,
      "paused": "true",
      "retry_delay": "0.5s",
      "retry_max_delay": "60s"
    }
  }
}
`, "")
	expect(t, pgqadm, "consumer-config empty", 0, "", "")
	expect(t, pgqadm, "consumer-config nope", 1, "", "pgqadm: queue \"nope\" does not exist; create it with: pgqadm INI create nope\n")
	expect(t, pgqadm, "consumer-config q c paused=none", 2, "", "pgqadm: consumer-config: paused must have a value; only these may be none: max_retries, retry_delay\n")
	expect(t, pgqadm, "consumer-config q c speed=9", 2, "", "pgqadm: consumer-config: unknown parameter \"speed\"; it is one of paused, max_retries, retry_delay, retry_max_delay\n")
	expect(t, pgqadm, "consumer-config q c max_retries=9 retry_delay=soon", 1, "",
		"pgqadm: set retry_delay of consumer \"c\" on queue \"q\" to \"soon\": invalid input syntax for type interval: \"soon\" (SQLSTATE 22007)\n")
	if got := d.Rows(t, `select sub_max_retries from pgq.subscription order by sub_consumer limit 1`); got[0] != "NULL" {
		t.Errorf("max_retries is %s after a failure", got[0])
	}
	expect(t, pgqadm, "config q retention=1d notify=true per_tx_limit=10 --json", 0, `{
  "q": {
    "consumer_expiry": null,
    "disable_insert": "false",
    "external_ticker": "false",
    "extra_maint": null,
    "notify": "true",
    "per_tx_limit": "10",
    "retention": "86400s",
    "rotation_period": "7200s",
    "ticker_idle_period": "60s",
    "ticker_max_count": "500",
    "ticker_max_lag": "3s",
    "ticker_min_lag": "0.025s",
    "ticker_paused": "false"
  }
}
`, "")
	code, stdout, _ := pgqadm("config", "q", "retention=none", "queue_per_tx_limit=none")
	if code != 0 || !strings.Contains(stdout, "    retention = none\n") || !strings.Contains(stdout, "    per_tx_limit = none\n") {
		t.Errorf("none: %d, %s", code, stdout)
	}
}

// setupDead makes the events 1 to 4 of consumer c dead.
func setupDead(t *testing.T) (*pgtest.Database, func(args ...string) (int, string, string)) {
	t.Helper()
	d, pgqadm := setupPgqadm(t, "pgq")
	for _, sql := range []string{
		`select pgq.create_queue('q'), pgq.register_consumer('q', 'c'), pgq.register_consumer('q', 'd')`,
		`select pgq.insert_event('q', 'type', 'event ' || n, 'x', null, null, null) from generate_series(1, 4) n`,
		`update pgq.queue set queue_ticker_max_lag = '0'`,
		`select pgq.ticker('q')`,
		`select pgq.event_failed(b, n, 'reason ' || n) from pgq.next_batch('q', 'c') b, generate_series(1, 4) n`,
		`select pgq.finish_batch(sub_batch) from pgq.subscription where sub_batch is not null`,
		`update pgq.retry_queue set ev_dead_time = '2026-01-01 10:00+00'`,
	} {
		d.Exec(t, sql)
	}
	return d, pgqadm
}

func TestPgqadmDeadLetters(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupDead(t)
	utc := func(text string) string {
		return regexp.MustCompile(`died \S+ \S+ after`).ReplaceAllString(text, "died TIME after")
	}
	list := func(args string, want ...string) {
		t.Helper()
		code, stdout, stderr := pgqadm(strings.Fields("dlq list q c " + args)...)
		if got := utc(stdout); code != 0 || stderr != "" || got != strings.Join(want, "") {
			t.Errorf("dlq list %s: %d, %q, got\n%s", args, code, stderr, got)
		}
	}
	event := func(n int) string {
		return fmt.Sprintf("event %d died TIME after 0 retries: reason %[1]d\n    type = type\n    data = event %[1]d\n    extra1 = x\n", n)
	}
	list("", event(1), event(2), event(3), event(4))
	list("--limit 2", event(1), event(2), "and 2 more; show all with --limit 0\n")
	expect(t, pgqadm, "dlq list q d", 0, "consumer d on queue q has no dead events\n", "")
	expect(t, pgqadm, "dlq count", 0, "q c 4\n", "")
	expect(t, pgqadm, "dlq count q d", 0, "q d 0\n", "")
	expect(t, pgqadm, "dlq count q c --json", 0, "[\n  {\n    \"queue_name\": \"q\",\n    \"consumer_name\": \"c\",\n    \"count\": 4\n  }\n]\n", "")
	code, stdout, _ := pgqadm("dlq", "list", "q", "c", "--json", "--limit", "1")
	var events []deadEvent
	if err := json.Unmarshal([]byte(stdout), &events); code != 0 || err != nil || len(events) != 1 {
		t.Fatalf("--json: %d, %v, %s", code, err, stdout)
	}
	if e := events[0]; e.ID != 1 || *e.Data != "event 1" || e.Extra2 != nil || e.Reason != "reason 1" || e.DiedAt.Year() != 2026 {
		t.Errorf("--json: %+v", e)
	}

	expect(t, pgqadm, "dlq retry q c 1 99", 1, "", "pgqadm: event 99 is not among the dead ones of consumer \"c\" on queue \"q\", nothing was done; "+
		"list them with: pgqadm INI dlq list q c\n")
	expect(t, pgqadm, "dlq retry q c 1 2", 0, "2 event(s) will be retried\n", "")
	expect(t, pgqadm, "dlq delete q c 3", 0, "1 event(s) deleted\n", "")
	expect(t, pgqadm, "dlq delete q c --all", 0, "1 event(s) deleted\n", "")
	expect(t, pgqadm, "dlq retry q c --all", 0, "0 event(s) will be retried\n", "")
	expect(t, pgqadm, "dlq count", 0, "no consumer has dead events\n", "")
	if got := d.Rows(t, `select ev_id from pgq.retry_queue order by 1`); strings.Join(got, ",") != "1,2" {
		t.Errorf("events to retry are %v", got)
	}

	const usage = "pgqadm: usage: pgqadm [options] CONFIG.ini dlq "
	expect(t, pgqadm, "dlq retry q c", 2, "", usage+"retry QUEUE CONSUMER EVENT …|--all\n")
	expect(t, pgqadm, "dlq delete q c 1 --all", 2, "", usage+"delete QUEUE CONSUMER EVENT …|--all\n")
	expect(t, pgqadm, "dlq list q", 2, "", usage+"list QUEUE CONSUMER [--limit N] [--json]\n")
	expect(t, pgqadm, "dlq count q", 2, "", usage+"count [QUEUE CONSUMER] [--json]\n")
	expect(t, pgqadm, "dlq retry q c one", 2, "", "pgqadm: dlq retry: \"one\" is not the number of an event\n")
	expect(t, pgqadm, "dlq fly", 2, "", "pgqadm: dlq: unknown command \"fly\"; it is one of list, count, retry, delete\n")
	expect(t, pgqadm, "dlq list q nobody", 1, "", "pgqadm: consumer \"nobody\" is not registered on queue \"q\"; list them with: pgqadm INI status\n")
}

func TestCheckFindsWhatWaitsForAPerson(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupDead(t)
	d.Exec(t, `update pgq.queue set queue_disable_insert = true, queue_switch_time = now() - interval '5 hours';
		select pgq.pause_consumer('q', 'd')`)
	masked := func(args ...string) (int, string, string) {
		code, stdout, stderr := pgqadm(args...)
		return code, regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`).ReplaceAllString(stdout, "TIME"), stderr
	}
	code, stdout, stderr := masked("check")
	for _, line := range []string{
		"queue q: inserts are disabled; allow them with: pgqadm INI config q disable_insert=false\n",
		"queue q, consumer d: is paused; resume with: pgqadm INI resume q d\n",
		"queue q, consumer d: holds up the rotation, due since TIME; start it, or remove it with: pgqadm INI unregister q d\n",
		"queue q, consumer c: has 4 dead event(s), the first since TIME; look at them with: pgqadm INI dlq list q c, then dlq retry or dlq delete\n",
	} {
		if !strings.Contains(stdout, line) {
			t.Errorf("check does not say %q", line)
		}
	}
	if n := strings.Count(stdout, "\n"); code != 1 || stderr != fmt.Sprintf("pgqadm: %d problem(s) found\n", n) {
		t.Errorf("check: %d, %q, %s", code, stderr, stdout)
	}
	code, stdout, _ = pgqadm("check", "--json")
	var found []problem
	if err := json.Unmarshal([]byte(stdout), &found); code != 1 || err != nil {
		t.Fatalf("--json: %d, %v", code, err)
	}
	kinds := map[string]bool{}
	for _, p := range found {
		kinds[p.Kind] = true
		if p.Queue != "q" || p.What == "" || p.Advice == "" {
			t.Errorf("problem %+v", p)
		}
	}
	for _, kind := range []string{"insert_disabled", "consumer_paused", "rotation_blocked", "dead_letters"} {
		if !kinds[kind] {
			t.Errorf("check --json does not know %s: %s", kind, stdout)
		}
	}
	code, stdout, _ = masked("blockers")
	if want := "queue q: rotation due since TIME, held up by consumer d since TIME ("; code != 0 || !strings.Contains(stdout, want) {
		t.Errorf("blockers: %d, %s", code, stdout)
	}
	code, stdout, _ = masked("blockers", "--json")
	if code != 0 || !strings.Contains(stdout, `"blocker_kind": "consumer"`) {
		t.Errorf("blockers --json: %d, %s", code, stdout)
	}
	d.Exec(t, `update pgq.queue set queue_switch_time = now()`)
	expect(t, pgqadm, "blockers", 0, "nothing holds up a rotation\n", "")
	expect(t, pgqadm, "blockers --json", 0, "[]\n", "")
}

func TestPgqadmVersion(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t)
	server := pgtest.Value[string](t, d, `show server_version`)
	expect(t, pgqadm, "version", 0, fmt.Sprintf("pgqadm 4.0\nPostgreSQL %s, database %s\n", server, d.Name), "")
	expect(t, pgqadm, "install", 0, "pgq 4.0 installed\n", "")
	expect(t, pgqadm, "version", 0, fmt.Sprintf("pgqadm 4.0\nPostgreSQL %s, database %s\npgq 4.0\n", server, d.Name), "")
	code, stdout, _ := pgqadm("version", "--json")
	var v struct {
		Program    string `json:"pgqadm_version"`
		Extensions []struct{ Name, Version string }
	}
	if err := json.Unmarshal([]byte(stdout), &v); code != 0 || err != nil || v.Program != "4.0" || len(v.Extensions) != 1 || v.Extensions[0].Name != "pgq" {
		t.Errorf("--json: %d, %v, %s", code, err, stdout)
	}
}

func TestPgqadmInstallsByAScript(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t)
	dir := t.TempDir()
	script := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := script("good.sql", `begin; create schema pgq;
		create function pgq.version() returns text language sql as $$ select '4.0'::text; $$; commit;`)
	bad := script("bad.sql", "begin; create schema pgq; select 1/0; commit;")
	call := func(code int, stdout, stderr string, args ...string) {
		t.Helper()
		gotCode, gotOut, gotErr := pgqadm(append([]string{"install"}, args...)...)
		if gotCode != code || gotOut != stdout || gotErr != stderr {
			t.Errorf("install %q:\ngot  %d, %q, %q\nwant %d, %q, %q", args, gotCode, gotOut, gotErr, code, stdout, stderr)
		}
	}
	call(2, "", "pgqadm: install: --script names the script of --plonly\n", "--script", good)
	call(1, "", "pgqadm: open "+dir+"/none.sql: no such file or directory; install the SkyTools package on this machine, or name the script with --script FILE\n",
		"--plonly", "--script", dir+"/none.sql")
	call(1, "", fmt.Sprintf("pgqadm: install pgq in database %q: division by zero (SQLSTATE 22012)\n", d.Name), "--plonly", "--script", bad)
	call(0, "pgq 4.0 installed\n", "", "--plonly", "--script", good)
	call(0, "pgq 4.0 is installed already\n", "", "--plonly", "--script", good)
}

// A schema from before 4.0 is served as far as it goes.
func TestPgqadmOnAnOlderSchema(t *testing.T) {
	t.Parallel()
	d, pgqadm := setupPgqadm(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'), pgq.register_consumer('q', 'c')`)
	d.Exec(t, `create or replace function pgq.version() returns text language sql as $$ select '3.5.1'::text $$;
		do $body$
		declare
			v_old text;
		begin
			foreach v_old in array array[
				'view pgq.rotation_blockers', 'view pgq.dead_letter', 'function pgq.pause_consumer(text, text)',
				'function pgq.seek_consumer(text, text, timestamptz)', 'function pgq.failed_event_count(text, text)',
				'function pgq.rebase_queue(text)', 'function pgq.register_slots(text, text, int, text)']
			loop
				execute 'alter extension pgq drop ' || v_old;
				execute 'drop ' || v_old;
			end loop;
		end $body$;
		alter table pgq.queue drop column queue_retention, drop column queue_notify, drop column queue_ticker_min_lag, drop column queue_consumer_expiry;
		alter table pgq.subscription drop column sub_paused, drop column sub_max_retries`)
	tooOld := fmt.Sprintf("pgqadm: this needs pgq 4.0 or newer, and database %q has pgq 3.5.1; update it with: alter extension pgq update\n", d.Name)
	for _, args := range []string{"pause q c", "seek q c 1 hour ago", "dlq count", "dlq count q c", "blockers", "rebase q", "register q s --slots 2"} {
		expect(t, pgqadm, args, 1, "", tooOld)
	}
	expect(t, pgqadm, "check", 0, "no problem found, 1 queue(s) looked at\n", "")
	if code, stdout, _ := pgqadm("status"); code != 0 || !strings.Contains(stdout, "PgQ version: 3.5.1\n") {
		t.Errorf("status: %d, %s", code, stdout)
	}
	expect(t, pgqadm, "config q", 0, "q\n    ticker_max_count = 500\n    ticker_max_lag = 3s\n    ticker_idle_period = 60s\n    ticker_paused = false\n"+
		"    external_ticker = false\n    rotation_period = 7200s\n    disable_insert = false\n    per_tx_limit = none\n    extra_maint = none\n", "")
	expect(t, pgqadm, "config q notify=true", 1, "", fmt.Sprintf("pgqadm: parameter notify needs pgq 4.0 or newer, and database %q has pgq 3.5.1; "+
		"update it with: alter extension pgq update\n", d.Name))
}

// Two that change much do not run at the same time; the ticker's pid file is its own.
func TestPgqadmRunsSomeCommandsAlone(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q')`)
	pidfile := filepath.Join(t.TempDir(), "pid")
	ini := setupIni(t, "pgqadm", "db = "+d.DSN+"\npidfile = "+pidfile)
	for _, path := range []string{pidfile, pidfile + ".admin"} {
		if err := os.WriteFile(path, []byte(fmt.Sprintf("%d\n", os.Getppid())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, stderr := run(t, "pgqadm", ini, "rebase", "q"); code != 1 || !strings.Contains(stderr, pidfile+".admin") {
		t.Errorf("beside another one: %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, "pgqadm", ini, "status"); code != 0 {
		t.Errorf("status beside another one: %d, %q", code, stderr)
	}
	if err := os.Remove(pidfile + ".admin"); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run(t, "pgqadm", ini, "rebase", "q"); code != 0 {
		t.Errorf("beside the ticker: %d, %q", code, stderr)
	}
	if _, err := os.Stat(pidfile + ".admin"); !os.IsNotExist(err) {
		t.Errorf("the pid file stays: %v", err)
	}
	if _, err := os.Stat(pidfile); err != nil {
		t.Errorf("the ticker's pid file is gone: %v", err)
	}
}
