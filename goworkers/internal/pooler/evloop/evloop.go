// Package evloop moves the pooler's bytes: an epoll loop over non-blocking sockets, without
// a goroutine or a timer per connection.
//
// A Loop belongs to the goroutine that calls Run. Every method but Post and Stop is for
// that goroutine alone, so handlers share state without locks. What is slow (PBKDF2, DNS,
// TLS) runs in goroutines of its own, which hand their result in with Post.
//
// Interest is level-triggered: a handler that does not read all of its data is called
// again in the next turn, after everybody else had theirs. With Edge it is told of news
// alone, which saves the kernel a look at each descriptor in the turn after.
package evloop

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Events is what a handler waits for, and what it is told.
type Events uint32

// Broken comes without being asked for: the peer is gone in both directions.
// PeerClosed must be asked for: the peer sends nothing more. Edge is asked for only: the
// handler is told when something becomes so, or is so when it is Added or Modified.
const (
	Edge       Events = 1 << 31 // EPOLLET
	Readable   Events = syscall.EPOLLIN
	Writable   Events = syscall.EPOLLOUT
	PeerClosed Events = syscall.EPOLLRDHUP
	Broken     Events = syscall.EPOLLERR | syscall.EPOLLHUP
)

// BufferSize is the size of the loop's one read buffer.
const BufferSize = 64 << 10

// Handler is called in the loop's goroutine when its descriptor is ready.
type Handler interface {
	Ready(ev Events)
}

// Hooks are the loop's calls back that belong to no descriptor. Nil ones are left out.
type Hooks struct {
	// Sweep is called about each SweepEvery: the one timer of the pooler.
	Sweep func()
	// Turn is called at the end of each turn that handled something.
	Turn func()
}

// SweepEvery is the time between two sweeps.
const SweepEvery = 333 * time.Millisecond

type slot struct {
	h   Handler
	gen int32
	ev  Events
}

// Loop is one event loop.
type Loop struct {
	epfd, wakefd int
	start        time.Time
	now          time.Duration
	slots        []slot // by descriptor
	gen          int32
	buf          []byte
	events       [256]syscall.EpollEvent
	hooks        Hooks
	busy         bool // the last wait has found something
	piece        bool // a handler of this turn has called Piece
	pieces       int  // turns in a row that brought one piece and nothing else
	rest         rest
	frozen       bool
	asleep       int // while frozen: the epoll instance of all descriptors
	keep         int // while frozen: the descriptor that is served, or -1

	mu       sync.Mutex
	posted   []func()
	signaled bool
	stopping atomic.Bool
}

// New makes a loop that has no descriptors yet. Now counts from start: loops with the
// same start have times that can be compared.
func New(start time.Time, hooks Hooks) (*Loop, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	r, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		syscall.Close(epfd)
		return nil, fmt.Errorf("create eventfd: %w", errno)
	}
	l := &Loop{epfd: epfd, wakefd: int(r), start: start, buf: make([]byte, BufferSize), hooks: hooks}
	if err := l.newRest(); err != nil {
		syscall.Close(epfd)
		syscall.Close(l.wakefd)
		return nil, err
	}
	if err := l.Add(l.wakefd, Readable, wake{l}); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close gives the loop's own descriptors back; call it after Run has returned.
func (l *Loop) Close() {
	syscall.Close(l.epfd)
	if l.frozen {
		syscall.Close(l.asleep)
	}
	syscall.Close(l.wakefd)
	l.rest.file.Close()
}

// Buffer is the loop's read buffer, valid until the handler returns.
func (l *Loop) Buffer() []byte { return l.buf }

// Piece tells that what was read in this turn is a part of a stream that goes on.
func (l *Loop) Piece() { l.piece = true }

// Now is the time of this turn, counted from Start on the monotonic clock.
func (l *Loop) Now() time.Duration { return l.now }

// Start is the wall clock time that Now counts from.
func (l *Loop) Start() time.Time { return l.start }

// Tick takes the clock again, for a handler that worked long within one turn.
func (l *Loop) Tick() time.Duration {
	l.now = time.Since(l.start)
	return l.now
}

