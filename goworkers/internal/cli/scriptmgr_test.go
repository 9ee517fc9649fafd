package cli

// The command scriptmgr, with real jobs.

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"goworkers/internal/pgtest"
	"goworkers/internal/scriptmgr"
)

// farm is a folder of jobs.
type farm struct {
	t            *testing.T
	program, dir string
	ini          string
}

func setupFarm(t *testing.T, text string) *farm {
	t.Helper()
	dir := t.TempDir()
	f := &farm{t: t, program: link(t, "scriptmgr"), dir: dir, ini: filepath.Join(dir, "scriptmgr.ini")}
	f.write("scriptmgr.ini", "[scriptmgr]\nconfig_list = "+dir+"/*.ini, "+dir+"/none*\nlogfile = "+dir+"/%(job_name)s.log\n"+text)
	t.Cleanup(func() { // whatever a failed test left running
		for _, s := range f.status("-a") {
			if s.Pid != nil {
				_ = syscall.Kill(*s.Pid, syscall.SIGKILL)
			}
		}
	})
	return f
}

func (f *farm) write(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// job adds a job with its files.
func (f *farm) job(name, service, text string) {
	f.t.Helper()
	f.write(name+".ini", fmt.Sprintf("[%s]\nlogfile = %s/%%(job_name)s.log\npidfile = %[2]s/%%(job_name)s.pid\n%s", service, f.dir, text))
}

// do runs a command and wants an exit code and parts of what is said.
func (f *farm) do(code int, want []string, args ...string) {
	f.t.Helper()
	got, stdout, stderr := call(f.t, f.program, append([]string{f.ini}, args...)...)
	if got != code {
		f.t.Errorf("%v: exit code %d, want %d", args, got, code)
	}
	for _, w := range want {
		if !strings.Contains(stdout+stderr, w) {
			f.t.Errorf("%v: no %q in\n%s%s", args, w, stdout, stderr)
		}
	}
}

func (f *farm) status(args ...string) map[string]scriptmgr.Status {
	f.t.Helper()
	_, stdout, stderr := call(f.t, f.program, append([]string{f.ini, "status", "--json"}, args...)...)
	var list []scriptmgr.Status
	if err := json.Unmarshal([]byte(stdout), &list); err != nil {
		f.t.Errorf("status: %v in %q, %q", err, stdout, stderr)
	}
	byName := map[string]scriptmgr.Status{}
	for _, s := range list {
		byName[s.Job] = s
	}
	return byName
}

// states are those of all jobs, like "a=running b=stopped".
func (f *farm) states(want ...string) map[string]scriptmgr.Status {
	f.t.Helper()
	all := f.status()
	if len(all) != len(want) {
		f.t.Errorf("%d jobs, want %d: %v", len(all), len(want), all)
	}
	for _, w := range want {
		name, state, _ := strings.Cut(w, "=")
		if all[name].State != state {
			f.t.Errorf("%s is %q, want %s", name, all[name].State, state)
		}
	}
	return all
}

func TestScriptmgrLooksAfterJobs(t *testing.T) {
	t.Parallel()
	d, e := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq", "pgq_ext")
	d.Exec(t, busyQueue)
	e.Exec(t, "select pgq.create_queue('all')")
	f := setupFarm(t, "[DEFAULT]\nargs = -v\n[pgqd]\ndisabled = 1\n[londiste3]\nscript = londiste3\n")
	mover := "src_db = " + d.DSN + "\ndst_db = " + e.DSN + "\npgq_queue_name = q\ndst_queue_name = all\n"
	f.job("ticker", "pgqadm", "job_name = tick_a\ndb = "+d.DSN+"\nloop_delay = 0.01\n")
	f.job("mover_a", "queue_mover", mover)
	f.job("mover_b", "queue_mover", mover)
	f.job("daemon", "pgqd", "base_connstr = host=127.0.0.1 port=1\n")
	f.job("strange", "fortune_teller", "")

	f.states("tick_a=stopped", "mover_a=stopped", "mover_b=stopped", "daemon=disabled")
	ignored := f.dir + "/strange.ini: no section is a service: [fortune_teller]; ignored"
	nothing := "config_list: no file is named like " + f.dir + "/none*"
	f.do(0, []string{"tick_a: started, pid ", "mover_a: started, pid ", "mover_b: started, pid ", ignored, nothing}, "start", "-a")
	pgtest.Eventually(t, soon, "the ticker has logged", fileHas(f.dir+"/tick_a.log", "INFO ticker started"))
	all := f.states("tick_a=running", "mover_a=running", "mover_b=running", "daemon=disabled")
	pgtest.Eventually(t, soon, "args reach the job", fileHas(f.dir+"/mover_a.log", "INFO consumer registered"))
	if s := all["tick_a"]; s.Service != "pgqadm" || s.Config != f.dir+"/ticker.ini" || s.PidFile != f.dir+"/tick_a.pid" || s.LogLine == nil ||
		!regexp.MustCompile(`^\d{4}-\d\d-\d\d .* (INFO|DEBUG) `).MatchString(*s.LogLine) || s.LogAge == nil || *s.LogAge < 0 || *s.LogAge > 60 {
		t.Errorf("status of tick_a: %+v", s)
	}
	code, stdout, _ := call(t, f.program, f.ini, "status")
	if row := regexp.MustCompile(fmt.Sprintf(`(?m)^mover_a +queue_mover +running +%d +\d+s +\d{4}-.*$`, *all["mover_a"].Pid)); code != 0 || !row.MatchString(stdout) {
		t.Errorf("status: %d, no row of mover_a in\n%s", code, stdout)
	}

	f.do(0, []string{fmt.Sprintf("mover_a: runs already, pid %d", *all["mover_a"].Pid)}, "start", "mover_a")
	f.do(0, []string{"mover_a: reads its ini file again", "mover_b: reads its ini file again"}, "reload", "-t", "queue_mover")
	pgtest.Eventually(t, soon, "mover_b is reloaded", fileHas(f.dir+"/mover_b.log", "INFO configuration reloaded"))
	f.do(0, []string{"mover_b: stopped"}, "stop", "mover_b")
	f.states("tick_a=running", "mover_a=running", "mover_b=stopped", "daemon=disabled")
	f.do(0, []string{"mover_b: does not run"}, "stop", "mover_b")
	f.do(1, []string{"scriptmgr: reload job mover_b (" + f.dir + "/mover_b.ini): no process is running"}, "reload", "mover_b")
	f.do(1, []string{"scriptmgr: start job daemon (" + f.dir + "/daemon.ini): it is disabled; take disabled out of [pgqd]"}, "start", "daemon")

	// One was killed, and one does not run: restart gets all of them to run.
	if err := syscall.Kill(*all["mover_a"].Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, soon, "mover_a is seen dead", func() bool { return f.status()["mover_a"].State == scriptmgr.Dead })
	f.do(0, []string{"tick_a: stopped", "mover_a: does not run", "tick_a: started", "mover_a: started", "mover_b: started"}, "restart", "-a")
	again := f.states("tick_a=running", "mover_a=running", "mover_b=running", "daemon=disabled")
	for _, name := range []string{"tick_a", "mover_a"} {
		if *again[name].Pid == *all[name].Pid {
			t.Errorf("%s has the same process after restart", name)
		}
	}
	d.WaitFor(t, "select count(*) = 2 from pgq.get_consumer_info() where lag < '10s'")
	f.do(0, []string{"tick_a: stopped", "mover_a: stopped", "mover_b: stopped"}, "stop", "-a")
	f.states("tick_a=stopped", "mover_a=stopped", "mover_b=stopped", "daemon=disabled")
	if log := f.dir + "/scriptmgr.log"; !fileHas(log, `INFO stopped job=mover_b`)() || !fileHas(log, "WARNING "+ignored)() {
		t.Error("its own log lacks what it did")
	}
}

// One job that does not start, or a file that is none, holds up no other.
func TestScriptmgrNamesWhatFails(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, busyQueue)
	f := setupFarm(t, "stop_timeout = 0.05\n[never]\nscript = /nonexistent/never\n[quits]\nscript = true\n[stays]\nscript = stays.py\n")
	f.job("bad", "pgqadm", "db = "+d.DSN+"\nloop_dely = 1\n")
	f.job("good", "pgqadm", "db = "+d.DSN+"\n")
	f.job("never", "never", "")
	f.job("quits", "quits", "")
	f.job("stays", "stays", "")
	f.job("twin_a", "pgqadm", "job_name = twin\n")
	f.job("twin_b", "pgqadm", "job_name = twin\n")
	f.write("nopid.ini", "[pgqadm]\ndb = "+d.DSN+"\n")
	f.write("noini.ini", "hello\n")
	twin := "): the job is in " + f.dir + "/twin_"
	noIni := f.dir + "/noini.ini:1: not an ini file"
	noPid := f.dir + "/nopid.ini: [pgqadm] pidfile: is missing; a job is found by it"
	f.do(1, []string{
		"good: started, pid ",
		"scriptmgr: start job bad (" + f.dir + "/bad.ini): ticker: " + f.dir + `/bad.ini: [pgqadm] loop_dely = "1": unknown key`,
		"start job never (" + f.dir + "/never.ini): " + f.ini + ": [never] script: ",
		"start job quits (" + f.dir + "/quits.ini): it is not in its pidfile " + f.dir + "/quits.pid; it has ended, see its log",
		"start job stays (" + f.dir + "/stays.ini): " + f.ini + `: [stays] script: exec: "stays.py": executable file not found`,
		noIni, noPid, twin + "a.ini, too; give each a job_name of its own", twin + "b.ini, too",
	}, "start", "-a")
	f.do(1, []string{"faulty", noPid, noIni}, "status")

	// The ticker ends at once, but not for one who does not wait.
	pid := *f.status()["good"].Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	f.do(1, []string{fmt.Sprintf("stop job good (%s/good.ini): process %d is still at its work; it ends after that", f.dir, pid)}, "restart", "good")
	if now := f.status()["good"].Pid; now == nil || *now != pid {
		t.Errorf("another process was started beside %d", pid)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, soon, "it has ended", gone(f.dir+"/good.pid"))
}

