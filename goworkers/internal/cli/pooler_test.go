package cli

// The pooler's command line, and the process as an operator runs it.

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"goworkers/internal/pgtest"
)

func TestPoolerRefusesWrongUse(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	main := "[pgbouncer]\nlisten_addr = 127.0.0.1\nunix_socket_dir = " + dir + "\nuser = no_such_user\n"
	for _, tc := range []struct {
		name   string
		args   []string
		stderr []string // what it must say
	}{
		{"no file", nil, []string{"exactly one configuration file"}},
		{"two files", []string{"a", "b"}, []string{"exactly one configuration file"}},
		{"takeover with sockets from systemd", []string{"-R", file("c.ini", main)}, []string{"-R does not go with sockets from systemd"}},
		{"missing file", []string{filepath.Join(dir, "none.ini")}, []string{"none.ini"}},
		{"unknown setting", []string{file("a.ini", "[pgbouncer]\npool_mod = session\n")}, []string{"a.ini:2", "pool_mod", "pool_mode"}},
		{"wrong type", []string{file("b.ini", "[pgbouncer]\nmax_client_conn = many\n")}, []string{"b.ini:2", "max_client_conn", "many"}},
		{"daemon without files", []string{"-d", file("d.ini", main)}, []string{"d.ini", "pidfile, and logfile or syslog"}},
		{"unknown user", []string{file("e.ini", main)}, []string{"e.ini", "no_such_user"}},
		{"options behind the file", []string{file("f.ini", main), "-u", "nobody_either", "-q"}, []string{"f.ini", "nobody_either"}},
		{"an unknown option behind the file", []string{file("g.ini", main), "-x"}, []string{"-x", "-h lists the options"}},
		{"an option's value alone", []string{file("h.ini", main), "-u"}, []string{"-u"}},
		{"what stands behind -- is no option", []string{"--", file("i.ini", main), "-q"}, []string{"exactly one configuration file"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if strings.Contains(tc.name, "systemd") {
				t.Setenv("LISTEN_FDS", "1")
			}
			code, stdout, stderr := run(t, append([]string{"skytools", "pooler"}, tc.args...)...)
			if code != 2 || stdout != "" {
				t.Errorf("exit code %d, stdout %q", code, stdout)
			}
			for _, want := range tc.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr %q does not say %q", stderr, want)
				}
			}
		})
	}
	if os.Getuid() == 0 {
		code, _, stderr := run(t, "pooler", file("f.ini", strings.Replace(main, "user =", ";", 1)))
		if code != 2 || !strings.Contains(stderr, "does not run as root; set user =") {
			t.Errorf("as root: exit code %d, %q", code, stderr)
		}
	}
}

func TestPoolerPrintsVersionAndSample(t *testing.T) {
	if code, stdout, _ := run(t, "pooler", "-V"); code != 0 || !strings.HasPrefix(stdout, "skytools pooler 4.0\n") {
		t.Errorf("-V: exit code %d, %q", code, stdout)
	}
	if code, stdout, _ := run(t, "pooler", "--ini"); code != 0 || !strings.Contains(stdout, "[pgbouncer]") || !strings.Contains(stdout, ";pool_mode = session") {
		t.Errorf("--ini: exit code %d, %q", code, stdout)
	}
}

// The real program in the background: pid file, log file, signals, another start.
// poolerProgram builds the program in a folder that another user may enter and write to.
func poolerProgram(t *testing.T) (dir, bin string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pooler.") // t.TempDir would be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	bin = filepath.Join(dir, "skytools")
	if out, err := exec.Command("go", "build", "-o", bin, "goworkers/cmd/skytools").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir, bin
}

