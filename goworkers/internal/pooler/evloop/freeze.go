// A loop that stands still: while another process takes its sockets over, and while it
// is not certain yet which of the two goes on.

package evloop

import (
	"fmt"
	"syscall"
)

// Freeze has the loop serve one descriptor alone, keep, which waits for ev; -1 is none.
// All others stay as they are, whatever happens to them, and what is posted waits; hooks
// are called as before. Stop ends a frozen loop without what is posted. It is for the
// loop's goroutine, or for another one while that one waits for it.
func (l *Loop) Freeze(keep int, ev Events) error {
	if l.frozen {
		return nil
	}
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create epoll instance: %w", err)
	}
	for fd, ev := range map[int]Events{l.wakefd: Readable, keep: ev} {
		if fd < 0 {
			continue
		}
		e := syscall.EpollEvent{Events: uint32(ev), Fd: int32(fd), Pad: l.slots[fd].gen}
		if err := syscall.EpollCtl(epfd, syscall.EPOLL_CTL_ADD, fd, &e); err != nil {
			syscall.Close(epfd)
			return fmt.Errorf("watch descriptor %d: %w", fd, err)
		}
	}
	l.frozen, l.asleep, l.epfd, l.keep = true, l.epfd, epfd, keep
	return nil
}

// Thaw ends Freeze; who may call it is as there.
func (l *Loop) Thaw() {
	if !l.frozen {
		return
	}
	syscall.Close(l.epfd)
	l.epfd, l.frozen = l.asleep, false
	if l.keep >= 0 {
		// The slot is there, so the descriptor is too.
		_ = l.Modify(l.keep, l.slots[l.keep].ev)
	}
	l.mu.Lock()
	if len(l.posted) > 0 && !l.signaled {
		l.signal()
	}
	l.mu.Unlock()
}

// poll is the epoll instance that tells of a descriptor.
func (l *Loop) poll(fd int) int {
	if l.frozen && fd != l.keep {
		return l.asleep
	}
	return l.epfd
}

// Frozen tells whether the loop is frozen; it is for who may call Freeze.
func (l *Loop) Frozen() bool { return l.frozen }
