package batch

// Telling an error once, and backing off.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sirupsen/logrus"
)

const (
	firstBackoff = time.Second
	kindsMax     = 100 // of errors remembered in one trouble
)

// Trouble remembers the errors since the last success, so that each is told
// once and tried again ever more rarely. The zero value is ready; it belongs
// to one goroutine.
type Trouble struct {
	// Quiet says what is no alarm at first. Default: everything is one.
	Quiet Quiet

	told  map[string]logrus.Level // how each kind was told
	count int
	since time.Time

	graceFrom, last time.Time        // begin of Quiet.Grace; the last error, also of a trouble before
	now             func() time.Time // time.Now, but in tests
}

// Note tells an error, at level debug when it was told before, and returns
// the pause before the next try: 1 s at first, then twice as long each time up
// to longest. An error that Quiet covers is a warning at first, and told once more
// when it has become an alarm.
func (t *Trouble) Note(log logrus.FieldLogger, err error, longest time.Duration) time.Duration {
	level := t.level(err)
	t.count++
	kind := kindOf(err)
	if t.told == nil || len(t.told) >= kindsMax {
		t.told = map[string]logrus.Level{}
	}
	if told, found := t.told[kind]; found && told <= level { // lower is graver
		log.WithError(err).WithField("tries", t.count).Debug("work failed again")
	} else {
		t.told[kind] = level
		log.WithError(err).Log(level, "work failed, will be tried again")
	}
	if longest < firstBackoff {
		return max(longest, 0)
	}
	return min(firstBackoff<<min(t.count-1, 20), longest)
}

// level is how grave an error is that comes now.
func (t *Trouble) level(err error) logrus.Level {
	now := time.Now()
	if t.now != nil {
		now = t.now()
	}
	if t.count == 0 {
		t.since = now
		if t.last.IsZero() || now.Sub(t.last) >= t.Quiet.Reset {
			t.graceFrom = now
		}
	}
	t.last = now
	if now.Sub(t.graceFrom) < t.Quiet.Grace && t.Quiet.covers(err) {
		return logrus.WarnLevel
	}
	return logrus.ErrorLevel
}

// Over tells that the trouble is over, and says whether there was any.
func (t *Trouble) Over(log logrus.FieldLogger) bool {
	if t.count == 0 {
		return false
	}
	log.WithFields(logrus.Fields{
		"tries": t.count, "after": fmt.Sprintf("%.0fs", time.Since(t.since).Seconds()),
	}).Info("recovered")
	*t = Trouble{Quiet: t.Quiet, graceFrom: t.graceFrom, last: t.last, now: t.now}
	return true
}

// numbers (ports, pids, batch ids) vary between repeats of one trouble.
var numbers = regexp.MustCompile(`\b[0-9]+\b`)

// kindOf is the same for errors that tell a person the same. A server that
// goes and comes has many words for it: they are one kind.
func kindOf(err error) string {
	if IsConnectionLost(err) {
		return "connection lost"
	}
	return numbers.ReplaceAllString(err.Error(), "0")
}

// IsConnectionLost tells whether an error says that the server is away,
// stopping or starting: something that heals without a person changing the
// configuration.
func IsConnectionLost(err error) bool {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		// connection exception; admin shutdown, crash shutdown, cannot connect now
		return strings.HasPrefix(pgErr.Code, "08") ||
			pgErr.Code == "57P01" || pgErr.Code == "57P02" || pgErr.Code == "57P03"
	}
	var netErr net.Error
	if errors.As(err, &netErr) {
		if _, ofAnything := netErr.(syscall.Errno); !ofAnything { // a file's error has one, too
			return true
		}
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
