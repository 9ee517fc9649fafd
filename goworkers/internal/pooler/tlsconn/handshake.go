// Handshakes: goroutines on non-blocking sockets, and the one that waits for all.

package tlsconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"unsafe"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
)

// Handshaker makes handshakes. A handshake whose peer is slow costs a goroutine and
// no thread: one goroutine waits for all sockets, on an epoll instance of its own. It
// is safe for concurrent use.
type Handshaker struct {
	epfd, wakefd int
	turns        chan struct{} // one for each handshake that computes now
	ended        chan struct{}

	mu      sync.Mutex
	waiting map[int32]chan struct{} // by descriptor
}

// NewHandshaker makes one. Of all handshakes under way, at most parallel (at least 1)
// compute at a time; those that wait for their peer do not count. A handshake takes
// about a millisecond of a processor, with RSA keys several, which is time that the
// loop might want.
func NewHandshaker(parallel int) (*Handshaker, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	r, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		syscall.Close(epfd)
		return nil, fmt.Errorf("create eventfd: %w", errno)
	}
	h := &Handshaker{
		epfd: epfd, wakefd: int(r), turns: make(chan struct{}, max(1, parallel)),
		ended: make(chan struct{}), waiting: make(map[int32]chan struct{}),
	}
	e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(h.wakefd)}
	if err := syscall.EpollCtl(epfd, syscall.EPOLL_CTL_ADD, h.wakefd, &e); err != nil {
		syscall.Close(h.wakefd)
		syscall.Close(epfd)
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	go h.watch()
	return h, nil
}

// Close ends a Handshaker; all its handshakes must have returned.
func (h *Handshaker) Close() {
	one := uint64(1)
	syscall.RawSyscall(syscall.SYS_WRITE, uintptr(h.wakefd), uintptr(unsafe.Pointer(&one)), 8)
	<-h.ended
	syscall.Close(h.wakefd)
	syscall.Close(h.epfd)
}

// watch wakes the handshakes whose sockets are ready.
func (h *Handshaker) watch() {
	defer close(h.ended)
	var events [64]syscall.EpollEvent
	for {
		n, err := syscall.EpollWait(h.epfd, events[:], -1)
		if err != nil && err != syscall.EINTR {
			panic("wait for sockets: " + err.Error()) // epfd is ours and open: cannot happen
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == h.wakefd {
				return
			}
			h.mu.Lock()
			select {
			// Nobody there means that the handshake is over. A handshake that has the
			// number of an older one may be woken for nothing, and waits again.
			case h.waiting[e.Fd] <- struct{}{}:
			default:
			}
			h.mu.Unlock()
		}
	}
}

// Accept makes the handshake with a client. fd is its non-blocking socket, which
// nobody else reads, writes or closes until Accept returns; it stays open in any case
// and its flags stay as they are. early is what has been read from it already, and
// must not change meanwhile: if there is any, the client has begun with TLS without
// asking, and has to name the protocol postgresql (ALPN). cfg comes from ForClients.
//
// When ctx ends, Accept soon returns its error. Other errors tell what is wrong for
// the log; the peer has been sent an alert as far as TLS has one.
func (h *Handshaker) Accept(ctx context.Context, cfg *Config, fd int, early []byte) (*Conn, error) {
	c := &Conn{}
	c.t.in = early
	if len(early) > 0 {
		c.tls = tls.Server(&c.t, cfg.direct)
	} else {
		c.tls = tls.Server(&c.t, cfg.tls)
	}
	if err := h.run(ctx, c, fd); err != nil {
		return nil, err
	}
	switch {
	case cfg.mode >= ini.SSLVerifyCA:
		c.verified = true // or the handshake would have ended
	case cfg.roots != nil:
		c.verified = cfg.verify(c.tls.ConnectionState().PeerCertificates, "") == nil
	}
	return c, nil
}

