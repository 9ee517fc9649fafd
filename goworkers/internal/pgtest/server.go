// A server of a test's own, for tests that take it away.

package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// PrivateServer is a server of one test, which may stop and start it.
type PrivateServer struct {
	// DSN leads to the database postgres.
	DSN string
	// Port is where it listens on 127.0.0.1; it stays over restarts.
	Port int

	dir     string
	program string // scripts/pgcluster
}

// Server starts a server of the test's own, with our extensions installed and
// NAME=VALUE settings in its configuration. It is gone when the test ends.
func Server(t testing.TB, settings ...string) *PrivateServer {
	t.Helper()
	tree := environ(t, treeEnv)
	program, err := findScript("pgcluster")
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir, which other users may not enter: as root the server runs
	// as somebody else.
	dir, err := os.MkdirTemp("", "skytools-pgtest.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &PrivateServer{dir: filepath.Join(dir, "server"), program: program}
	t.Cleanup(func() { _, _ = s.run("stop", s.dir, "immediate") })
	out, err := s.run(append([]string{"start", s.dir, tree}, settings...)...)
	if err != nil {
		t.Fatal(err)
	}
	if s.Port, err = strconv.Atoi(strings.TrimSpace(out)); err != nil {
		t.Fatalf("pgcluster start printed no port: %q", out)
	}
	s.DSN = fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres", s.Port)
	return s
}

// DB creates a database on the server, as the function DB does.
func (s *PrivateServer) DB(t testing.TB, extensions ...string) *Database {
	t.Helper()
	return create(t, s.DSN, extensions)
}

// Stop ends the server as a crash would: every connection breaks at once.
func (s *PrivateServer) Stop(t testing.TB) {
	t.Helper()
	if _, err := s.run("stop", s.dir, "immediate"); err != nil {
		t.Fatal(err)
	}
}

// Start brings a stopped or killed server back on its port.
func (s *PrivateServer) Start(t testing.TB) {
	t.Helper()
	s.removeLocks(t)
	out, err := s.run("start", s.dir, environ(t, treeEnv))
	if err != nil {
		t.Fatal(err)
	}
	if port := strings.TrimSpace(out); port != strconv.Itoa(s.Port) {
		t.Fatalf("somebody took port %d while the server was stopped", s.Port)
	}
}

// Demote starts the server again as a standby that follows nobody, until Promote.
func (s *PrivateServer) Demote(t testing.TB) {
	t.Helper()
	s.Stop(t)
	if err := os.WriteFile(filepath.Join(s.dir, "data", "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.Start(t)
}

// Promote ends what Demote began.
func (s *PrivateServer) Promote(t testing.TB) {
	t.Helper()
	(&Database{DSN: s.DSN}).Exec(t, `select pg_catalog.pg_promote()`)
}

// Restart is Stop and Start.
func (s *PrivateServer) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// Postmaster returns the process id of the server's parent process.
func (s *PrivateServer) Postmaster(t testing.TB) int {
	t.Helper()
	lines, err := os.ReadFile(s.pidFile())
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(lines), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// Children returns the process ids of the server's other processes.
func (s *PrivateServer) Children(t testing.TB) []int {
	t.Helper()
	parent := s.Postmaster(t)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, ppid := processStat(e.Name()); ppid == strconv.Itoa(parent) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Kill ends all of the server's processes at once, as the end of its machine
// would: none of them has a say. Start brings it back.
func (s *PrivateServer) Kill(t testing.TB) {
	t.Helper()
	postmaster := s.Postmaster(t)
	// It must not notice the end of its children, nor make new ones.
	if err := syscall.Kill(postmaster, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	pids := append(s.Children(t), postmaster)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range pids {
		Eventually(t, setupTimeout, fmt.Sprintf("process %d ends", pid), func() bool { return !Alive(pid) })
	}
}

// Alive says whether a process runs; one that has ended but was not collected
// does not.
func Alive(pid int) bool {
	state, _ := processStat(strconv.Itoa(pid))
	return state != "" && state != "Z" && state != "X"
}

// removeLocks removes the lock files of a postmaster that was killed. It would do
// so itself if its number were free, but nobody may have collected it yet.
func (s *PrivateServer) removeLocks(t testing.TB) {
	t.Helper()
	locks, err := filepath.Glob(filepath.Join(s.dir, ".s.PGSQL.*"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.pidFile()); err != nil || Alive(s.Postmaster(t)) {
		return
	}
	for _, lock := range append(locks, s.pidFile()) {
		if err := os.Remove(lock); err != nil {
			t.Fatal(err)
		}
	}
}

// Log returns what the server has logged so far.
func (s *PrivateServer) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *PrivateServer) pidFile() string { return filepath.Join(s.dir, "data", "postmaster.pid") }

// processStat returns state and parent of a process, or nothing if there is none.
func processStat(pid string) (state, parent string) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "", ""
	}
	// The name stands in parentheses and may hold anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return fields[0], fields[1]
}

func (s *PrivateServer) run(args ...string) (string, error) {
	// A file, since the server would keep a pipe open.
	out, err := os.CreateTemp("", "skytools-pgtest-out.")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd := exec.Command(s.program, args...)
	cmd.Stdout = out
	cmd.Stderr = out
	if err := cmd.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return "", fmt.Errorf("pgcluster %s: %w\n%s", strings.Join(args, " "), err, said)
	}
	said, err := os.ReadFile(out.Name())
	return string(said), err
}

// findScript looks for scripts/NAME in the folders above the test's package.
func findScript(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		program := filepath.Join(dir, "scripts", name)
		if _, err := os.Stat(program); err == nil {
			return program, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("scripts/" + name + " is in no folder above the test")
		}
	}
}