// A program of somebody else, its place, and what it does not get to see. It leaves
// something behind that keeps its terminal.
func TestScriptmgrRunsPrograms(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, busyQueue)
	f := setupFarm(t, "[DEFAULT]\ncwd = /tmp\n[pgqadm]\nscript = ~/own.sh\nargs = -v --set loop_delay=0.02\n")
	ticker := link(t, "ticker")
	f.write("own.sh", "#!/bin/sh\necho \"$(pwd) $* ${NOTIFY_SOCKET-none}\" > "+f.dir+"/called\nsleep 600 & echo $! > "+f.dir+"/sleeper\nexec "+ticker+" \"$@\"\n")
	if err := os.Chmod(filepath.Join(f.dir, "own.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.job("tick", "pgqadm", "db = "+d.DSN+"\n")
	cmd := exec.Command(f.program, f.ini, "start", "tick")
	cmd.Env = append(os.Environ(), "HOME="+f.dir, "NOTIFY_SOCKET="+f.dir+"/notify", "SKYTOOLS_LOG_FORMAT=json")
	if out, err := cmd.Output(); err != nil || !strings.HasPrefix(string(out), "tick: started, pid ") {
		t.Fatalf("%v, %s", err, out)
	}
	sleeper, err := os.ReadFile(f.dir + "/sleeper")
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(sleeper))); err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		t.Errorf("the start waited for %q, %v", sleeper, err)
	}
	if called, err := os.ReadFile(f.dir + "/called"); string(called) != "/tmp -v --set loop_delay=0.02 -d "+f.dir+"/tick.ini none\n" {
		t.Errorf("the program was called with %q, %v", called, err)
	}
	pgtest.Eventually(t, soon, "it ticks, and logs as the environment says", fileHas(f.dir+"/tick.log", `"msg":"pgq version ok"`))
	f.do(0, []string{"tick: stopped"}, "stop", "-t", "pgqadm")
}

func TestScriptmgrRefusesMisuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("mover.job", "[queue_mover]\n")
	ini := file("ok.ini", "[scriptmgr]\nconfig_list = "+dir+"/*.job\n")
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"no command", []string{ini}, "no command given; usage: scriptmgr [options] CONFIG.ini start|stop|"},
		{"unknown command", []string{ini, "kill"}, `unknown command "kill"; it is one of start, `},
		{"no choice", []string{ini, "stop"}, "stop which jobs? Name them, or give -t SERVICE or -a"},
		{"too many choices", []string{ini, "stop", "-a", "mover"}, "-a is all jobs; give it alone"},
		{"unknown option", []string{ini, "stop", "-x"}, "flag provided but not defined: -x; -h lists"},
		{"option without a value", []string{ini, "stop", "-t"}, "flag needs an argument: -t; -h lists"},
		{"unknown job", []string{ini, "stop", "nobody"}, `no job is named "nobody"; list them with: scriptmgr ` + ini + " status"},
		{"unknown service", []string{"-t", "nothing", ini, "stop"}, ini + ` knows no service "nothing"; it is one of `},
		{"JSON for another command", []string{ini, "stop", "-a", "--json"}, "--json is for status"},
		{"a daemon", []string{"-d", ini, "start"}, "scriptmgr does not stay; -d, -r, -s and -k are for jobs"},
		{"no config_list", []string{file("none.ini", "[scriptmgr]\n"), "status"}, "[scriptmgr] config_list: is missing"},
		{"a bad pattern", []string{file("pattern.ini", "[scriptmgr]\nconfig_list = /tmp/[\n"), "status"}, `config_list: "/tmp/[" is no pattern of file names`},
		{"a service without a program", []string{file("script.ini", "[scriptmgr]\nconfig_list = x\n[own]\ncwd = /\n"), "status"}, "[own] script: is missing"},
		{"an unknown key", []string{file("key.ini", "[scriptmgr]\nconfig_list = x\n[own]\nscript = x\ndisable = 1\n"), "status"}, `[own] disable = "1": unknown key; did you mean "disabled"?`},
		{"an unknown user", []string{file("user.ini", "[scriptmgr]\nconfig_list = "+dir+"/*.job\n[queue_mover]\nuser = nobody-at-all\n"), "status"}, `there is no user "nobody-at-all"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, stdout, stderr := run(t, append([]string{"scriptmgr"}, tc.args...)...)
			if code != 2 || !strings.HasPrefix(stderr, "scriptmgr: ") || !strings.Contains(stderr, tc.want) {
				t.Errorf("got %d, %q, %q, want 2, %s", code, stdout, stderr, tc.want)
			}
		})
	}
}

// The sample is a configuration that finds nothing.
func TestScriptmgrSample(t *testing.T) {
	t.Parallel()
	code, sample, _ := run(t, "scriptmgr", "--ini")
	ini := filepath.Join(t.TempDir(), "jobs.ini")
	sample = strings.Replace(sample, "~/conf/*.ini", filepath.Dir(ini)+"/*.job", 1)
	sample = regexp.MustCompile(`(?m)^#(\S)`).ReplaceAllString(strings.Replace(sample, "#logfile", "# logfile", 1), "$1")
	if err := os.WriteFile(ini, []byte(sample), 0o600); err != nil {
		t.Fatal(err)
	}
	if code2, stdout, stderr := run(t, "scriptmgr", ini, "status"); code != 0 || code2 != 0 || !strings.HasPrefix(stdout, "JOB ") {
		t.Errorf("--ini %d, status %d, %q, %q of\n%s", code, code2, stdout, stderr, sample)
	}
}
