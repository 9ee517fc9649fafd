// A network with faults, in bytes.

package pgtest

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Way is a direction on a Link.
type Way int

// The two ways of a connection.
const (
	ToServer Way = iota
	ToClient
)

// Action is what a Link does to a connection.
type Action int

// What can happen to a connection. Closing and resetting reach both ends; of a
// stalled one neither end hears anything any more, nor does it when the other
// goes away.
const (
	Pass Action = iota
	Close
	Reset
	Stall
)

func (a Action) String() string { return [...]string{"pass", "close", "reset", "stall"}[a] }

// Fault is what a Link does from now on. The zero value is a good network.
type Fault struct {
	// Refuse: nobody listens. Open connections are not touched.
	Refuse bool
	// Do is done to each connection once After more bytes went along Way.
	Do    Action
	Way   Way
	After int
	// Once has the network heal when it has been done to one connection.
	Once bool
	// Delay is how long every piece of data takes.
	Delay time.Duration
}

// Link stands for the network between programs and one server: a TCP port that
// leads there and can fail in the ways that networks do. It knows nothing about
// the protocol; Faults does.
type Link struct {
	// Port on 127.0.0.1 leads to the server.
	Port int

	t       testing.TB
	address string

	mu       sync.Mutex
	fault    Fault
	listener net.Listener // nil while refusing
	conns    map[*linked]struct{}
	ended    bool

	done sync.WaitGroup
}

// linked is one connection; the lock of its link guards it.
type linked struct {
	client, server *net.TCPConn
	left           int           // bytes until the fault
	stalled        bool          // nothing goes on
	over           chan struct{} // closed when the connection is
	once           sync.Once
}

// NewLink makes a good network to a server on a port of 127.0.0.1.
func NewLink(t testing.TB, port int) *Link {
	t.Helper()
	l := &Link{t: t, address: fmt.Sprintf("127.0.0.1:%d", port), conns: make(map[*linked]struct{})}
	t.Cleanup(func() {
		l.mu.Lock()
		l.ended = true
		l.deafen()
		l.each(func(c *linked) { c.end(Close) })
		l.mu.Unlock()
		l.done.Wait()
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listen()
	return l
}

// Set changes what the network does, for open connections and for those to come.
// Connections that stand still already stay so.
func (l *Link) Set(f Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	l.each(func(c *linked) { c.left = f.After })
	if f.Refuse {
		l.deafen()
	} else {
		l.listen()
	}
}

// Break does something to all open connections, and none to those to come.
func (l *Link) Break(do Action) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.each(func(c *linked) { c.end(do) })
}

// Heal makes a good network of it and hangs up on what stands still.
func (l *Link) Heal() {
	l.Set(Fault{})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.each(func(c *linked) {
		if c.stalled {
			c.end(Close)
		}
	})
}

// Those below want the lock held.

func (l *Link) each(do func(*linked)) {
	for c := range l.conns {
		do(c)
	}
}

func (l *Link) deafen() {
	if l.listener != nil {
		l.listener.Close()
		l.listener = nil
	}
}

// listen listens, again on the same port if it did before.
func (l *Link) listen() {
	if l.listener != nil {
		return
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", l.Port))
	if err != nil {
		l.t.Errorf("listen for a link: %v", err)
		return
	}
	l.listener = listener
	l.Port = listener.Addr().(*net.TCPAddr).Port
	l.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			l.serve(client.(*net.TCPConn))
		}
	})
}

func (l *Link) serve(client *net.TCPConn) {
	server, err := net.Dial("tcp", l.address)
	if err != nil {
		client.Close()
		return
	}
	c := &linked{client: client, server: server.(*net.TCPConn), over: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		c.end(Close)
		return
	}
	c.left = l.fault.After
	l.conns[c] = struct{}{}
	l.done.Go(func() { l.carry(c, ToServer, client, c.server) })
	l.done.Go(func() { l.carry(c, ToClient, c.server, client) })
}

func (c *linked) end(do Action) {
	switch do {
	case Stall:
		c.stalled = true
	case Reset, Close:
		if do == Reset {
			_ = c.client.SetLinger(0)
			_ = c.server.SetLinger(0)
		}
		c.client.Close()
		c.server.Close()
		c.once.Do(func() { close(c.over) })
	}
}

// carry moves data along one way until the connection is over.
func (l *Link) carry(c *linked, way Way, from io.Reader, to io.Writer) {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.end(Close)
		delete(l.conns, c)
	}()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		pass, delay, stalled := l.allow(c, way, n)
		if delay > 0 {
			select {
			case <-c.over:
				return
			case <-time.After(delay):
			}
		}
		if _, err := to.Write(buf[:pass]); err != nil {
			return
		}
		if pass < n {
			l.mu.Lock()
			c.end(l.fault.Do)
			if l.fault.Once {
				l.fault = Fault{}
			}
			stalled = c.stalled
			l.mu.Unlock()
		}
		if stalled {
			<-c.over
			return
		}
		if err != nil || pass < n {
			return
		}
	}
}

// allow says how many of n bytes may pass.
func (l *Link) allow(c *linked, way Way, n int) (pass int, delay time.Duration, stalled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.stalled {
		return 0, 0, true
	}
	if l.fault.Do != Pass && l.fault.Way == way {
		pass = min(n, c.left)
		c.left -= pass
		return pass, l.fault.Delay, false
	}
	return n, l.fault.Delay, false
}
