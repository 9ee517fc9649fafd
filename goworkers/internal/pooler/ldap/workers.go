package ldap

import (
	"context"
	"sync"
)

// Workers are a few goroutines that do what waits for others, and a queue before them.
// A goroutine is there only while it has something to do.
type Workers struct {
	workers, queue int
	ctx            context.Context
	cancel         context.CancelFunc
	running        sync.WaitGroup

	mu      sync.Mutex
	busy    int
	waiting []func(context.Context)
	stopped bool
}

// NewWorkers makes workers, at least one, for which at most queue jobs may wait.
func NewWorkers(workers, queue int) *Workers {
	w := &Workers{workers: max(1, workers), queue: max(0, queue)}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// Submit has a job done, in order of coming, by one of the goroutines. False: too many
// wait, or Stop was called, and the job will not be done. The job's context is done when
// Stop is called; it must not call Stop itself. Any goroutine may call Submit; it does
// not wait.
func (w *Workers) Submit(job func(context.Context)) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.stopped:
		return false
	case w.busy < w.workers:
		w.busy++
		w.running.Go(func() { w.work(job) })
		return true
	case len(w.waiting) < w.queue:
		w.waiting = append(w.waiting, job)
		return true
	}
	return false
}

// work does a job and then those that wait.
func (w *Workers) work(job func(context.Context)) {
	for job != nil {
		job(w.ctx)
		job = w.following()
	}
}

// following takes the next job off the queue; nil: the goroutine is not needed any more.
func (w *Workers) following() func(context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		w.busy--
		return nil
	}
	job := w.waiting[0]
	w.waiting[0] = nil
	w.waiting = w.waiting[1:]
	return job
}

// Load tells how many jobs are being done and how many wait.
func (w *Workers) Load() (busy, waiting int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy, len(w.waiting)
}

// Stop takes no more jobs, tells those that there are by their context, and waits for
// them. Those that waited are done too, so that whoever hopes for them hears of it.
func (w *Workers) Stop() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.cancel()
	w.running.Wait()
}
