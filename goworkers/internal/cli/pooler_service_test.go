package cli

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"goworkers/internal/pgtest"
)

// Under a service manager: its sockets are served, and it hears how things stand.
func TestPoolerUnderAServiceManager(t *testing.T) {
	db := pgtest.DB(t)
	dir, bin := poolerProgram(t)
	var server string
	for _, word := range strings.Fields(db.DSN) {
		if strings.HasPrefix(word, "host=") || strings.HasPrefix(word, "port=") {
			server += word + " "
		}
	}
	// Its own sockets would be elsewhere: it must not open them.
	text := fmt.Sprintf("[databases]\nd = %sdbname=%s\n[pgbouncer]\nlisten_addr = 127.0.0.9\nlisten_port = 1\nunix_socket_dir = /nowhere\n"+
		"auth_type = trust\nauth_file = %s/users\nstats_period = 0.3\n", server, db.Name, dir)
	if os.Getuid() == 0 {
		text += "user = nobody\n"
	}
	conf := filepath.Join(dir, "pooler.ini")
	for name, text := range map[string]string{conf: text, filepath.Join(dir, "users"): "\"postgres\" \"\"\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	path := filepath.Join(dir, ".s.PGSQL.7777")
	local, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for _, l := range []interface{ File() (*os.File, error) }{tcp.(*net.TCPListener), local.(*net.UnixListener)} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	notify := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if err := os.Chmod(notify, 0o777); err != nil {
		t.Fatal(err)
	}
	// LISTEN_PID is the process that is to take the sockets.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$@"`, "sh", bin, "pooler", "-q", conf)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "NOTIFY_SOCKET="+notify, "WATCHDOG_USEC=1000000")
	cmd.ExtraFiles = files
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	hear := func(want string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		buf := make([]byte, 64<<10)
		var heard []string
		for {
			manager.SetReadDeadline(deadline)
			n, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: heard %q: %v\n%s", want, heard, err, said.String())
			}
			if regexp.MustCompile(want).Match(buf[:n]) {
				return
			}
			heard = append(heard, string(buf[:n]))
		}
	}
	hear(`^READY=1`)
	for _, at := range [][]string{{"-h", "127.0.0.1", "-p", fmt.Sprint(tcp.Addr().(*net.TCPAddr).Port)}, {"-h", dir, "-p", "7777"}} {
		out, err := exec.Command("psql", append(at, "-XAt", "-U", "postgres", "-c", "select 'here'", "d")...).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "here" {
			t.Errorf("%v: %v: %s", at, err, out)
		}
	}
	hear(`^WATCHDOG=1`)
	hear(`^STATUS=stats: `)
	cmd.Process.Signal(syscall.SIGHUP)
	hear(`^RELOADING=1\nMONOTONIC_USEC=\d+`)
	hear(`^READY=1`)
	cmd.Process.Signal(syscall.SIGINT)
	hear(`^STOPPING=1`)
	if err := <-done; err != nil {
		t.Errorf("it ends with %v: %s", err, said.String())
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the manager's socket is gone: %v", err)
	}
}
