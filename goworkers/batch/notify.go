package batch

// The service manager: what systemd is told of a job (sd_notify(3)). Without
// NOTIFY_SOCKET nothing of it happens.
//
// READY comes when the job has its files and begins to work; a database that is away
// does not hold it up, since the job waits for it. STATUS is the last statistics line,
// or the error that the job is at. RELOADING and READY stand around a reload, STOPPING
// comes with the first signal to end.
//
// WATCHDOG is told from the work itself, never by a clock of its own: by each round,
// by each pause between rounds, by each event that a handler reads, and by
// Batch.Progress and Job.Progress. So a batch may take as long as it likes while its
// events are read, and a handler, a statement or a lock that hangs for WatchdogSec ends
// the process; work of another kind that takes longer calls Progress. Of several workers
// in a process one that hangs is enough.

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

// watchdogShare is how often within WatchdogSec the watchdog is told at most; in pauses
// it is told half as often.
const watchdogShare = 4

// manager is the service manager; nil is none. It is safe for concurrent use.
type manager struct {
	log      logrus.FieldLogger
	interval time.Duration // WatchdogSec; 0: it does not watch
	told     atomic.Int64  // when WATCHDOG was told last, in ns
	deaf     atomic.Bool   // it could not be told
}

func newManager(log logrus.FieldLogger, socket string) *manager {
	if socket == "" {
		return nil
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.WithError(err).Warn("systemd's watchdog is not told that the job lives")
	}
	return &manager{log: log, interval: interval}
}

// tell sends one message.
func (m *manager) tell(lines ...string) {
	if m == nil {
		return
	}
	_, err := daemon.SdNotify(false, strings.Join(lines, "\n"))
	if failed := err != nil; failed != m.deaf.Swap(failed) && failed {
		m.log.WithError(err).Warn("systemd cannot be told how the job is")
	}
}

func (m *manager) ready()    { m.tell(daemon.SdNotifyReady) }
func (m *manager) stopping() { m.tell(daemon.SdNotifyStopping) }

// reloading is followed by ready.
func (m *manager) reloading() {
	m.tell(daemon.SdNotifyReloading, strings.TrimSuffix(daemon.SdNotifyMonotonicUsec(), "\n"))
}

// status tells one line that systemctl status shows.
func (m *manager) status(text string) { m.tell("STATUS=" + oneLine(text)) }

// watchdog is the time within which there must be progress; 0 when nobody asks.
func (m *manager) watchdog() time.Duration {
	if m == nil {
		return 0
	}
	return m.interval
}

// progress tells the watchdog, but not more often than it wants to know.
func (m *manager) progress() {
	interval := m.watchdog()
	if interval == 0 {
		return
	}
	now, last := time.Now().UnixNano(), m.told.Load()
	if now-last >= int64(interval/watchdogShare) && m.told.CompareAndSwap(last, now) {
		m.tell(daemon.SdNotifyWatchdog)
	}
}

// Beat ticks in pauses, often enough for systemd's watchdog; who gets a tick calls
// Progress. It is nil when nothing watches. Stop ends it.
func (j *Job) Beat() (beats <-chan time.Time, stop func()) {
	interval := j.manager.watchdog()
	if interval == 0 {
		return nil, func() {}
	}
	ticker := time.NewTicker(max(interval*2/watchdogShare, 1))
	return ticker.C, ticker.Stop
}

// Progress tells systemd's watchdog (WatchdogSec) that the work goes on. Rounds, pauses
// and events tell it by themselves: it is for work within a round that takes longer
// than that. It is safe for concurrent use.
func (j *Job) Progress() { j.manager.progress() }
