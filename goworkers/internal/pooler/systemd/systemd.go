// Package systemd is how the pooler and the service manager talk: sockets that the
// manager listens on for the pooler, and what the pooler tells about itself.
//
// The model: all of it comes through the environment (sd_listen_fds(3), sd_notify(3)),
// and without it nothing happens. Sockets are handed out as bare descriptors, as the
// pooler's loop wants them; who takes them closes them. What is told is one datagram, so
// the manager sees all lines of a message at once. A crash needs nothing of this: the
// manager sees the process end and keeps the sockets.
package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Listener is a socket that the manager has bound and listens on.
type Listener struct {
	// FD is its descriptor: non-blocking, closed on exec.
	FD int
	// Name is the socket unit's FileDescriptorName, or LISTEN_FD_n without one.
	Name string
	// Addr is what it is bound to; a unix socket has Path alone in SockaddrUnix.
	Addr unix.Sockaddr
}

// Listeners takes the sockets that the manager has passed to this process, in its order,
// and removes the variables that tell of them, so that no child believes them its own.
// None is no error. An error names what is not a listening stream socket; then all are
// closed. Call it once, before other goroutines look at the environment: the second
// call finds none.
func Listeners() ([]Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	files := activation.Files(true)
	if len(files) == 0 && pid == strconv.Itoa(os.Getpid()) && count != "0" {
		return nil, fmt.Errorf("systemd passes LISTEN_FDS=%q, which is not a number of sockets", count)
	}
	var list []Listener
	var problem error
	for i, f := range files {
		l := Listener{FD: -1, Name: f.Name()}
		// A File closes its descriptor when it is collected, so another one is taken.
		conn, err := f.SyscallConn()
		if err == nil {
			err2 := conn.Control(func(fd uintptr) { l.FD, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
			if err == nil {
				err = err2
			}
		}
		f.Close()
		if err == nil {
			err = l.check()
		}
		if err != nil && problem == nil {
			problem = fmt.Errorf("socket %d (%s) from systemd: %w", i+1, l.Name, err)
		}
		list = append(list, l)
	}
	if problem != nil {
		for _, l := range list {
			if l.FD >= 0 {
				unix.Close(l.FD)
			}
		}
		return nil, problem
	}
	return list, nil
}

// check makes the socket ready for the loop, or says why it cannot be.
func (l *Listener) check() error {
	kind, err := unix.GetsockoptInt(l.FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	listens, err := unix.GetsockoptInt(l.FD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return err
	}
	if kind != unix.SOCK_STREAM || listens == 0 {
		return fmt.Errorf("not a listening stream socket; the socket unit wants ListenStream= and Accept=no")
	}
	if l.Addr, err = unix.Getsockname(l.FD); err != nil {
		return err
	}
	switch l.Addr.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6, *unix.SockaddrUnix:
	default:
		return fmt.Errorf("neither a TCP nor a unix socket; the socket unit wants another ListenStream=")
	}
	return unix.SetNonblock(l.FD, true)
}

// What Notify can tell.
const (
	Ready    = daemon.SdNotifyReady    // started, or done with Reloading
	Stopping = daemon.SdNotifyStopping // on the way to the end
	Watchdog = daemon.SdNotifyWatchdog // still alive
)

// Status tells one line about the state, which systemctl status shows.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

// MainPID tells that another process is the service from now on: after an online restart.
func MainPID(pid int) string { return "MAINPID=" + strconv.Itoa(pid) }

// Reloading tells that the configuration is read again; Ready tells its end. It has the
// time that a service of Type=notify-reload must give, so make it when it is sent.
func Reloading() string {
	return daemon.SdNotifyReloading + "\n" + strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n")
}

// Notify sends lines to the manager in one message. It tells whether there is a manager
// that listens; without one there is no error. It may be used by several goroutines. It
// can wait for the manager to take the message, so the loop leaves it to a
// goroutine.
func Notify(lines ...string) (bool, error) {
	sent, err := daemon.SdNotify(false, strings.Join(lines, "\n"))
	if err != nil {
		return false, fmt.Errorf("tell systemd through NOTIFY_SOCKET: %w", err)
	}
	return sent, nil
}

// WatchdogInterval is the time in which the manager wants to hear Watchdog at least once
// (WatchdogSec=; tell it about twice as often); 0: it does not ask.
func WatchdogInterval() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("systemd's watchdog: %w", err)
	}
	return d, nil
}
