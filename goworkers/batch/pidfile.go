package batch

// The pid file: one process a job, and the way to find it.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// PidFile is a pid file that this process owns.
type PidFile struct {
	path string
}

// WritePidFile takes the pid file for this process. A file of a living
// process is an error; one of a dead process is replaced. Two starts at once
// cannot both succeed.
func WritePidFile(path string) (*PidFile, error) {
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, pidFileError(path, err)
	}
	defer os.Remove(temp.Name())
	_, err = fmt.Fprintln(temp, os.Getpid())
	if err == nil {
		err = temp.Chmod(0o644)
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, pidFileError(path, err)
	}
	for {
		err := os.Link(temp.Name(), path)
		if err == nil {
			return &PidFile{path: path}, nil
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, pidFileError(path, err)
		}
		taken, err := takeOver(path)
		if err != nil {
			return nil, err
		}
		if taken {
			return &PidFile{path: path}, nil
		}
	}
}

// takeOver writes our pid into a pid file that is there, unless its process
// lives. The file is locked meanwhile, so that of two starts the second finds
// the pid of the first. It says false when the file vanished.
func takeOver(path string) (bool, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, pidFileError(path, err)
	}
	defer file.Close()
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return false, pidFileError(path, err)
	}
	// What counts is the file in hand: the one at path may go at any moment, as
	// when its process ends, and then this one is worth nothing.
	data, err := io.ReadAll(file)
	if err != nil {
		return false, pidFileError(path, err)
	}
	if pid := alive(parsePid(data)); pid != 0 {
		return false, fmt.Errorf("pidfile %s exists, another process running? (pid %d)", path, pid)
	}
	text := fmt.Appendln(nil, os.Getpid())
	if _, err := file.WriteAt(text, 0); err != nil {
		return false, pidFileError(path, err)
	}
	if err := file.Truncate(int64(len(text))); err != nil {
		return false, pidFileError(path, err)
	}
	opened, err := file.Stat()
	if err != nil {
		return false, pidFileError(path, err)
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there), nil
}

func pidFileError(path string, err error) error {
	return fmt.Errorf("write pidfile %s: %w; create its directory or change pidfile", path, baseError(err))
}

// Remove deletes the pid file, unless another process has taken it since.
func (p *PidFile) Remove() {
	if pid, err := readPid(p.path); err == nil && pid == os.Getpid() {
		os.Remove(p.path)
	}
}

// readPid reads a pid file; a file without a pid in it gives 0.
func readPid(path string) (int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return parsePid(data), nil
}

func parsePid(data []byte) int {
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// RunningPid is the pid in the file if that process lives and is another
// one, else 0.
func RunningPid(path string) (int, error) {
	pid, err := readPid(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read pidfile %s: %w", path, baseError(err))
	}
	return alive(pid), nil
}

// alive is the pid if its process lives and is another one, else 0.
func alive(pid int) int {
	if pid == 0 || pid == os.Getpid() || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return 0
	}
	// A zombie has ended, though nobody has asked yet how (proc(5)).
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if state := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); err == nil && len(state) > 0 && string(state[0]) == "Z" {
		return 0
	}
	return pid
}

// ErrNotRunning is a pid file without a living process.
var ErrNotRunning = errors.New("no process is running")

// SignalRunning sends a signal to the process that owns the pid file and
// returns its pid.
func SignalRunning(path string, sig syscall.Signal) (int, error) {
	if path == "" {
		return 0, Usagef("no pidfile is configured, so the running process cannot be found; add pidfile = … to the ini file")
	}
	pid, err := RunningPid(path)
	if err != nil {
		return 0, err
	}
	if pid == 0 {
		return 0, fmt.Errorf("%w (pidfile %s)", ErrNotRunning, path)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return 0, fmt.Errorf("signal process %d of pidfile %s: %w", pid, path, err)
	}
	return pid, nil
}

// baseError takes the operation and the path off an error that will be told
// with them anyway.
func baseError(err error) error {
	var pathErr *os.PathError
	var linkErr *os.LinkError
	switch {
	case errors.As(err, &pathErr):
		return pathErr.Err
	case errors.As(err, &linkErr):
		return linkErr.Err
	}
	return err
}
