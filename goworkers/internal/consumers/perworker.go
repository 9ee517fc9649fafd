package consumers

// What a job keeps from batch to batch, when several workers may be at it.

import "sync"

// perWorker gives each worker that is at a batch a state of its own, and the same ones
// again for the next batches.
type perWorker[T any] struct {
	mu   sync.Mutex
	free []T
	made int
	make func(n int) T // the n-th
}

func (p *perWorker[T]) take() T {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		t := p.free[n-1]
		p.free = p.free[:n-1]
		return t
	}
	p.made++
	return p.make(p.made)
}

func (p *perWorker[T]) give(t T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, t)
}
