package consumers

// Events that cannot be done, though everything around them is in order.

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sirupsen/logrus"

	"goworkers/batch"
	"goworkers/pgq"
)

// BadEvents says what becomes of an event that cannot be done: its data cannot be
// read, it lacks what the job needs of it, or the database refuses its values. Other
// errors, such as a function that does not exist, are never an event's fault: the batch
// is tried again as a whole.
type BadEvents struct {
	// OnBadEvent is stop, retry or deadletter. Stop tries the batch again and again, so
	// that no event is passed by; the others put the event aside, and the job goes on.
	// Default: stop.
	OnBadEvent string `ini:"on_bad_event" default:"stop" choice:"stop,retry,deadletter" help:"an event that cannot be done: stop and try its batch again, retry it alone later, or give it up (pgqadm INI dlq)"`
	// BadEventRetry is after how long such an event is retried. Default: 60 s.
	BadEventRetry time.Duration `ini:"bad_event_retry" default:"60" min:"0" help:"seconds until a bad event is retried alone"`
}

// eventError names the event that an error came of.
type eventError struct {
	ev  *pgq.Event
	err error
}

func (e *eventError) Error() string { return fmt.Sprintf("event %d: %v", e.ev.ID, e.err) }
func (e *eventError) Unwrap() error { return e.err }

// isDataError says whether the database refuses values: class 22 are data exceptions,
// 23 violated constraints, P0 what functions raise.
func isDataError(err error) bool {
	var server *pgconn.PgError
	if !errors.As(err, &server) || len(server.Code) != 5 {
		return false
	}
	switch server.Code[:2] {
	case "22", "23", "P0":
		return true
	}
	return false
}

// putAside does with a bad event what on_bad_event says; what it returns undoes the
// batch.
func (c *BadEvents) putAside(job *batch.Job, b *batch.Batch, ev *pgq.Event, why error) error {
	var err error
	switch c.OnBadEvent {
	case "retry":
		err = b.RetryFor(ev, c.BadEventRetry, why.Error())
	case "deadletter":
		err = b.Fail(ev, why.Error())
	default:
		return fmt.Errorf("%w; the batch comes again until the event can be done, or on_bad_event says to put such events aside", &eventError{ev, why})
	}
	if err != nil {
		return fmt.Errorf("%w; on_bad_event = %s is not possible: %w", &eventError{ev, why}, c.OnBadEvent, err)
	}
	job.Log.WithFields(logrus.Fields{"queue": b.Queue, "consumer": b.Consumer, "batch_id": b.ID, "event_id": ev.ID, "on_bad_event": c.OnBadEvent}).
		WithError(why).Warn("event put aside")
	job.Stats.Add("put_aside", 1)
	return nil
}

func (c *BadEvents) stops() bool { return c.OnBadEvent != "retry" && c.OnBadEvent != "deadletter" }
