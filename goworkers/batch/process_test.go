package batch

// The pid file and the signals.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"goworkers/internal/pgtest"
)

// deadPid is the pid of a process that has ended.
func deadPid(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

func TestPidFile(t *testing.T) {
	for _, tc := range []struct {
		name    string
		content string // "" for no file
		want    string // error, "" when it is taken
	}{
		{"no file", "", ""},
		{"of a living process", fmt.Sprintln(os.Getppid()), fmt.Sprintf("exists, another process running? (pid %d)", os.Getppid())},
		{"of a dead process", fmt.Sprintln(deadPid(t)), ""},
		{"of ourselves, before a reboot", fmt.Sprint(os.Getpid()), ""},
		{"with rubbish", "not a pid", ""},
		{"with more lines", fmt.Sprintf("%d\nmore\n", os.Getppid()), fmt.Sprintf("exists, another process running? (pid %d)", os.Getppid())},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "job.pid")
			if tc.content != "" {
				if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p, err := WritePidFile(path)
			if tc.want != "" {
				if err == nil || !strings.HasSuffix(err.Error(), tc.want) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if data, _ := os.ReadFile(path); string(data) != fmt.Sprintln(os.Getpid()) {
				t.Errorf("the file says %q", data)
			}
			p.Remove()
			left, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(left) != 0 {
				t.Errorf("left after Remove: %v, %v", left, err)
			}
		})
	}
}

