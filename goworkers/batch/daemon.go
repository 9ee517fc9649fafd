package batch

// Going into the background. A Go process cannot fork, so it starts itself
// again in a session of its own. The parent waits until the child says that
// it runs, so what goes wrong at start is seen on the terminal and in the
// exit code.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// daemonEnv marks the background process; its value is the descriptor by
// which that tells its parent that it runs.
const daemonEnv = "SKYTOOLS_DAEMON_FD"

// Daemon is the background process's way to let go of its parent.
type Daemon struct {
	ready *os.File
}

// Daemonize starts this program again, with the same arguments, in the
// background. In the parent it returns nil after the child called Ready, or
// the error that the child ended with; the parent has nothing more to do. In
// the child it returns a Daemon.
func Daemonize() (*Daemon, error) {
	if text := os.Getenv(daemonEnv); text != "" {
		os.Unsetenv(daemonEnv)
		fd, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", daemonEnv, err)
		}
		unix.CloseOnExec(fd)
		return &Daemon{ready: os.NewFile(uintptr(fd), "daemon-ready")}, nil
	}

	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("go into the background: %w", err)
	}
	defer r.Close()
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("go into the background: %w", err)
	}
	child := exec.Command(self)
	child.Args = os.Args // argv[0] names the command
	child.Env = append(os.Environ(), daemonEnv+"=3")
	child.ExtraFiles = []*os.File{w}
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = child.Start()
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("go into the background: %w", err)
	}
	if data, err := io.ReadAll(r); err == nil && len(data) > 0 {
		return nil, child.Process.Release()
	}
	err = child.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, &childError{code: exit.ExitCode()}
	}
	return nil, errors.New("the background process ended before it was ready")
}

// childError passes on the exit code of a background process that has
// already said on stderr why it ended.
type childError struct{ code int }

func (e *childError) Error() string {
	return fmt.Sprintf("the background process ended with status %d before it was ready", e.code)
}

// Ready tells the parent that the daemon runs and lets go of the terminal.
// Call it after the log file and the pid file are open.
func (d *Daemon) Ready() error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("let go of the terminal: %w", err)
	}
	defer null.Close()
	for fd := range 3 {
		if err := unix.Dup2(int(null.Fd()), fd); err != nil {
			return fmt.Errorf("let go of the terminal: %w", err)
		}
	}
	if _, err := d.ready.Write([]byte{'\n'}); err != nil {
		return fmt.Errorf("tell the parent that the daemon runs: %w", err)
	}
	return d.ready.Close()
}