// Connect makes the handshake with a server, as Accept does with a client. host is
// the server's name or address as the configuration has it; verify-full checks it,
// and a name is told to the server (SNI). A server that does not like our certificate
// may say so only later, by an error of Decrypt. cfg comes from ForServers.
func (h *Handshaker) Connect(ctx context.Context, cfg *Config, fd int, host string) (*Conn, error) {
	conf := cfg.tls.Clone()
	conf.ServerName = host
	check := cfg.mode >= ini.SSLVerifyCA
	if check {
		conf.VerifyConnection = func(s tls.ConnectionState) error { return cfg.verify(s.PeerCertificates, host) }
	}
	c := &Conn{verified: check}
	c.tls = tls.Client(&c.t, conf)
	if err := h.run(ctx, c, fd); err != nil {
		return nil, err
	}
	return c, nil
}

// run makes the handshake of c over a socket, and takes the socket off again.
func (h *Handshaker) run(ctx context.Context, c *Conn, fd int) error {
	s := &socket{h: h, ctx: ctx, fd: fd, ready: make(chan struct{}, 1)}
	if err := s.takeTurn(); err != nil {
		return err
	}
	c.t.sock = s
	// crypto/tls would watch a context in a further goroutine; the socket does it.
	err := c.tls.Handshake()
	c.t.sock = nil
	s.release()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == io.EOF || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE):
		return errors.New("TLS handshake: the peer has closed the connection")
	case err != nil:
		return fmt.Errorf("TLS handshake: %w", err)
	case len(c.t.in) > 0:
		return errors.New("TLS handshake: the peer has sent more than a handshake")
	}
	return nil
}

// socket is a socket during one handshake.
type socket struct {
	h       *Handshaker
	ctx     context.Context // of the handshake, which is as short as this
	fd      int
	ready   chan struct{}
	watched bool
	turn    bool // it may compute
}

func (s *socket) takeTurn() error {
	select {
	case s.h.turns <- struct{}{}:
		s.turn = true
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s *socket) giveTurn() {
	if s.turn {
		s.turn = false
		<-s.h.turns
	}
}

// release leaves no trace of the socket.
func (s *socket) release() {
	s.giveTurn()
	if s.watched {
		s.h.mu.Lock()
		delete(s.h.waiting, int32(s.fd))
		s.h.mu.Unlock()
		var e syscall.EpollEvent
		syscall.EpollCtl(s.h.epfd, syscall.EPOLL_CTL_DEL, s.fd, &e)
	}
}

// wait waits until the socket is ready, or ctx ends.
func (s *socket) wait(ev evloop.Events) error {
	op := syscall.EPOLL_CTL_MOD
	if !s.watched {
		op = syscall.EPOLL_CTL_ADD
		s.watched = true
		s.h.mu.Lock()
		s.h.waiting[int32(s.fd)] = s.ready
		s.h.mu.Unlock()
	}
	e := syscall.EpollEvent{Events: uint32(ev) | syscall.EPOLLONESHOT, Fd: int32(s.fd)}
	if err := syscall.EpollCtl(s.h.epfd, op, s.fd, &e); err != nil {
		return fmt.Errorf("watch descriptor %d: %w", s.fd, err)
	}
	s.giveTurn()
	select {
	case <-s.ready:
		return s.takeTurn()
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

func (s *socket) read(p []byte) (int, error) {
	for {
		n, err := evloop.Read(s.fd, p)
		switch {
		case err == syscall.EAGAIN:
			if err := s.wait(evloop.Readable); err != nil {
				return 0, err
			}
		case err == nil && n == 0:
			return 0, io.EOF
		default:
			return n, err
		}
	}
}

func (s *socket) write(p []byte) (int, error) {
	done := 0
	for {
		n, err := evloop.Write(s.fd, p[done:])
		done += n
		if err != nil || done == len(p) {
			return done, err
		}
		// Also when ctx has ended: an alert that does not fit is not waited for.
		if err := s.wait(evloop.Writable); err != nil {
			return done, err
		}
	}
}
