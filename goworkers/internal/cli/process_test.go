package cli

// The real binary as a process: the background, signals, links.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"goworkers/internal/pgtest"
)

const soon = 20 * time.Second

// binaryDir is where the binary under test lies; "" when no test needed it.
var binaryDir string

func removeBinary() { os.RemoveAll(binaryDir) }

var build = sync.OnceValues(func() (string, error) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "skytools-cli."); err != nil {
		return "", err
	}
	path := filepath.Join(binaryDir, "skytools")
	out, err := exec.Command("go", "build", "-o", path, "goworkers/cmd/skytools").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, err
})

// link returns the binary under the name of a command.
func link(t *testing.T, name string) string {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(binary, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func call(t *testing.T, program string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// daemonIni is a ticker's ini file with everything that a daemon needs.
func daemonIni(t *testing.T, section, text string) (ini, logfile, pidfile string) {
	t.Helper()
	dir := t.TempDir()
	logfile, pidfile = filepath.Join(dir, "job.log"), filepath.Join(dir, "job.pid")
	ini = setupIni(t, section, fmt.Sprintf("job_name = job\nlogfile = %s/%%(job_name)s.log\npidfile = %s/%%(job_name)s.pid\n%s", dir, dir, text))
	// whatever a failed test left running
	t.Cleanup(func() {
		if data, err := os.ReadFile(pidfile); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	return ini, logfile, pidfile
}

const busyQueue = `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`

func fileHas(path, text string) func() bool {
	return func() bool {
		data, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(data), text)
	}
}

func gone(path string) func() bool {
	return func() bool { _, err := os.Stat(path); return errors.Is(err, os.ErrNotExist) }
}

func TestDaemonLives(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	pgqadm := link(t, "pgqadm")
	ini, logfile, pidfile := daemonIni(t, "pgqadm", "db = "+d.DSN+"\nloop_delay = 0.01\nmetrics_listen = 127.0.0.1:0")

	for _, sw := range []string{"-s", "-k", "-r"} {
		if code, _, stderr := call(t, pgqadm, sw, ini); code != 1 || stderr != "pgqadm: no process is running (pidfile "+pidfile+")\n" {
			t.Errorf("%s without a process: %d, %q", sw, code, stderr)
		}
	}
	if code, stdout, stderr := call(t, pgqadm, "-d", ini, "ticker"); code != 0 || stdout != "" || stderr != "" {
		t.Fatalf("-d: %d, %q, %q", code, stdout, stderr)
	}
	d.WaitFor(t, `select count(*) > 3 from pgq.tick`)
	data, err := os.ReadFile(pidfile)
	if err != nil {
		t.Fatal(err)
	}
	pid := strings.TrimSpace(string(data))
	for _, args := range [][]string{{"-d", ini, "ticker"}, {ini, "ticker"}} {
		code, _, stderr := call(t, pgqadm, args...)
		if want := fmt.Sprintf("pgqadm: pidfile %s exists, another process running? (pid %s)\n", pidfile, pid); code != 1 || stderr != want {
			t.Errorf("second start: %d, %q, want 1, %q", code, stderr, want)
		}
	}

	log, err := os.ReadFile(logfile)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`INFO metrics are served listen=(\S+)`).FindSubmatch(log)
	if m == nil {
		t.Fatalf("no metrics address in the log:\n%s", log)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + string(m[1]) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !regexp.MustCompile(`skytools_ticker_ticks_total{database="`+d.Name+`"} [1-9]`).Match(body) {
		t.Errorf("metrics: %v, no ticks in\n%s", err, body)
	}

	// the log file may be moved away
	if err := os.Rename(logfile, logfile+".moved"); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := call(t, pgqadm, "-r", ini); code != 0 || stderr != "SIGHUP sent to process "+pid+"\n" {
		t.Errorf("-r: %d, %q", code, stderr)
	}
	pgtest.Eventually(t, soon, "reloaded", fileHas(logfile, "INFO configuration reloaded"))
	if code, _, stderr := call(t, pgqadm, "-s", ini, "ticker"); code != 0 || stderr != "SIGINT sent to process "+pid+"\n" {
		t.Errorf("-s: %d, %q", code, stderr)
	}
	pgtest.Eventually(t, soon, "the pid file is gone", gone(pidfile))
	if !fileHas(logfile, "INFO ticker stopped")() {
		t.Error("no clean end in the log")
	}
	line := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ` + pid + ` INFO {ticks: \d+, maint: \d+, retry: 0}$`)
	log, _ = os.ReadFile(logfile)
	if !line.Match(log) {
		t.Errorf("no statistics line in\n%s", log)
	}
}

// What goes wrong at the start of a daemon is seen on the terminal.
func TestDaemonStartFails(t *testing.T) {
	t.Parallel()
	pgqd := link(t, "pgqd")
	ini, logfile, pidfile := daemonIni(t, "pgqd", "base_connstr = host=127.0.0.1 port=1\nmetrics_listen = nowhere")
	code, stdout, stderr := call(t, pgqd, "-d", ini)
	if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "pgqd: "+ini+": [pgqd]: listen on metrics_listen = nowhere: ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("got %d, %q, %q", code, stdout, stderr)
	}
	if !gone(pidfile)() {
		t.Error("the pid file is left")
	}
	noPid := setupIni(t, "pgqd", "logfile = "+logfile)
	if code, _, stderr := call(t, pgqd, "-d", noPid); code != 2 || !strings.Contains(stderr, "[pgqd] pidfile: is missing; a daemon needs one") {
		t.Errorf("no pidfile: %d, %q", code, stderr)
	}
	if code, _, stderr := call(t, pgqd, "-s", noPid); code != 2 || !strings.HasPrefix(stderr, "pgqd: "+noPid+": [pgqd]: no pidfile is configured") {
		t.Errorf("-s without pidfile: %d, %q", code, stderr)
	}
}

// What scripts around pgqd rely on.
func TestPgqdSpeaksAsItAlwaysDid(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, busyQueue)
	pgqd := link(t, "pgqd")
	base := "base_connstr = " + strings.Replace(d.DSN, "dbname="+d.Name, "", 1) + "\ndatabase_list = " + d.Name + "\nticker_period = 0.01\nsyslog = 0\n"
	ini, logfile, pidfile := daemonIni(t, "pgqd", base)
	if code, stdout, stderr := call(t, pgqd); code != 1 || stdout != "" || !strings.Contains(stderr, "pgqd requires config file") {
		t.Errorf("without a file: %d, %q, %q", code, stdout, stderr)
	}
	if code, stdout, _ := call(t, pgqd, "-V"); code != 0 || stdout != "pgqd version "+Version+"\n" {
		t.Errorf("-V: %d, %q", code, stdout)
	}
	code, stdout, _ := call(t, pgqd, "--ini")
	for _, key := range []string{"logfile", "pidfile", "base_connstr", "initial_database", "database_list", "syslog", "syslog_ident",
		"syslog_facility", "check_period", "retry_period", "maint_period", "ticker_period", "stats_period", "connection_lifetime"} {
		if code != 0 || !strings.Contains(stdout, "\n#"+key+" =") {
			t.Errorf("--ini: %d, names no %s", code, key)
		}
	}
	for _, sw := range []string{"-s", "-k", "-r"} {
		if code, _, stderr := call(t, pgqd, sw, ini); code != 0 || stderr != "Old process is not running\n" {
			t.Errorf("%s without a process: %d, %q", sw, code, stderr)
		}
	}
	// -q: everything goes to the file, nothing to the terminal
	quiet := exec.Command(pgqd, "-q", "-vv", ini)
	var stderr bytes.Buffer
	quiet.Stderr = &stderr
	if err := quiet.Start(); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, soon, "it ticks", fileHas(logfile, "INFO pgq version ok"))
	if code, _, stderr := call(t, pgqd, "-r", ini); code != 0 || stderr != "SIGHUP sent\n" {
		t.Errorf("-r: %d, %q", code, stderr)
	}
	pgtest.Eventually(t, soon, "it is reloaded", fileHas(logfile, "INFO configuration reloaded"))
	if code, _, stderr := call(t, pgqd, "-s", ini); code != 0 || stderr != "SIGINT sent\n" {
		t.Errorf("-s: %d, %q", code, stderr)
	}
	if err := quiet.Wait(); err != nil {
		t.Errorf("-s: it ended with %v, want 0", err)
	}
	if stderr.Len() > 0 || !gone(pidfile)() {
		t.Errorf("the terminal got %q; the pid file is gone: %v", stderr.String(), gone(pidfile)())
	}
	if code, _, stderr := call(t, pgqd, "--set", "syslog=1,syslog_facility=nothing", ini); code != 2 || !strings.Contains(stderr, "[pgqd] syslog_facility = \"nothing\" (from --set): is none of auth, ") {
		t.Errorf("a wrong facility: %d, %q", code, stderr)
	}
}

// A daemon whose database is away at the start waits for it.
func TestDaemonWaitsForItsDatabase(t *testing.T) {
	t.Parallel()
	pgqd := link(t, "pgqd")
	ini, logfile, pidfile := daemonIni(t, "pgqd", "base_connstr = host=127.0.0.1 port=1 user=nobody")
	if code, _, stderr := call(t, pgqd, "-vd", "--set", "database_list=a,b,exception_sleep=0.01", ini); code != 0 {
		t.Fatalf("%d, %q", code, stderr)
	}
	pgtest.Eventually(t, soon, "it was tried again and again", fileHas(logfile, "tries=9"))
	if code, _, stderr := call(t, pgqd, "-k", ini); code != 0 || stderr != "SIGTERM sent\n" {
		t.Errorf("-k: %d, %q", code, stderr)
	}
	pgtest.Eventually(t, soon, "the pid file is gone", gone(pidfile))
	log, _ := os.ReadFile(logfile)
	if want := ini + `: [pgqd] database_list (from --set): cannot connect to database \"a\"`; !bytes.Contains(log, []byte(want)) {
		t.Errorf("not told: %s\n%s", want, log)
	}
	if n := bytes.Count(log, []byte("ERROR work failed, will be tried again")); n != 2 {
		t.Errorf("%d errors logged for 2 lost databases, want 2:\n%s", n, log)
	}
}

// In the foreground the log goes to stderr, and SIGTERM ends with exit code 1.
func TestForegroundEnds(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	for _, tc := range []struct {
		sig  syscall.Signal
		code int
	}{{syscall.SIGINT, 0}, {syscall.SIGTERM, 1}} {
		ini := setupIni(t, "pgqd", "base_connstr = "+strings.Replace(d.DSN, "dbname="+d.Name, "", 1)+"\ndatabase_list = "+d.Name+"\nticker_period = 0.01")
		cmd := exec.Command(link(t, "skytools"), "pgqd", ini)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ticks := pgtest.Value[int64](t, d, `select count(*) from pgq.tick`)
		d.WaitFor(t, `select count(*) > $1 + 2 from pgq.tick`, ticks)
		if err := cmd.Process.Signal(tc.sig); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.Contains(stderr.String(), "INFO ticker stopped") {
			t.Errorf("%v: exit code %d, want %d:\n%s", tc.sig, code, tc.code, stderr.String())
		}
	}
}
