package pooler

// Poolers as processes of their own, for the tests of the online restart: the test binary
// starts itself. As root they run as another user, since PgBouncer wants that.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"goworkers/internal/pooler/ini"
)

const (
	processEnv  = "POOLER_TEST_CONF"      // the process is a pooler of this file
	takeOverEnv = "POOLER_TEST_TAKE_OVER" // it takes the running one over
	stopAtEnv   = "POOLER_TEST_STOP_AT"   // STEP=kill or STEP=wait: what it does there
	filesEnv    = "POOLER_TEST_FILES"     // how many open files it may have
)

// serveInProcess is the process; it says on stdout how far it has come.
func serveInProcess(conf string) int {
	complain := func(err error) int {
		fmt.Fprintln(os.Stderr, "failed:", err)
		return 1
	}
	if text := os.Getenv(filesEnv); text != "" {
		files, err := strconv.ParseUint(text, 10, 64)
		if err == nil {
			err = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: files, Max: files})
		}
		if err != nil {
			return complain(err)
		}
	}
	cfg, warnings, err := ini.Load(conf)
	if err != nil {
		return complain(err)
	}
	at, what, _ := strings.Cut(os.Getenv(stopAtEnv), "=")
	opt := Options{Log: os.Stderr, Warnings: warnings, step: func(name string) {
		if name != at {
			return
		}
		fmt.Println("at " + name)
		switch what {
		case "kill":
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
		case "wait":
			// The test ends the pause.
			io.ReadAll(os.Stdin)
		}
	}}
	build := New
	if os.Getenv(takeOverEnv) != "" {
		build = TakeOver
	}
	p, err := build(cfg, opt)
	if err != nil {
		return complain(err)
	}
	fmt.Println("up")
	go func() {
		p.AwaitPredecessor(takeoverPatience)
		fmt.Println("alone")
	}()
	if err := p.Run(); err != nil {
		return complain(err)
	}
	return 0
}

// process is one that runs.
type process struct {
	t      testing.TB
	cmd    *osexec.Cmd
	stdin  io.WriteCloser
	stderr logBuffer
	lines  chan string // of stdout; closed at its end
	ended  sync.Once
	err    error
}

// unprivileged has a command run as a user who is not root.
func unprivileged(t testing.TB, cmd *osexec.Cmd) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	u, err := osuser.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// testBinary is a copy of the test binary that another user may run.
func (r *rig) testBinary() string {
	r.t.Helper()
	path := filepath.Join(r.dir, "pooler.test")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	self, err := os.Executable()
	if err != nil {
		r.t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(path, data, 0o755)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return path
}

// processRig is a rig whose poolers are processes.
func processRig(t testing.TB, c config) *rig {
	t.Helper()
	r := newRig(t, c)
	if err := os.Chmod(r.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	r.share()
	return r
}

// share lets the processes read what write has written.
func (r *rig) share() {
	for _, path := range []string{r.conf, filepath.Join(r.dir, "users.txt")} {
		if err := os.Chmod(path, 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

// process starts one; env is KEY=VALUE.
func (r *rig) process(env ...string) *process {
	r.t.Helper()
	cmd := osexec.Command(r.testBinary())
	cmd.Env = append(os.Environ(), append(env, processEnv+"="+r.conf)...)
	return launch(r.t, cmd)
}

// launch starts a command that ends with the test.
func launch(t testing.TB, cmd *osexec.Cmd) *process {
	t.Helper()
	pr := &process{t: t, cmd: cmd, lines: make(chan string, 16)}
	unprivileged(t, cmd)
	cmd.Stderr = &pr.stderr
	var err error
	if pr.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(pr.lines)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			pr.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		pr.cmd.Process.Kill()
		pr.wait()
		if strings.Contains(pr.stderr.String(), "DATA RACE") {
			t.Error("a data race in a process")
		}
		if t.Failed() {
			t.Logf("process %d:\n%s", pr.cmd.Process.Pid, pr.stderr.String())
		}
	})
	return pr
}

// says waits until the process says something; the end of its output is the end of the test.
func (pr *process) says(want string) *process {
	pr.t.Helper()
	for line := range pr.lines {
		if line == want {
			return pr
		}
	}
	pr.t.Fatalf("the process ends before it says %q:\n%s", want, pr.stderr.String())
	return pr
}

// wait waits for the end and gives its error.
func (pr *process) wait() error {
	pr.ended.Do(func() {
		for range pr.lines {
		}
		pr.err = pr.cmd.Wait()
	})
	return pr.err
}

// fails waits for an end with an error that says want.
func (pr *process) fails(want string) {
	pr.t.Helper()
	var exit *osexec.ExitError
	if err := pr.wait(); !errors.As(err, &exit) {
		pr.t.Fatalf("the process ends with %v", err)
	}
	if !strings.Contains(pr.stderr.String(), want) {
		pr.t.Fatalf("the process does not say %q:\n%s", want, pr.stderr.String())
	}
}

// endsWell waits for the end of a process that was taken over.
func (pr *process) endsWell() {
	pr.t.Helper()
	if err := pr.wait(); err != nil {
		pr.t.Errorf("the process ends with %v:\n%s", err, pr.stderr.String())
	}
}

// takeOver has a new process take old over and gives it.
func (r *rig) takeOver(old *process) *process {
	r.t.Helper()
	next := r.process(takeOverEnv + "=1").says("up").says("alone")
	old.endsWell()
	r.waitFor(fmt.Sprintf("process %d is taken over", old.cmd.Process.Pid), func() bool {
		return strings.Contains(next.stderr.String(), fmt.Sprintf("from process %d ", old.cmd.Process.Pid))
	})
	return next
}
