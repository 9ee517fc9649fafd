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
	// twice within a second. Stop is closed right after it.
	Kill <-chan struct{}
	// Reload gets a value when the configuration shall be read again: SIGHUP.
	// Several signals before it is received count as one.
	Reload <-chan struct{}

	raw  chan os.Signal
	done sync.WaitGroup
}

// NotifySignals starts to listen; Close ends it and gives the signals back to
// their defaults.
func NotifySignals() *Signals {
	stop, kill, reload := make(chan struct{}), make(chan struct{}), make(chan struct{}, 1)
	s := &Signals{Stop: stop, Kill: kill, Reload: reload, raw: make(chan os.Signal, 8)}
	signal.Notify(s.raw, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	s.done.Go(func() {
		var interrupted time.Time
		stopped, killed := false, false
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
			if end && !killed {
				killed = true
				close(kill) // first, so that who wakes by Stop sees it
			}
			if !stopped {
				stopped = true
				close(stop)
			}
		}
	})
	return s
}

// Close stops listening.
func (s *Signals) Close() {
	signal.Stop(s.raw)
	close(s.raw)
	s.done.Wait()
}
