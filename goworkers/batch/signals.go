package batch

// What the operator asks of a running process.

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// secondInterrupt is how soon a second SIGINT means "at once".
const secondInterrupt = time.Second

// Signals tells what the operator asks by signals. Its channels are safe for
// concurrent use.
type Signals struct {
	// Stop is closed when the current work shall be the last: SIGINT.
	Stop <-chan struct{}
	// Kill is closed when everything shall end at once: SIGTERM, or SIGINT
	// twice within a second. Stop is closed right after it. What Launch runs has 10 s
	// to end then, and no more time when the signal comes again: the process ends
	// without it.
	Kill <-chan struct{}
	// Reload gets a value when the configuration shall be read again: SIGHUP.
	// Several signals before it is received count as one.
	Reload <-chan struct{}

	again <-chan struct{} // closed when Kill is asked for once more

	raw  chan os.Signal
	done sync.WaitGroup
}

// NotifySignals starts to listen; Close ends it and gives the signals back to
// their defaults.
func NotifySignals() *Signals {
	stop, kill, again, reload := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	s := &Signals{Stop: stop, Kill: kill, Reload: reload, again: again, raw: make(chan os.Signal, 8)}
	signal.Notify(s.raw, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	s.done.Go(func() {
		var interrupted time.Time
		stopped, killed, twice := false, false, false
		for sig := range s.raw {
			end := sig == syscall.SIGTERM
			if sig == syscall.SIGHUP {
				select {
				case reload <- struct{}{}:
				default:
				}
				continue
			}
			if sig == syscall.SIGINT {
				end = stopped && time.Since(interrupted) < secondInterrupt
				interrupted = time.Now()
			}
			switch {
			case end && !killed:
				killed = true
				close(kill) // first, so that who wakes by Stop sees it
			case end && !twice:
				twice = true
				close(again)
			}
			if !stopped {
				stopped = true
				close(stop)
			}
		}
	})
	return s
}

// killGrace is how long work may go on after it was told to end at once.
var killGrace = 10 * time.Second

// enforce ends the process when its work does not end after Kill: a handler may ignore
// its context. The work counts as ended when over is closed; last is called before the
// end of the process.
func (s *Signals) enforce(over <-chan struct{}, last func()) {
	select {
	case <-s.Kill:
	case <-over:
		return
	}
	grace := time.NewTimer(killGrace)
	defer grace.Stop()
	select {
	case <-grace.C:
	case <-s.again:
	case <-over:
		return
	}
	last()
	os.Exit(ExitCode(ErrTerminated))
}

// Close stops listening.
func (s *Signals) Close() {
	signal.Stop(s.raw)
	close(s.raw)
	s.done.Wait()
}
