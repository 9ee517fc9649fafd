package batch

// The pid file: one process a job, and the way to find it. Its owner holds a lock on the
// file, so that a pid that another process has got since, after a crash or in a new
// container, stops nobody.

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// PidFile is a pid file that this process owns.
type PidFile struct {
	path string
	file *os.File // locked until it is closed
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
	_, err = lock(temp)
	if err == nil {
		_, err = fmt.Fprintln(temp, os.Getpid())
	}
	if err == nil {
		err = temp.Chmod(0o644)
	}
	for patience := time.Now().Add(exitTime); err == nil; {
		if err = os.Link(temp.Name(), path); err == nil {
			return &PidFile{path: path, file: temp}, nil
		}
		if !errors.Is(err, os.ErrExist) {
			break
		}
		var file *os.File
		if file, err = takeOver(path); file != nil {
			temp.Close()
			return &PidFile{path: path, file: file}, nil
		}
		if errors.Is(err, errLocked) && time.Now().Before(patience) {
			err = nil
			time.Sleep(exitTime / 100)
		}
	}
	temp.Close()
	if errors.Is(err, errHeld) || errors.Is(err, errLocked) {
		return nil, err
	}
	return nil, pidFileError(path, err)
}

// errHeld is a pid file of another process, errLocked one that somebody has locked who is
// not named in it: a process that is being killed, or another start.
var (
	errHeld   = errors.New("another process running?")
	errLocked = errors.New("another process has locked it")
)

// exitTime is how long a process that was killed may keep its lock.
const exitTime = 2 * time.Second

// takeOver writes our pid into a pid file that is there, unless its process
// lives. Of two starts the second finds it locked by the first. It gives no file
// when the one there vanished.
func takeOver(path string) (*os.File, error) {
	file, err := openPidFile(path, os.O_RDWR)
	if file == nil || err != nil {
		return nil, err
	}
	taken, err := takeFile(file, path)
	if !taken {
		file.Close()
		file = nil
	}
	return file, err
}

// openPidFile opens a pid file that is there; it gives none when it is not.
func openPidFile(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag|unix.O_NONBLOCK, 0) // a pipe has nobody at its other end
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return nil, errors.New("it is a symbolic link to a file that does not exist")
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if stat, err := file.Stat(); err != nil || !stat.Mode().IsRegular() {
		file.Close()
		return nil, cmp.Or(err, errors.New("it is no regular file"))
	}
	return file, nil
}

// takeFile writes our pid into the file in hand. What counts is that one: the file at path
// may go at any moment, as when its process ends, and then this one is worth nothing.
func takeFile(file *os.File, path string) (bool, error) {
	locked, err := lock(file)
	if err != nil {
		return false, err
	}
	pid, err := owner(file)
	if err != nil {
		return false, err
	}
	switch {
	case pid != 0:
		return false, fmt.Errorf("pidfile %s exists, %w (pid %d)", path, errHeld, pid)
	case !locked:
		return false, fmt.Errorf("pidfile %s exists, %w", path, errLocked)
	}
	text := fmt.Appendln(nil, os.Getpid())
	if _, err := file.WriteAt(text, 0); err != nil {
		return false, err
	}
	if err := file.Truncate(int64(len(text))); err != nil {
		return false, err
	}
	opened, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there), nil
}

// lock takes the lock of the open file (fcntl(2), open file description locks), and says
// false when somebody else has it.
func lock(file *os.File) (bool, error) {
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// owner is the pid in the file if that process lives, is another one and the file is
// its own, else 0.
func owner(file *os.File) (int, error) {
	data, err := io.ReadAll(io.NewSectionReader(file, 0, 64))
	if err != nil {
		return 0, err
	}
	pid := parsePid(data)
	if pid == 0 || pid == os.Getpid() {
		return 0, nil
	}
	stat, err := file.Stat()
	if err != nil {
		return 0, err
	}
	held := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &held); err != nil {
		return 0, err
	}
	started, alive := startOf(pid)
	// Other programs lock nothing: of those, one that began after its file was written
	// got the pid of the file's owner later.
	if !alive || held.Type == unix.F_UNLCK && started.After(stat.ModTime().Add(clockError)) {
		return 0, nil
	}
	return pid, nil
}

// clockError is what the start of a process and the time of a file may differ by.
const clockError = 2 * time.Second

func pidFileError(path string, err error) error {
	advice := "change pidfile"
	if errors.Is(err, os.ErrNotExist) {
		advice = "create its directory or change pidfile"
	}
	return fmt.Errorf("write pidfile %s: %w; %s", path, baseError(err), advice)
}

// Remove deletes the pid file, unless another process has taken it since.
func (p *PidFile) Remove() {
	if p.file == nil {
		return
	}
	if data, err := os.ReadFile(p.path); err == nil && parsePid(data) == os.Getpid() {
		os.Remove(p.path)
	}
	p.file.Close()
}

func parsePid(data []byte) int {
	words := strings.Fields(string(data)) // some programs write more behind it
	if len(words) == 0 {
		return 0
	}
	pid, err := strconv.Atoi(words[0])
	if err != nil || pid <= 0 {
		return 0
	}
	return pid
}

// RunningPid is the pid in the file if that process lives and is another
// one, else 0.
func RunningPid(path string) (int, error) {
	file, err := openPidFile(path, os.O_RDONLY)
	pid := 0
	if file != nil {
		defer file.Close()
		pid, err = owner(file)
	}
	if err != nil {
		return 0, fmt.Errorf("read pidfile %s: %w", path, baseError(err))
	}
	return pid, nil
}

// startOf tells whether a process lives, and when it was started, or never if /proc does
// not show that. A zombie has ended, though its parent has not asked yet how (proc(5)).
func startOf(pid int) (_ time.Time, alive bool) {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return time.Time{}, false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on
	if err != nil || len(fields) < 20 {
		return time.Time{}, true
	}
	const second = 100 // in units of field 22, since the machine was started
	ticks, err := strconv.ParseInt(string(fields[19]), 10, 64)
	var uptime unix.Timespec
	if err != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &uptime) != nil {
		return time.Time{}, true
	}
	start := time.Now().Add(time.Duration(ticks)*time.Second/second - time.Duration(uptime.Nano()))
	return start, string(fields[0]) != "Z"
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
