package batch

// The ini file: what it may say, and what is said about a wrong one.

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type sampleConfig struct {
	JobConfig
	DB      ConnString    `ini:"db" required:"true" help:"connection string of the queue database"`
	Queue   string        `ini:"queue_name" alias:"pgq_queue_name" required:"true" help:"queue to read"`
	Query   string        `ini:"dst_query" raw:"true" help:"statement run for each event"`
	Tables  []string      `ini:"table_filter" help:"tables to take"`
	Count   int           `ini:"count" default:"7"`
	Ratio   float64       `ini:"ratio" default:"0.5"`
	Lag     time.Duration `ini:"keep_lag" default:"3"`
	Enabled bool          `ini:"enabled" default:"yes"`
	Buffer  Size          `ini:"buffer" default:"64kB"`
	Secret  string        `ini:"api_key" secret:"true" choice:"a,b"`
}

func writeIni(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mover_a.ini")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDecodeFillsStruct(t *testing.T) {
	t.Setenv("HOME", "/home/op")
	path := writeIni(t, `
[DEFAULT]
base = /srv
ratio = 0.25

# a comment
[mover]
DB = dbname=q host=%(host_name)s ; the queue's database
pgq_queue_name: events
dst_query =
    SELECT * FROM f(%(username)s,
                    %(email)s);
table_filter = a.b, c.d,
logfile = ~/log/%(job_name)s-100%%.log
pidfile = %(base)s/%(word)s.pid
word = w%(count)s
count = 12
enabled = off
buffer = 10MiB
keep_lag = 1 hour 30 min
use_skylog = 1
`)
	s, err := Load(path, "mover", LoadOptions{Set: map[string]string{"count": "13"}})
	if err != nil {
		t.Fatal(err)
	}
	var got sampleConfig
	if err := s.Decode(&got); err != nil {
		t.Fatal(err)
	}
	host, _ := os.Hostname()
	want := sampleConfig{
		JobConfig: JobConfig{
			JobName: "mover_a", LogFile: "/home/op/log/mover_a-100%.log", PidFile: "/srv/w13.pid",
			LoopDelay: time.Second, ConnectionLifetime: 20 * time.Minute, ExceptionSleep: 20 * time.Second,
			ExceptionQuiet: []string{}, ExceptionGrace: 5 * time.Minute, ExceptionReset: 15 * time.Minute, SyslogFacility: "daemon",
			StatsPeriod: 30 * time.Second, LogSize: 10 << 20, LogCount: 3, LogFormat: "text", LogLevel: "info",
			ConfigFormat: "1", UseSkylog: "1",
		},
		DB: ConnString("dbname=q host=" + host), Queue: "events",
		Query:  "SELECT * FROM f(%(username)s,\n%(email)s);",
		Tables: []string{"a.b", "c.d"}, Count: 13, Ratio: 0.25, Lag: 90 * time.Minute, Buffer: 10 << 20,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if w := s.Warnings(&got); len(w) != 1 || !strings.Contains(w[0], "use_skylog") {
		t.Errorf("warnings %q, want one about use_skylog", w)
	}
}

// The other form of ini files.
func TestConfigFormat2(t *testing.T) {
	path := writeIni(t, `
[DEFAULT]
home = /srv

[common]
home = /data
log = ${home}/log

[mover]
config_format = 2
db = dbname=${name}
name = q$$1
pgq_queue_name = 100%(x)s%
dst_query = select %(username)s, '$1', '{$}'
logfile = ${common:log}/${config_name}.log
pidfile = ${home}/${job_name}.pid
logfmt_file = %(message)s
logdatefmt_console = %d
`)
	load := func(set map[string]string) (s *Section, got sampleConfig, err error) {
		if s, err = Load(path, "mover", LoadOptions{Set: set}); err != nil {
			t.Fatal(err)
		}
		return s, got, s.Decode(&got)
	}
	s, got, err := load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.DB != "dbname=q$1" || got.Queue != "100%(x)s%" || got.Query != "select %(username)s, '$1', '{$}'" ||
		got.LogFile != "/data/log/mover_a.log" || got.PidFile != "/srv/mover_a.pid" {
		t.Errorf("got %+v", got)
	}
	if w := s.Warnings(&got); len(w) != 2 || !strings.Contains(w[0], "[mover] logfmt_file") || !strings.Contains(w[1], "logdatefmt_console") {
		t.Errorf("warnings %q", w)
	}
	for value, want := range map[string]string{
		"${nothing}": "${nothing} is not a key of the section; add it, or write $$ for a single $", "${common:none}": "${common:none} is not",
		"${none:log}": "${none:log} is not", "${db}": "${…} refers to itself", "${db": "${ without }; write ${name}, or $$ for a single $",
	} {
		if _, _, err := load(map[string]string{"db": value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
}

func TestDecodeTellsEveryFault(t *testing.T) {
	path := writeIni(t, `
[mover]
db = dbname=q password='top secret' port=oh
que_name = x
keep_lag = soon
enabled = maybe
count = 1.5
ratio = half
buffer = big
api_key = c
logfile = /var/%(nowhere)s.log
loop_dely = 1
`)
	s, err := Load(path, "mover", LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Decode(&sampleConfig{})
	var ce *ConfigError
	if !errors.As(err, &ce) || ExitCode(err) != 2 {
		t.Fatalf("got %v, want a ConfigError with exit code 2", err)
	}
	text := err.Error()
	for _, want := range []string{
		`db = "dbname=q password=*** port=oh": is not a connection string`,
		`queue_name: is missing; add queue_name = … (queue to read)`,
		`que_name = "x": unknown key; did you mean "queue_name"?`,
		`keep_lag = "soon": is not a time span`,
		`enabled = "maybe": is not yes or no`,
		`count = "1.5": is not a whole number`,
		`ratio = "half": is not a number`,
		`buffer = "big": is not a size`,
		`api_key = "***": must be one of a, b`,
		`logfile = "/var/%(nowhere)s.log": %(nowhere)s is not a key`,
		`loop_dely = "1": unknown key; did you mean "loop_delay"?`,
	} {
		if !strings.Contains(text, path+": [mover] "+want) {
			t.Errorf("missing: %s", want)
		}
	}
	if strings.Contains(text, "top secret") {
		t.Error("the password is shown")
	}
	if n := strings.Count(text, "\n") + 1; n != 11 {
		t.Errorf("%d lines, want 11:\n%s", n, text)
	}
}

func TestLoadRefusesWhatIsNoConfiguration(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"no delimiter", "[mover]\nhello\n", `:2: not an ini file: key-value delimiter not found: "hello"; write [section]`},
		{"bytes of a terminal", "[mover]\na = 1\n\x1b[2J\x07" + strings.Repeat("x", 500), `:3: not an ini file: key-value delimiter not found: "\x1b[2J\ax`},
		{"no key", "[mover]\n= 1\n", `:2: not an ini file: empty key name: "= 1"`},
		{"other section", "[moover]\na=1\n[x]\n", "[mover]: section not found; the file has [moover], [x]"},
		{"empty", "", "[mover]: section not found; the file has no sections"},
		{"open section", "[mover\na=1\n", "not an ini file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(writeIni(t, tc.text), "mover", LoadOptions{})
			if err == nil || !strings.Contains(err.Error(), tc.want) || ExitCode(err) != 2 {
				t.Fatalf("got %v, want %q with exit code 2", err, tc.want)
			}
			if text := err.Error(); len(text) > 300 || strings.ContainsAny(text, "\x1b\a\n") {
				t.Errorf("not one readable line: %q", text)
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "none.ini")
	_, err := Load(missing, "mover", LoadOptions{})
	if err == nil || err.Error() != missing+": cannot read the configuration file: no such file or directory; give the path of an ini file" {
		t.Errorf("missing file: got %v", err)
	}
	if _, err := Load(t.TempDir(), "mover", LoadOptions{}); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: got %v", err)
	}
}

func TestDecodeRefusesNumbersBelowTheLeast(t *testing.T) {
	s, err := Load(writeIni(t, "[m]\nexception_sleep = -1\nconnection_lifetime = -7\nstats_period = -4\nlog_count = -3\nloop_delay = -1\n"), "m", LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Decode(&JobConfig{})
	if err == nil || ExitCode(err) != 2 || strings.Count(err.Error(), "\n") != 3 {
		t.Fatalf("want four faults, got\n%v", err)
	}
	for _, want := range []string{
		`exception_sleep = "-1": is too small; write 0.001 or more`,
		`connection_lifetime = "-7": is too small; write 0 or more`,
		`stats_period = "-4": is too small`,
		`log_count = "-3": is too small`,
	} {
		if !strings.Contains(err.Error(), "[m] "+want) {
			t.Errorf("missing: %s in\n%v", want, err)
		}
	}
}

func TestOldAndNewSpellingOfAKey(t *testing.T) {
	type config struct {
		Queue string `ini:"queue_name" alias:"pgq_queue_name"`
	}
	for _, tc := range []struct {
		name, text string
		set        map[string]string
		want       string // "" is a fault
	}{
		{"old alone", "pgq_queue_name = a", nil, "a"},
		{"side by side", "queue_name = a\npgq_queue_name = b", nil, ""},
		{"the command line goes first", "queue_name = a", map[string]string{"pgq_queue_name": "b"}, "b"},
		{"in either spelling", "pgq_queue_name = a", map[string]string{"queue_name": "b"}, "b"},
		{"the section goes before the default", "pgq_queue_name = a\n[DEFAULT]\nqueue_name = b", nil, "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := Load(writeIni(t, "[m]\n"+tc.text+"\n"), "m", LoadOptions{Set: tc.set})
			if err != nil {
				t.Fatal(err)
			}
			var got config
			err = s.Decode(&got)
			fault := `pgq_queue_name = "b": is the older name of queue_name, which is set too; keep one of them`
			if tc.want == "" && (err == nil || !strings.Contains(err.Error(), fault)) {
				t.Errorf("got %v, want %s", err, fault)
			}
			if tc.want != "" && (err != nil || got.Queue != tc.want) {
				t.Errorf("got %q, %v, want %q", got.Queue, err, tc.want)
			}
		})
	}
}

func TestExpandRefusesCircles(t *testing.T) {
	s, err := Load(writeIni(t, "[m]\na = %(b)s\nb = %(a)s\nc = %(a\n"), "m", LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Get("a"); !ok || err == nil || !strings.Contains(err.Error(), "refers to itself") {
		t.Errorf("a: got ok=%v err=%v", ok, err)
	}
	if _, _, err := s.Get("c"); err == nil || !strings.Contains(err.Error(), "without )s") {
		t.Errorf("c: got %v", err)
	}
	if _, ok, err := s.Get("d"); ok || err != nil {
		t.Errorf("d: got ok=%v err=%v", ok, err)
	}
}

// The sample is itself a configuration once its required keys are filled in.
func TestSampleLoads(t *testing.T) {
	text := Sample("mover", &sampleConfig{})
	if strings.Contains(text, "use_skylog") {
		t.Error("the sample offers a key without effect")
	}
	text = strings.Replace(text, "\nqueue_name =", "\nqueue_name = q", 1)
	text = strings.Replace(text, "\ndb =", "\ndb = dbname=q", 1)
	text = strings.ReplaceAll(text, "\n#count = ", "\ncount = ")
	s, err := Load(writeIni(t, text), "mover", LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var cfg sampleConfig
	if err := s.Decode(&cfg); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if cfg.Queue != "q" || cfg.Count != 7 {
		t.Errorf("got %+v", cfg)
	}
}

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "-1": -time.Second, "0.1": 100 * time.Millisecond, "500ms": 500 * time.Millisecond,
		"10min": 10 * time.Minute, "2 hours": 2 * time.Hour, "1h30m": 90 * time.Minute, "1 day": 24 * time.Hour,
		"00:00:03": 3 * time.Second, "01:30": 90 * time.Minute, " 5 SECONDS ": 5 * time.Second, "2.5 s": 2500 * time.Millisecond,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "1 fortnight", "1h x", "::", "1:-2", "NaN", "1e300", "999999999999h"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// A job may give a common key a meaning or default of its own.
func TestOuterKeyWins(t *testing.T) {
	var cfg struct {
		JobConfig
		Period time.Duration `ini:"loop_delay" default:"0.25" help:"seconds between ticks"`
	}
	s, err := Load(writeIni(t, "[m]\n"), "m", LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Decode(&cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.Period != 250*time.Millisecond || cfg.LoopDelay != 0 {
		t.Errorf("outer %v, embedded %v, want 250ms and 0", cfg.Period, cfg.LoopDelay)
	}
	if n := strings.Count(Sample("m", &cfg), "loop_delay ="); n != 1 {
		t.Errorf("the sample has loop_delay %d times", n)
	}
}

// Whatever the file holds, reading it ends with a value or a clear error.
func FuzzLoad(f *testing.F) {
	f.Add("[m]\na = %(b)s\nb = 1\n")
	f.Add("[DEFAULT]\nx=%%\n[m]\nq =\n  one\n  two\n")
	f.Add("[m]\ndb = dbname='x y' password=\"\"\n")
	path := filepath.Join(f.TempDir(), "m.ini")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse(path, []byte(text), "m", LoadOptions{})
		if err == nil {
			err = s.Decode(&sampleConfig{})
		}
		if err != nil && ExitCode(err) != 2 {
			t.Errorf("exit code %d for %v", ExitCode(err), err)
		}
	})
}