// What is no file is told, and nobody waits for it.
func TestPidFileMustBeAFile(t *testing.T) {
	dir := t.TempDir()
	link, fifo := filepath.Join(dir, "link.pid"), filepath.Join(dir, "fifo.pid")
	if err := os.Symlink(filepath.Join(dir, "gone"), link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{link: "symbolic link to a file that does not exist", fifo: "no regular file", dir: "directory"} {
		if _, err := WritePidFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("write %s: %v, want %q", path, err, want)
		}
		if _, err := RunningPid(path); path != dir && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("read %s: %v, want %q", path, err, want)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A process that is being killed keeps its lock for a moment.
func TestPidFileIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.pid")
	if err := os.WriteFile(path, fmt.Appendln(nil, deadPid(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if locked, err := lock(file); !locked || err != nil {
		t.Fatalf("lock: %t, %v", locked, err)
	}
	var end sync.WaitGroup
	end.Go(func() {
		time.Sleep(exitTime / 4)
		file.Close()
	})
	p, err := WritePidFile(path)
	end.Wait()
	if err != nil {
		t.Fatal(err)
	}
	p.Remove()
}

func TestPidFileOfAnotherIsNotRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.pid")
	p, err := WritePidFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Remove()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the other's file: %v", err)
	}
}

func TestSignalRunning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.pid")
	if _, err := SignalRunning(path, syscall.SIGHUP); err == nil || err.Error() != "no process is running (pidfile "+path+")" {
		t.Errorf("no file: %v", err)
	}
	if _, err := SignalRunning("", syscall.SIGHUP); ExitCode(err) != 2 {
		t.Errorf("no pidfile configured: %v, want misuse", err)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(fmt.Sprintln(other.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	pid, err := SignalRunning(path, syscall.SIGTERM)
	if err != nil || pid != other.Process.Pid {
		t.Errorf("got %d, %v, want %d", pid, err, other.Process.Pid)
	}
	other.Wait()
	if status := other.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
		t.Errorf("the process ended by %v", status.Signal())
	}
}

// wait fails the test when nothing comes.
func wait(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("no %s", what)
	}
}

func TestSignals(t *testing.T) {
	raise := func(sig syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	s := NotifySignals()
	raise(syscall.SIGHUP)
	wait(t, s.Reload, "reload")
	if isClosed(s.Stop) {
		t.Error("SIGHUP stops")
	}
	raise(syscall.SIGINT)
	wait(t, s.Stop, "stop")
	if isClosed(s.Kill) {
		t.Error("one SIGINT kills")
	}
	raise(syscall.SIGINT)
	wait(t, s.Kill, "kill after the second SIGINT")
	s.Close()

	s = NotifySignals()
	defer s.Close()
	raise(syscall.SIGTERM)
	wait(t, s.Stop, "stop")
	if !isClosed(s.Kill) {
		t.Error("SIGTERM stops, but does not kill")
	}
}

// Two starts at the same time: one gets the file.
func TestPidFileIsTakenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.pid")
	if err := os.WriteFile(path, []byte(fmt.Sprintln(deadPid(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	// Each start is a process of its own, since the pid tells them apart.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const starts = 8
	var mu sync.Mutex
	won, done := 0, sync.WaitGroup{}
	ends := make([]*os.File, 0, starts)
	for range starts {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, w)
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), pidFileEnv+"="+path)
		cmd.Stdin = r
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r.Close()
		answer := make([]byte, 4)
		done.Go(func() {
			if n, _ := out.Read(answer); string(answer[:n]) == "won" {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
		t.Cleanup(func() { cmd.Wait() })
	}
	done.Wait()
	for _, w := range ends {
		w.Close()
	}
	if won != 1 {
		t.Errorf("%d of %d starts got the pid file, want 1", won, starts)
	}
}

// A pid that another process got after its owner was killed holds no file, and is not
// signalled; one whose file is older than its process, but locked, is its owner.
func TestReusedPidHoldsNoPidFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.pid")
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	if err := os.WriteFile(path, fmt.Appendln(nil, other.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, hour, hour); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if locked, err := lock(file); !locked || err != nil {
		t.Fatalf("lock: %t, %v", locked, err)
	}
	if pid, err := RunningPid(path); err != nil || pid != other.Process.Pid {
		t.Errorf("locked: %d, %v, want %d", pid, err, other.Process.Pid)
	}
	if _, err := WritePidFile(path); !errors.Is(err, errHeld) {
		t.Errorf("locked, and taken: %v", err)
	}
	file.Close()
	if _, err := SignalRunning(path, syscall.SIGTERM); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a strange process was signalled: %v", err)
	}
	p, err := WritePidFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.Remove()
}

// A start that meets a process just ending, with its file about to go, must not
// take that file: it would run without one.
func TestPidFileThatGoesIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.pid")
	living := path + ".living"
	if err := os.WriteFile(living, fmt.Appendln(nil, os.Getppid()), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var owner sync.WaitGroup
	owner.Go(func() {
		for !isClosed(stop) {
			os.Link(living, path)
			os.Remove(path)
		}
	})
	defer owner.Wait()
	defer close(stop)
	for range 20_000 {
		if taken, _ := takeOver(path); taken != nil {
			t.Fatal("the file of a living process was taken while it went")
		}
	}
}

const pidFileEnv = "BATCH_TEST_PIDFILE"

// takePidFile is what TestPidFileIsTakenOnce starts: it says whether it got
// the file and holds it until its stdin ends.
func takePidFile(path string) {
	p, err := WritePidFile(path)
	if err != nil {
		fmt.Print("lost")
		return
	}
	fmt.Print("won")
	buf := make([]byte, 1)
	for {
		if _, err := os.Stdin.Read(buf); err != nil {
			p.Remove()
			return
		}
	}
}

const (
	deafEnv  = "BATCH_TEST_DEAF"
	graceEnv = "BATCH_TEST_GRACE"
)

// ignoreAll is what TestKillEndsADeafHandler starts: a job whose work ignores its
// context.
func ignoreAll(ini string) {
	if grace, err := time.ParseDuration(os.Getenv(graceEnv)); err == nil {
		killGrace = grace
	}
	os.Args = []string{"deaf", ini}
	Main("deaf", &JobConfig{}, func(*Job) (Worker, error) {
		return WorkerFunc(func(context.Context) (bool, error) {
			fmt.Println("working")
			select {}
		}), nil
	})
}

// A process that shall end at once ends, also when its work does not: some time after
// the first SIGTERM, at once after a second.
func TestKillEndsADeafHandler(t *testing.T) {
	for _, tc := range []struct {
		name, grace string
		signals     int // at most
	}{
		{"one signal", "50ms", 1},
		{"more of them", "1h", 1000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			ini, pidfile := filepath.Join(dir, "deaf.ini"), filepath.Join(dir, "deaf.pid")
			if err := os.WriteFile(ini, []byte("[deaf]\npidfile = "+pidfile+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), deafEnv+"="+ini, graceEnv+"="+tc.grace)
			cmd.Stderr = &log
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { defer close(ended); _, _ = io.Copy(io.Discard, out) }()
			sent := 0
			pgtest.Eventually(t, 20*time.Second, "the process ends", func() bool {
				if sent < tc.signals {
					sent++
					_ = cmd.Process.Signal(syscall.SIGTERM)
				}
				return isClosed(ended)
			})
			err = cmd.Wait()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit code 1; log:\n%s", err, &log)
			}
			if !strings.Contains(log.String(), "the work under way does not end") {
				t.Errorf("log:\n%s", &log)
			}
			if _, err := os.Stat(pidfile); err == nil {
				t.Error("the pid file is left")
			}
		})
	}
}

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0}, {errors.New("x"), 1}, {ErrTerminated, 1}, {Usagef("x"), 2},
		{fmt.Errorf("start: %w", configError("f", "s", "x")), 2},
	} {
		if got := ExitCode(tc.err); got != tc.want {
			t.Errorf("%v: got %d, want %d", tc.err, got, tc.want)
		}
	}
}

// A process that has ended, but whose parent has not asked how, holds nothing.
func TestZombieHoldsNoPidFile(t *testing.T) {
	zombie := exec.Command("true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer zombie.Wait()
	path := filepath.Join(t.TempDir(), "job.pid")
	if err := os.WriteFile(path, fmt.Appendln(nil, zombie.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, 10*time.Second, "the process is a zombie and the pid file free", func() bool {
		pid, err := RunningPid(path)
		return err == nil && pid == 0
	})
	p, err := WritePidFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p.Remove()
}