func TestPoolerRunsAsDaemon(t *testing.T) {
	db := pgtest.DB(t)
	dir, bin := poolerProgram(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	var host, server string
	for _, word := range strings.Fields(db.DSN) {
		if v, ok := strings.CutPrefix(word, "host="); ok {
			host = v
		}
		if v, ok := strings.CutPrefix(word, "port="); ok {
			server = v
		}
	}
	conf := filepath.Join(dir, "pooler.ini")
	pidfile, logfile := filepath.Join(dir, "pid"), filepath.Join(dir, "log")
	text := fmt.Sprintf("[databases]\nd = host=%s port=%s dbname=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n"+
		"unix_socket_dir = %s\nauth_type = trust\nauth_file = %s/users\nadmin_users = postgres\npidfile = %s\nlogfile = %s\n",
		host, server, db.Name, port, dir, dir, pidfile, logfile)
	if os.Getuid() == 0 {
		text += "user = nobody\n"
	}
	for name, text := range map[string]string{conf: text, filepath.Join(dir, "users"): "\"postgres\" \"\"\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if err := os.Chmod(filepath.Join(dir, "notify"), 0o666); err != nil {
		t.Fatal(err)
	}
	pooler := func() ([]byte, error) {
		cmd := exec.Command(bin, "pooler", "-d", conf)
		cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
		return cmd.CombinedOutput()
	}
	if out, err := pooler(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	said, err := os.ReadFile(pidfile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
	if err != nil {
		t.Fatal(err)
	}
	gone := false
	t.Cleanup(func() {
		if !gone {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	psql := func(db, sql string) string {
		t.Helper()
		out, err := exec.Command("psql", "-X", "-At", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "postgres", "-c", sql, db).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", sql, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := psql("d", "select 1"); got != "1" {
		t.Fatalf("got %q", got)
	}
	// A second start finds the first one.
	if out, err := pooler(); err == nil || !strings.Contains(string(out), "another process") {
		t.Fatalf("second start: %v: %s", err, out)
	}
	if got := psql("d", "select 2"); got != "2" {
		t.Fatalf("after the second start: %q", got)
	}
	// A third one takes over: the same session goes on, the pid file names the new process.
	session := exec.Command("psql", "-X", "-At", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "postgres", "-v", "ON_ERROR_STOP=1", "d")
	stdin, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var answers bytes.Buffer
	session.Stdout, session.Stderr = &answers, &answers
	if err := session.Start(); err != nil {
		t.Fatal(err)
	}
	started := filepath.Join(dir, "started")
	fmt.Fprintf(stdin, "begin;\nset local work_mem = '7MB';\n\\! touch %s\n", started)
	pgtest.Eventually(t, 20*time.Second, "the session is in a transaction", func() bool {
		_, err := os.Stat(started)
		return err == nil
	})
	if out, err := exec.Command(bin, "pooler", "-d", "-R", conf).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("takeover: %v: %s", err, out)
	}
	if !ended(pid) {
		t.Error("the old process has not ended")
	}
	if said, err = os.ReadFile(pidfile); err != nil {
		t.Fatal(err)
	}
	old := pid
	if pid, err = strconv.Atoi(strings.TrimSpace(string(said))); err != nil || pid == old {
		t.Fatalf("the pid file says %q after the takeover from %d: %v", said, old, err)
	}
	// The service manager hears who is the service now, and not that it ends.
	_ = manager.SetReadDeadline(time.Now().Add(20 * time.Second))
	var told []string
	for want := fmt.Sprintf("MAINPID=%d", pid); len(told) == 0 || told[len(told)-1] != want; {
		line := make([]byte, 1000)
		n, err := manager.Read(line)
		if err != nil {
			t.Fatalf("the service manager hears %q, then %v; want %s", told, err, want)
		}
		told = append(told, string(line[:n]))
	}
	// The old process has ended: what we say comes behind all that it has said.
	own, err := net.Dial("unixgram", filepath.Join(dir, "notify"))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	fmt.Fprint(own, "nothing")
	line := make([]byte, 1000)
	if n, err := manager.Read(line); err != nil || string(line[:n]) != "nothing" {
		t.Errorf("after %q the service manager hears %q, %v", told, line[:n], err)
	}
	fmt.Fprint(stdin, "show work_mem;\ncommit;\n")
	stdin.Close()
	if err := session.Wait(); err != nil || !strings.Contains(answers.String(), "7MB\nCOMMIT") {
		t.Errorf("the session ends with %v: %s", err, answers.String())
	}
	if got := psql("d", "select 3"); got != "3" {
		t.Fatalf("after the takeover: %q", got)
	}
	logged := func(what string) func() bool {
		return func() bool {
			text, err := os.ReadFile(logfile)
			return err == nil && strings.Contains(string(text), what)
		}
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, 20*time.Second, "it reads its configuration again", logged("reading configuration again"))
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, 20*time.Second, "it has ended", func() bool {
		_, err := os.Stat(pidfile)
		return os.IsNotExist(err) && ended(pid)
	})
	gone = true
}

// ended tells whether a process is gone, or waits only for an init that collects
// it; a container may have none.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
