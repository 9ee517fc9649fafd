// Package service is the contract of things that run beside others: who
// starts a service owns it and stops it.
//
// Start returns after the launch. Cancelling Start's context makes the work
// under way end at once; Stop lets it come to its end and waits for it. After
// either, the owner still calls Stop: only then nothing of the service runs
// any more.
package service

import (
	"context"
	"sync"
	"time"
)

// Service is something that runs.
type Service interface {
	// Start launches the service. An error means that nothing runs. A service
	// is started once.
	Start(ctx context.Context) error
	// Stop asks the service to end after the work under way and waits until it
	// has. It may be called from any goroutine, again, and before Start.
	Stop()
}

// Loop is a Service that is one goroutine.
type Loop struct {
	run  func(ctx context.Context, stop <-chan struct{})
	once sync.Once
	stop chan struct{}
	done sync.WaitGroup
}

// NewLoop makes a service of a function that works until stop is closed or
// ctx is cancelled.
func NewLoop(run func(ctx context.Context, stop <-chan struct{})) *Loop {
	return &Loop{run: run, stop: make(chan struct{})}
}

// Start launches the goroutine.
func (l *Loop) Start(ctx context.Context) error {
	l.done.Go(func() { l.run(ctx, l.stop) })
	return nil
}

// Stop ends the goroutine.
func (l *Loop) Stop() {
	l.once.Do(func() { close(l.stop) })
	l.done.Wait()
}

// Group is several services that live and end together.
type Group []Service

// Start starts all of them; when one fails, those before it are stopped.
func (g Group) Start(ctx context.Context) error {
	for i, s := range g {
		if err := s.Start(ctx); err != nil {
			g[:i].Stop()
			return err
		}
	}
	return nil
}

// Stop stops all at the same time.
func (g Group) Stop() {
	var done sync.WaitGroup
	for _, s := range g {
		done.Go(s.Stop)
	}
	done.Wait()
}

// Sleep pauses, and says false when stop was closed or ctx cancelled
// meanwhile: time to end.
func Sleep(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-stop:
		return false
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	select {
	case <-stop:
		return false
	case <-ctx.Done():
		return false
	default:
		return true
	}
}