// Add makes h the handler of fd. The caller keeps fd and calls Remove before closing it.
func (l *Loop) Add(fd int, ev Events, h Handler) error {
	for fd >= len(l.slots) {
		l.slots = append(l.slots, make([]slot, max(64, len(l.slots)))...)
	}
	l.gen++
	l.slots[fd] = slot{h, l.gen, ev}
	e := syscall.EpollEvent{Events: uint32(ev), Fd: int32(fd), Pad: l.gen}
	if err := syscall.EpollCtl(l.poll(fd), syscall.EPOLL_CTL_ADD, fd, &e); err != nil {
		l.slots[fd] = slot{}
		return fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Modify changes what fd's handler waits for.
func (l *Loop) Modify(fd int, ev Events) error {
	l.slots[fd].ev = ev
	e := syscall.EpollEvent{Events: uint32(ev), Fd: int32(fd), Pad: l.slots[fd].gen}
	if err := syscall.EpollCtl(l.poll(fd), syscall.EPOLL_CTL_MOD, fd, &e); err != nil {
		return fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Remove forgets fd; events of it that this turn has fetched already are dropped.
func (l *Loop) Remove(fd int) {
	if fd >= len(l.slots) {
		return // it was never added
	}
	l.slots[fd] = slot{}
	var e syscall.EpollEvent
	syscall.EpollCtl(l.epfd, syscall.EPOLL_CTL_DEL, fd, &e)
	if l.frozen {
		syscall.EpollCtl(l.asleep, syscall.EPOLL_CTL_DEL, fd, &e)
		if fd == l.keep {
			l.keep = -1
		}
	}
}

// Post has f run in the loop's goroutine; any goroutine may call it. It reports
// false when the loop has ended and f will never run.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping.Load() {
		return false
	}
	l.posted = append(l.posted, f)
	l.signal()
	return true
}

// Stop makes Run return after what is posted already; any goroutine may call it.
func (l *Loop) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopping.Store(true)
	l.signal()
}

// signal wakes the loop; the caller holds mu.
func (l *Loop) signal() {
	if l.signaled {
		return
	}
	l.signaled = true
	one := uint64(1)
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(l.wakefd), uintptr(unsafe.Pointer(&one)), 8)
}

type wake struct{ l *Loop }

// Ready runs what was posted.
func (w wake) Ready(Events) {
	l := w.l
	var count uint64
	syscall.RawSyscall(syscall.SYS_READ, uintptr(l.wakefd), uintptr(unsafe.Pointer(&count)), 8)
	l.mu.Lock()
	posted := l.posted
	l.signaled = false
	if l.frozen {
		l.mu.Unlock()
		return
	}
	l.posted = nil
	l.mu.Unlock()
	for i, f := range posted {
		f()
		if l.frozen {
			l.mu.Lock()
			l.posted = append(slices.Clone(posted[i+1:]), l.posted...)
			l.mu.Unlock()
			return
		}
	}
}

// Run serves the handlers until Stop is called.
func (l *Loop) Run() error {
	nextSweep := l.Tick() + SweepEvery
	for {
		n, err := l.wait(nextSweep - l.now)
		if err != nil {
			return err
		}
		l.Tick()
		for i := range n {
			e := &l.events[i]
			// An earlier handler of this turn may have closed the descriptor, and
			// a new connection may have got its number: the generation tells.
			s := &l.slots[e.Fd]
			if s.h == nil || s.gen != e.Pad {
				continue
			}
			if l.frozen && int(e.Fd) != l.wakefd && int(e.Fd) != l.keep {
				// Fetched before: it is to be told again. The slot is there, so the
				// descriptor is too.
				_ = l.Modify(int(e.Fd), s.ev)
				continue
			}
			s.h.Ready(Events(e.Events))
		}
		if l.pieces++; n != 1 || !l.piece {
			l.pieces = 0
		}
		l.piece = false
		if l.now >= nextSweep {
			nextSweep = l.now + SweepEvery
			if l.hooks.Sweep != nil {
				l.hooks.Sweep()
			}
		}
		if l.hooks.Turn != nil {
			l.hooks.Turn()
		}
		if l.stopping.Load() {
			l.mu.Lock()
			done := l.frozen || len(l.posted) == 0
			l.mu.Unlock()
			if done {
				return nil
			}
		}
	}
}
