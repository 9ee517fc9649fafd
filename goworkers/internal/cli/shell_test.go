package cli

// The console as users meet it: at a terminal, by a pipe, with -c and -f.

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"goworkers/internal/pgtest"
)

// terminal is a program that runs at a pseudo terminal of its own.
type terminal struct {
	keys *os.File
	cmd  *exec.Cmd
	done chan error

	mu     sync.Mutex
	screen bytes.Buffer
}

// startTerminal runs a program as a person would.
func startTerminal(t *testing.T, home, program string, args ...string) *terminal {
	t.Helper()
	return startSizedTerminal(t, unix.Winsize{Row: 50, Col: 200}, home, program, args...)
}

func startSizedTerminal(t *testing.T, size unix.Winsize, home, program string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &size); err != nil {
		t.Fatal(err)
	}
	x := &terminal{keys: master, cmd: exec.Command(program, args...), done: make(chan error, 1)}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.Env = append(os.Environ(), "HOME="+home, "TERM=xterm")
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			x.mu.Lock()
			x.screen.Write(buf[:n])
			x.mu.Unlock()
			if err != nil {
				return // the program has ended
			}
		}
	})
	go func() { x.done <- x.cmd.Wait() }()
	t.Cleanup(func() {
		if x.cmd.ProcessState == nil {
			_ = x.cmd.Process.Kill()
		}
		reading.Wait()
		master.Close()
		if t.Failed() {
			t.Logf("the screen:\n%s", x.text())
		}
	})
	return x
}

func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.screen.String()
}

// press sends keys, and waits until the screen shows a text that was not there.
func (x *terminal) press(t *testing.T, keys, want string) {
	t.Helper()
	before := len(x.text())
	if _, err := x.keys.WriteString(keys); err != nil {
		t.Fatal(err)
	}
	x.wait(t, before, want)
}

func (x *terminal) wait(t *testing.T, before int, want string) {
	t.Helper()
	pgtest.Eventually(t, soon, fmt.Sprintf("the screen shows %q", want), func() bool { return strings.Contains(x.text()[before:], want) })
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	up    = "\x1b[A"
)

