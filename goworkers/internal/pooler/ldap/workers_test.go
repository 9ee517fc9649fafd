package ldap

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestWorkersDoSoManyAtOnceAndRefuseWhatIsTooMuch(t *testing.T) {
	w := NewWorkers(2, 3)
	started, goOn := make(chan int, 10), make(chan struct{})
	job := func(n int) func(context.Context) {
		return func(context.Context) { started <- n; <-goOn }
	}
	for n := range 5 {
		if !w.Submit(job(n)) {
			t.Fatalf("job %d is refused", n)
		}
	}
	if w.Submit(job(5)) {
		t.Fatal("a sixth job is taken by two workers with room for three")
	}
	if a, b := <-started, <-started; a+b != 1 {
		t.Fatalf("jobs %d and %d began first", a, b)
	}
	if busy, waiting := w.Load(); busy != 2 || waiting != 3 {
		t.Fatalf("%d busy, %d waiting", busy, waiting)
	}
	select {
	case n := <-started:
		t.Fatalf("job %d began beside two others", n)
	default:
	}
	for n := 2; n < 5; n++ {
		goOn <- struct{}{}
		if got := <-started; got != n {
			t.Fatalf("job %d began, want %d", got, n)
		}
	}
	close(goOn)
	w.Stop()
	if busy, waiting := w.Load(); busy != 0 || waiting != 0 {
		t.Errorf("%d busy, %d waiting at the end", busy, waiting)
	}
	if w.Submit(job(6)) {
		t.Error("a job is taken after Stop")
	}
}

func TestIdleWorkersAreGone(t *testing.T) {
	w := NewWorkers(3, 0)
	var wg sync.WaitGroup
	for range 3 {
		wg.Add(1)
		if !w.Submit(func(context.Context) { wg.Done() }) {
			t.Fatal("refused")
		}
	}
	wg.Wait()
	w.running.Wait()
	if err := goleak.Find(); err != nil {
		t.Error(err)
	}
	wg.Add(1)
	if !w.Submit(func(context.Context) { wg.Done() }) {
		t.Fatal("refused after the goroutines had gone")
	}
	wg.Wait()
	w.Stop()
}

func TestStopReachesEveryJob(t *testing.T) {
	w := NewWorkers(1, 10)
	began := make(chan struct{})
	var done atomic.Int32
	for range 5 {
		w.Submit(func(ctx context.Context) {
			if done.Load() == 0 {
				close(began)
			}
			<-ctx.Done()
			done.Add(1)
		})
	}
	<-began
	w.Stop()
	if n := done.Load(); n != 5 {
		t.Errorf("%d jobs heard of the end, want 5", n)
	}
	w.Stop()
}
