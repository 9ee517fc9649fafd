// How a loop waits: under load on its own account, else as a goroutine does.

package evloop

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// shortWait is how long a busy loop waits without telling the Go scheduler, in
// milliseconds. Under load something comes before it is over, and a turn costs one
// system call and none of the scheduler's work; meanwhile other goroutines run on the
// other processors that Go has. A waiting loop does not hold up the garbage collector:
// its signal ends the wait. It is longer than a tick of the kernel's clock: a timer that
// ends before the next tick makes the kernel program its hardware twice in each turn.
const shortWait = 20

// A stream that comes in pieces, as COPY and large results do, is let run up for a moment
// once it has had manyPieces in turns that had nothing else to do: the loop would be woken
// for each 8 kB otherwise, and the server be held up by the waking. The kernel adds some
// 50 µs to pieceWait (in ns).
const (
	manyPieces = 32
	pieceWait  = 20_000
)

// rest is where a loop waits that has nothing to do: it parks until the scheduler sees
// its epoll instance ready. A goroutine that waits in a system call has the runtime look
// after it time and again, which is nearly all that an idle process would do.
//
// The runtime watches outer, which watches the loop's own instance, but only while the
// loop rests: else each event under load would wake the runtime too.
type rest struct {
	outer int
	file  *os.File // of outer
	conn  syscall.RawConn
	look  func(uintptr) bool
	found int
	err   error
}

func (l *Loop) newRest() (err error) {
	r := &l.rest
	if r.outer, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("create epoll instance: %w", err)
	}
	// Or os.NewFile would not give it to the runtime's poller.
	if err := syscall.SetNonblock(r.outer, true); err != nil {
		syscall.Close(r.outer)
		return fmt.Errorf("prepare epoll instance: %w", err)
	}
	r.file = os.NewFile(uintptr(r.outer), "epoll")
	if r.conn, err = r.file.SyscallConn(); err != nil {
		r.file.Close()
		return fmt.Errorf("prepare epoll instance: %w", err)
	}
	r.look = func(uintptr) bool {
		r.found, r.err = l.fetch(0)
		return r.found > 0 || r.err != nil && r.err != syscall.EINTR
	}
	return nil
}

// wait looks for ready descriptors, for so long at most.
func (l *Loop) wait(timeout time.Duration) (int, error) {
	// Rounded up, or the last millisecond before a sweep would be spent spinning.
	ms := int(max(0, (timeout+time.Millisecond-1)/time.Millisecond))
	if l.pieces > manyPieces {
		pause := syscall.Timespec{Nsec: pieceWait}
		syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&pause)), 0, 0)
	}
	short := 0
	if l.busy {
		short = min(ms, shortWait)
	}
	n, err := l.fetch(short)
	if err == syscall.EINTR {
		return 0, nil // the runtime wants something: this is not the end of being busy
	}
	if n == 0 && err == nil && ms > short {
		n, err = l.park(time.Duration(ms-short) * time.Millisecond)
	}
	l.busy = n > 0
	if err != nil {
		return 0, fmt.Errorf("wait for events: %w", err)
	}
	return n, nil
}

// fetch asks the kernel, and waits so many milliseconds for something.
func (l *Loop) fetch(ms int) (int, error) {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), uintptr(ms), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// park waits as a goroutine does.
func (l *Loop) park(timeout time.Duration) (int, error) {
	r := &l.rest
	if err := r.file.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return 0, err
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN}
	if err := syscall.EpollCtl(r.outer, syscall.EPOLL_CTL_ADD, l.epfd, &e); err != nil {
		return 0, err
	}
	r.found, r.err = 0, nil
	err := r.conn.Read(r.look)
	syscall.EpollCtl(r.outer, syscall.EPOLL_CTL_DEL, l.epfd, nil)
	switch {
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return 0, err
	case r.err != nil && r.err != syscall.EINTR:
		return 0, r.err
	}
	return r.found, nil
}
