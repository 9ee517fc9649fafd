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
	told  map[string]bool
	count int
	since time.Time
}

// Note tells an error, at level debug when it was told before, and returns
// the pause before the next try: 1 s at first, then twice as long each time up
// to longest.
func (t *Trouble) Note(log logrus.FieldLogger, err error, longest time.Duration) time.Duration {
	if t.count == 0 {
		t.since = time.Now()
	}
	t.count++
	kind := kindOf(err)
	if t.told == nil || len(t.told) >= kindsMax {
		t.told = map[string]bool{}
	}
	if t.told[kind] {
		log.WithError(err).WithField("tries", t.count).Debug("work failed again")
	} else {
		t.told[kind] = true
		log.WithError(err).Error("work failed, will be tried again")
	}
	if longest < firstBackoff {
		return max(longest, 0)
	}
	return min(firstBackoff<<min(t.count-1, 20), longest)
}

// Over tells that the trouble is over, if there was any.
func (t *Trouble) Over(log logrus.FieldLogger) {
	if t.count == 0 {
		return
	}
	log.WithFields(logrus.Fields{
		"tries": t.count, "after": fmt.Sprintf("%.0fs", time.Since(t.since).Seconds()),
	}).Info("recovered")
	*t = Trouble{}
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
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.As(err, &netErr)
}