func TestShellAtATerminal(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	home := t.TempDir()
	pgqadm := link(t, "pgqadm")
	ini := setupIni(t, "pgqadm", "db = "+d.DSN)
	x := startTerminal(t, home, pgqadm, ini, "shell")
	prompt := "(noqueue)@" + d.Name + "> "
	x.wait(t, 0, prompt)
	x.press(t, "create queue orders\r", "CREATE\r\n")
	x.press(t, "show queue ord\t\r", "\r\n orders ")
	x.press(t, "connect queue=o\t\r", "orders@"+d.Name+"> ")
	x.press(t, "select 41\r", "orders@"+d.Name+"- ")
	x.press(t, "  + 1 as n;\r", "42\r\n")
	x.press(t, "alter role nobody_here password 'geheim';\r", `role "nobody_here" does not exist`)

	// Ctrl-C at the prompt drops what was typed; in a statement it cancels that.
	x.press(t, "select 1 +"+ctrlC, "> ")
	x.press(t, "select pg_sleep(600);\r", "\n")
	d.WaitFor(t, `select exists (select from pg_stat_activity where query like 'select pg_sleep(600)%' and state = 'active')`)
	x.press(t, ctrlC, "SQLSTATE 57014")
	x.press(t, "select 'still ' || 'here' as here;\r", "still here")
	x.press(t, up+"\r", "still here")
	x.press(t, ctrlD, "\r\n")
	if err := <-x.done; err != nil {
		t.Errorf("the shell ended with %v", err)
	}

	path := filepath.Join(home, ".pgqadm_history")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "create queue orders\nshow queue orders\nconnect queue=orders\nselect 41   + 1 as n;\nselect pg_sleep(600);\n" +
		"select 'still ' || 'here' as here;\nselect 'still ' || 'here' as here;\n"
	if string(data) != want {
		t.Errorf("the history is\n%swant\n%s", data, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}

	// The next session has it.
	x = startTerminal(t, home, pgqadm, ini, "shell", "-Q", "orders")
	x.wait(t, 0, "orders@"+d.Name+"> ")
	x.press(t, up+"\r", "still here")
	x.press(t, "exit\r", "\n")
	if err := <-x.done; err != nil {
		t.Errorf("the second shell ended with %v", err)
	}
}

// A terminal that has no size, or is too narrow, serves as well; Ctrl-C at the prompt
// does not end the shell there either.
func TestShellAtANarrowTerminal(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	pgqadm := link(t, "pgqadm")
	ini := setupIni(t, "pgqadm", "db = "+d.DSN)
	for _, size := range []unix.Winsize{{}, {Row: 5, Col: 12}} {
		x := startSizedTerminal(t, size, t.TempDir(), pgqadm, ini, "shell")
		prompt := "(noqueue)@" + d.Name + "> "
		x.wait(t, 0, prompt)
		x.press(t, "select 1 +\n", "- ")
		x.press(t, "2 +"+ctrlC, prompt)
		x.press(t, "select 'still ' || 'here' as here;\n", "still here")
		x.press(t, ctrlC, prompt)
		if _, err := x.keys.WriteString("exit\n"); err != nil {
			t.Fatal(err)
		}
		if err := <-x.done; err != nil {
			t.Errorf("the shell ended with %v", err)
		}
	}
}

func TestShellByAPipe(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	ini := setupIni(t, "pgqadm", "db = "+d.DSN)
	cmd := exec.Command(link(t, "pgqadm"), ini, "shell")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stdin = strings.NewReader("create queue a\ncreate queue a\nselect 1/0;\ncreate queue b\n\\q\ncreate queue c\n")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if want := "CREATE\nCREATE\n"; out.String() != want {
		t.Errorf("stdout is %q, want %q", out.String(), want)
	}
	if want := "ERROR:  queue \"a\" exists already\nERROR:  division by zero (SQLSTATE 22012)\n"; errOut.String() != want {
		t.Errorf("stderr is %q, want %q", errOut.String(), want)
	}
	if got := d.Rows(t, `select queue_name from pgq.queue order by 1`); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("queues are %q", got)
	}
}

func TestShellRunsCommandsAndFiles(t *testing.T) {
	t.Parallel()
	_, pgqadm := setupPgqadm(t, "pgq")
	call := func(code int, stdout, stderr string, args ...string) {
		t.Helper()
		gotCode, gotOut, gotErr := pgqadm(append([]string{"shell"}, args...)...)
		if gotCode != code || gotOut != stdout || gotErr != stderr {
			t.Errorf("shell %q:\ngot  %d, %q, %q\nwant %d, %q, %q", args, gotCode, gotOut, gotErr, code, stdout, stderr)
		}
	}
	script := filepath.Join(t.TempDir(), "script.sql")
	if err := os.WriteFile(script, []byte("register consumer c\nselect co_name\n  from pgq.consumer;\n\nselect\n  nothing;\ncreate queue never\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call(0, "CREATE\nREGISTER\n", "", "-c", "create queue q; register consumer c on q")
	call(1, "CREATE\n", "pgqadm: queue \"q\" exists already\n", "-c", "create queue r; create queue q; create queue s")
	call(1, "", "pgqadm: drop queue \"q\": cannot drop queue, consumers still attached (SQLSTATE PGQ08); Queue \"q\" is read by: c; "+
		"Unregister them, or call pgq.drop_queue(queue, true)\n", "-c", "drop queue q")
	call(1, "REGISTER\n co_name\n---------\n c\n(1 row)\n\n", "pgqadm: "+script+":5: column \"nothing\" does not exist (SQLSTATE 42703)\n", "-Q", "q", "-f", script)
	call(1, "", "pgqadm: open /nowhere/x.sql: no such file or directory\n", "-f", "/nowhere/x.sql")
	call(2, "", "pgqadm: shell: give -c or -f, not both\n", "-f", script, "-c", "exit")
	call(2, "", "pgqadm: option --c of shell needs a value\n", "-c")
	call(2, "", "pgqadm: shell has no option -x; usage: pgqadm [options] CONFIG.ini shell [-Q QUEUE] [-c STATEMENTS | -f FILE]\n", "-x")
}
