// Cutting a program's connections at a chosen step.

package pgtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// Faults stands between a program and its databases. It counts the program's
// requests to all of them together, and cuts every connection at the chosen one:
// as if the program had been killed there, or the network had gone. A test that
// goes through all requests has stopped the program between any two of its steps.
//
// A request is what the server answers as a whole: a query, a synced group of
// messages, the end of a COPY.
type Faults struct {
	mu       sync.Mutex
	conns    map[*faultyConn]struct{}
	steps    int
	at       int  // 0: nothing chosen
	answered bool // let the server do the request, but lose its answer
	cut      bool
	ended    bool // the test is over

	done sync.WaitGroup
}

// NewFaults makes one that cuts nothing yet.
func NewFaults(t testing.TB) *Faults {
	f := &Faults{conns: make(map[*faultyConn]struct{})}
	t.Cleanup(func() {
		f.mu.Lock()
		f.ended = true
		f.closeAll()
		f.mu.Unlock()
		f.done.Wait()
	})
	return f
}

// Through returns the same database, reached through f.
func (f *Faults) Through(t testing.TB, db *Database) *Database {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config := parse(t, db.DSN)
	server := fmt.Sprintf("%s:%d", config.Host, config.Port)
	if strings.HasPrefix(config.Host, "/") {
		t.Fatalf("%s must name a server by address, not by socket", dsnEnv)
	}
	f.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			f.serve(client, server)
		}
	})
	t.Cleanup(func() { listener.Close() })
	through := *db
	through.DSN = fmt.Sprintf("%s host=127.0.0.1 port=%d sslmode=disable", db.DSN, listener.Addr().(*net.TCPAddr).Port)
	return &through
}

// CutBefore starts counting anew and cuts when the given request comes, counted
// from 1, before the server sees it.
func (f *Faults) CutBefore(step int) { f.arm(step, false) }

// CutAfter starts counting anew and cuts when the server has done the given
// request, before the program hears of it.
func (f *Faults) CutAfter(step int) { f.arm(step, true) }

// Count starts counting anew and cuts nothing.
func (f *Faults) Count() { f.arm(0, false) }

// Steps returns how many requests have come since the counting started.
func (f *Faults) Steps() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.steps
}

// Cut tells whether the chosen request came.
func (f *Faults) Cut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut
}

func (f *Faults) arm(step int, answered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps, f.at, f.answered, f.cut = 0, step, answered, false
}

// closeAll wants the lock held.
func (f *Faults) closeAll() {
	for c := range f.conns {
		c.client.Close()
		c.server.Close()
	}
}

var errCut = errors.New("cut")

// request is called before a request goes on to the server.
func (f *Faults) request(c *faultyConn) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps++
	if f.steps != f.at {
		return nil
	}
	if f.answered {
		c.lost = true
		return nil
	}
	f.cut = true
	f.closeAll()
	return errCut
}

// answer is called with the kind of each message before it goes on to the client.
func (f *Faults) answer(c *faultyConn, kind byte) (forward bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !c.lost {
		return true, nil
	}
	// ReadyForQuery and CopyInResponse end an answer.
	if kind == 'Z' || kind == 'G' {
		f.cut = true
		f.closeAll()
		return false, errCut
	}
	return false, nil
}

// faultyConn is one connection of the program, with ours to the server.
type faultyConn struct {
	client, server net.Conn
	lost           bool // guarded by Faults.mu: the answers from now on are lost
}

func (f *Faults) serve(client net.Conn, address string) {
	server, err := net.Dial("tcp", address)
	if err != nil {
		client.Close()
		return
	}
	c := &faultyConn{client: client, server: server}
	end := func() { client.Close(); server.Close() }
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		end()
		return
	}
	f.conns[c] = struct{}{}
	f.done.Go(func() {
		defer end()
		_ = f.toServer(c)
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	})
	f.done.Go(func() {
		defer end()
		_ = f.toClient(c)
	})
}

// The framing is that of "Message Formats" in the manual's protocol chapter.

func (f *Faults) toServer(c *faultyConn) error {
	// The first message has no kind.
	var length [4]byte
	if _, err := io.ReadFull(c.client, length[:]); err != nil {
		return err
	}
	if _, err := c.server.Write(length[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(c.server, c.client, int64(binary.BigEndian.Uint32(length[:]))-4); err != nil {
		return err
	}
	return eachMessage(c.client, c.server, func(kind byte) (bool, error) {
		switch kind {
		case 'Q', 'S', 'c', 'f': // Query, Sync, CopyDone, CopyFail
			return true, f.request(c)
		}
		return true, nil
	})
}

func (f *Faults) toClient(c *faultyConn) error {
	return eachMessage(c.server, c.client, func(kind byte) (bool, error) { return f.answer(c, kind) })
}

func eachMessage(from io.Reader, to io.Writer, look func(kind byte) (forward bool, err error)) error {
	var head [5]byte
	for {
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return err
		}
		forward, err := look(head[0])
		if err != nil {
			return err
		}
		out := to
		if !forward {
			out = io.Discard
		}
		if _, err := out.Write(head[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(out, from, int64(binary.BigEndian.Uint32(head[1:]))-4); err != nil {
			return err
		}
	}
}
