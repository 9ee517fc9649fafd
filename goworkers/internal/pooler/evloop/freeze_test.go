package evloop

import (
	"syscall"
	"testing"
	"time"
)

func TestFrozenLoopServesOneDescriptorAlone(t *testing.T) {
	l := start(t, Hooks{})
	a, b := pair(t)
	c, d := pair(t)
	defer syscall.Close(a)
	defer syscall.Close(c)
	heard := make(chan string, 4)
	listen := func(fd int, name string) handlerFunc {
		return func(Events) {
			var buf [16]byte
			n, _ := Read(fd, buf[:])
			heard <- name + string(buf[:n])
			if name == "kept " && string(buf[:n]) == "thaw" {
				l.Thaw()
			}
		}
	}
	do(t, l, func() {
		for fd, name := range map[int]string{b: "kept ", d: "other "} {
			if err := l.Add(fd, Readable, listen(fd, name)); err != nil {
				t.Error(err)
			}
		}
	})
	frozen := make(chan struct{})
	posted := make(chan struct{}, 2)
	l.Post(func() {
		if err := l.Freeze(b, Readable); err != nil {
			t.Error(err)
		}
		close(frozen)
	})
	l.Post(func() { posted <- struct{}{} }) // perhaps in the same turn
	<-frozen
	l.Post(func() { posted <- struct{}{} })
	Write(c, []byte("early"))
	for _, word := range []string{"one", "two"} {
		Write(a, []byte(word))
		if got := <-heard; got != "kept "+word {
			t.Fatalf("heard %q", got)
		}
	}
	if len(posted) > 0 {
		t.Fatal("a posted function runs in a frozen loop")
	}
	Write(a, []byte("thaw"))
	if got := <-heard; got != "kept thaw" {
		t.Fatalf("heard %q", got)
	}
	for _, ch := range []<-chan struct{}{posted, posted} {
		select {
		case <-ch:
		case <-time.After(10 * time.Second):
			t.Fatal("a posted function does not run after Thaw")
		}
	}
	if got := <-heard; got != "other early" {
		t.Fatalf("heard %q", got)
	}
	Write(a, []byte("again"))
	if got := <-heard; got != "kept again" {
		t.Fatalf("heard %q", got)
	}
	do(t, l, func() {
		for _, fd := range []int{b, d} {
			l.Remove(fd)
			syscall.Close(fd)
		}
	})
}

func TestFrozenLoopEnds(t *testing.T) {
	l, err := New(time.Now(), Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	do(t, l, func() {
		if err := l.Freeze(-1, 0); err != nil {
			t.Error(err)
		}
	})
	l.Post(func() { t.Error("what is posted runs at the end of a frozen loop") })
	l.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.Close()
}

// What a turn had fetched when the loop froze is told after Thaw.
func TestFreezeLosesNoEdge(t *testing.T) {
	l := start(t, Hooks{})
	k, keep := pair(t)
	defer syscall.Close(k)
	heard := make(chan int, 4)
	var ends, own [2]int
	for i := range ends {
		ends[i], own[i] = pair(t)
		defer syscall.Close(ends[i])
	}
	frozen, froze := make(chan struct{}), false
	do(t, l, func() {
		for _, fd := range own {
			l.Add(fd, Readable|Edge, handlerFunc(func(Events) {
				if !froze {
					froze = true
					if err := l.Freeze(keep, Readable); err != nil {
						t.Error(err)
					}
					close(frozen)
				}
				heard <- fd
			}))
		}
		l.Add(keep, Readable, handlerFunc(func(Events) {
			var buf [1]byte
			Read(keep, buf[:])
			l.Thaw()
		}))
		for _, fd := range ends { // both in the turn that comes
			Write(fd, []byte("x"))
		}
	})
	<-frozen
	Write(k, []byte("x"))
	first := <-heard
	select {
	case second := <-heard:
		if first == second {
			t.Errorf("descriptor %d is told of twice, the other not at all", first)
		}
	case <-time.After(10 * time.Second):
		t.Error("what was fetched before Freeze is not told after Thaw")
	}
	do(t, l, func() {
		for _, fd := range append(own[:], keep) {
			l.Remove(fd)
			syscall.Close(fd)
		}
	})
}
