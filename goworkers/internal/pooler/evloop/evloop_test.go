package evloop

import (
	"bytes"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"
)

// pair gives a connected pair of non-blocking stream sockets.
func pair(t *testing.T) (int, int) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// start runs a loop until the test ends.
func start(t *testing.T, hooks Hooks) *Loop {
	t.Helper()
	l, err := New(time.Now(), hooks)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		l.Close()
		if l.Post(func() {}) {
			t.Error("a stopped loop takes functions that it will never run")
		}
	})
	return l
}

// do runs f in the loop and waits for it.
func do(t *testing.T, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { f(); close(done) }) {
		t.Fatal("the loop has ended")
	}
	<-done
}

type handlerFunc func(Events)

func (f handlerFunc) Ready(ev Events) { f(ev) }

func TestReadableDescriptorCallsItsHandler(t *testing.T) {
	l := start(t, Hooks{})
	a, b := pair(t)
	defer syscall.Close(a)
	got := make(chan string, 1)
	do(t, l, func() {
		if err := l.Add(b, Readable, handlerFunc(func(Events) {
			n, err := Read(b, l.Buffer())
			if err != nil {
				got <- err.Error()
			}
			got <- string(l.Buffer()[:n])
		})); err != nil {
			t.Error(err)
		}
	})
	if n, err := Write(a, []byte("hello")); n != 5 || err != nil {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if s := <-got; s != "hello" {
		t.Fatalf("got %q", s)
	}
	do(t, l, func() { l.Remove(b); syscall.Close(b) })
}

// Two descriptors become ready in one turn; the handler of the first closes the
// second and opens a connection that gets its number. The old event must not
// reach the new handler.
func TestEventOfClosedDescriptorDoesNotReachItsSuccessor(t *testing.T) {
	l := start(t, Hooks{})
	a1, b1 := pair(t)
	a2, b2 := pair(t)
	var wrong, calls int
	done := make(chan struct{})
	handler := func(other int) Handler {
		return handlerFunc(func(Events) {
			calls++
			if calls > 1 {
				wrong++
				return
			}
			l.Remove(other)
			syscall.Close(other)
			// Not readable: an event for it could only be the old one.
			c, d := pair(t)
			if c != other && d != other {
				t.Errorf("descriptors %d, %d instead of %d", c, d, other)
			}
			if err := l.Add(other, Readable, handlerFunc(func(Events) { wrong++ })); err != nil {
				t.Error(err)
			}
			l.Remove(b1 + b2 - other)
			close(done)
		})
	}
	do(t, l, func() {
		for i, fd := range []int{b1, b2} {
			if err := l.Add(fd, Readable, handler([]int{b2, b1}[i])); err != nil {
				t.Error(err)
			}
		}
		// Both in one turn, since the loop is busy here.
		Write(a1, []byte("x"))
		Write(a2, []byte("x"))
	})
	<-done
	do(t, l, func() {})
	do(t, l, func() {
		if wrong != 0 {
			t.Errorf("%d events for a handler that has none", wrong)
		}
	})
}

func TestSweepComesWithoutTraffic(t *testing.T) {
	swept := make(chan struct{}, 100)
	start(t, Hooks{Sweep: func() { swept <- struct{}{} }})
	for range 2 {
		select {
		case <-swept:
		case <-time.After(10 * time.Second):
			t.Fatal("no sweep in 10 seconds")
		}
	}
}

func TestWriteStopsAtFullSocket(t *testing.T) {
	a, b := pair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	n, err := Write(a, big)
	if err != nil || n == 0 || n == len(big) {
		t.Fatalf("wrote %d of %d: %v", n, len(big), err)
	}
	if _, err := Write(a, []byte("x")); err != nil {
		t.Fatalf("a full socket is no error: %v", err)
	}
	got := make([]byte, n)
	f := os.NewFile(uintptr(dup(t, b)), "b")
	defer f.Close()
	if _, err := io.ReadFull(f, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, big[:n]) {
		t.Fatal("the bytes differ")
	}
	if _, err := Read(b, make([]byte, 10)); err != syscall.EAGAIN {
		t.Fatalf("nothing to read: %v", err)
	}
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestBufferKeepsOrder(t *testing.T) {
	var bs Buffers
	b := bs.Get(3)
	var want, got []byte
	next := byte(0)
	for i := range 2000 {
		p := make([]byte, i%97)
		for j := range p {
			p[j] = next
			next++
		}
		want = append(want, p...)
		b.Append(p)
		k := min(b.Len(), (i*31)%90)
		got = append(got, b.Bytes()[:k]...)
		b.Skip(k)
	}
	got = append(got, b.Bytes()...)
	if !bytes.Equal(got, want) {
		t.Fatal("the bytes differ")
	}
	bs.Put(b)
	if c := bs.Get(1); c.Len() != 0 {
		t.Fatalf("a used buffer has %d bytes", c.Len())
	}
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	a, b := pair(t)
	defer syscall.Close(a)
	defer syscall.Close(b)
	p, q := []byte("some message"), make([]byte, 100)
	var bs Buffers
	if n := testing.AllocsPerRun(1000, func() {
		Write(a, p)
		n, _ := Read(b, q)
		buf := bs.Get(n)
		buf.Append(q[:n])
		bs.Put(buf)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestEdgeTellsOfNewsAlone(t *testing.T) {
	l := start(t, Hooks{})
	a, b := pair(t)
	defer syscall.Close(a)
	const ev = Readable | PeerClosed | Edge
	var told []Events
	do(t, l, func() {
		if err := l.Add(b, ev, handlerFunc(func(ev Events) { told = append(told, ev) })); err != nil {
			t.Error(err)
		}
	})
	after := func(what string, f func(), want ...Events) {
		t.Helper()
		do(t, l, f)
		for range 3 {
			do(t, l, func() {}) // turns that would tell again
		}
		do(t, l, func() {
			if !slices.Equal(told, want) {
				t.Errorf("%s: told of %b, want %b", what, told, want)
			}
			told = nil
		})
	}
	after("data", func() { Write(a, []byte("x")) }, Readable)
	after("nothing new", func() {})
	after("asking again", func() {
		if err := l.Modify(b, ev); err != nil {
			t.Error(err)
		}
	}, Readable)
	after("more data", func() { Write(a, []byte("y")) }, Readable)
	after("the end", func() { syscall.Shutdown(a, syscall.SHUT_WR) }, Readable|PeerClosed)
	do(t, l, func() { l.Remove(b); syscall.Close(b) })
}

// A loop pauses for a stream, and only when it has nothing else to do.
func TestOnlyALoneStreamIsLetRunUp(t *testing.T) {
	const turns = 2 * manyPieces
	for _, c := range []struct {
		name    string
		streams int
		piece   bool
		pauses  bool
	}{
		{"one stream", 1, true, true},
		{"one that asks and answers", 1, false, false},
		{"two streams", 2, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := start(t, Hooks{})
			most := make(chan int, 1)
			seen, highest := 0, 0
			var sides [][2]int
			for range c.streams {
				a, b := pair(t)
				defer syscall.Close(a)
				defer syscall.Close(b)
				sides = append(sides, [2]int{a, b})
			}
			again := func() {
				for _, side := range sides {
					Write(side[0], []byte{0})
				}
			}
			do(t, l, func() {
				for i, side := range sides {
					if err := l.Add(side[1], Readable, handlerFunc(func(Events) {
						Read(side[1], l.Buffer())
						if c.piece {
							l.Piece()
						}
						highest = max(highest, l.pieces)
						if i < len(sides)-1 {
							return // the last one of the turn goes on
						}
						if seen++; seen == turns {
							most <- highest
							return
						}
						again()
					})); err != nil {
						t.Error(err)
					}
				}
				again()
			})
			if got := <-most; (got > manyPieces) != c.pauses {
				t.Errorf("%d turns counted as a stream, the loop pauses from %d on", got, manyPieces+1)
			}
		})
	}
}
