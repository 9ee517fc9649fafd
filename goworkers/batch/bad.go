package batch

// Events that cannot be used, though everything around them is in order.

import (
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"goworkers/pgq"
)

// BadEvents holds the keys that say what becomes of an event that cannot be used: its
// data cannot be read, it lacks what the job needs of it, or the database refuses its
// values. Other errors, such as a function that does not exist, are never an event's
// fault: the batch comes again as a whole. Embed it beside ConsumerConfig or RemoteConfig.
type BadEvents struct {
	// OnBadEvent is stop, retry or deadletter. Stop tries the batch again and again, so
	// that no event is passed by; the others put the event aside, and the job goes on.
	// Default: stop.
	OnBadEvent string `ini:"on_bad_event" default:"stop" choice:"stop,retry,deadletter" help:"an event that cannot be used: stop and try its batch again, retry it alone later, or give it up (pgqadm INI dlq)"`
	// BadEventRetry is after how long such an event is retried. Default: 60 s.
	BadEventRetry time.Duration `ini:"bad_event_retry" default:"60" min:"0" help:"seconds until a bad event is retried alone"`
	// BadEventLimit is how many events of a batch may be put aside: more are not the
	// events' fault, and the batch is tried again. 0 is no limit. Default: 1000.
	BadEventLimit int `ini:"bad_event_limit" default:"1000" min:"0" help:"bad events of one batch that may be put aside; when there are more the batch stops, as for on_bad_event = stop; 0: no limit"`
}

// Stops tells that a bad event undoes its batch.
func (c *BadEvents) Stops() bool { return c.OnBadEvent != "retry" && c.OnBadEvent != "deadletter" }

// PutAside does with a bad event what the configuration says, and tells the log. An
// error that it returns is to be returned by the handler: it undoes the batch.
func (c *BadEvents) PutAside(job *Job, b *Batch, ev *pgq.Event, why error) error {
	failure := fmt.Errorf("event %d: %w", ev.ID, why)
	if b.bad++; c.BadEventLimit > 0 && b.bad > c.BadEventLimit {
		return fmt.Errorf("%w; it is one of more than bad_event_limit = %d in this batch, which is not the events' fault: mend the cause, or raise the limit", failure, c.BadEventLimit)
	}
	var err error
	switch c.OnBadEvent {
	case "retry":
		err = b.RetryFor(ev, c.BadEventRetry, why.Error())
	case "deadletter":
		err = b.Fail(ev, why.Error())
	case "stop", "":
		return fmt.Errorf("%w; the batch comes again until the event can be used, or on_bad_event says to put such events aside", failure)
	default:
		return Usagef("on_bad_event = %q: must be one of stop, retry, deadletter", c.OnBadEvent)
	}
	if err != nil {
		return fmt.Errorf("%w; on_bad_event = %s is not possible: %w", failure, c.OnBadEvent, err)
	}
	log := job.Log.WithFields(logrus.Fields{"queue": b.Queue, "consumer": b.Consumer, "batch_id": b.ID, "event_id": ev.ID, "on_bad_event": c.OnBadEvent})
	var column *columnError
	if errors.As(why, &column) {
		log = log.WithField("field", column.name)
	}
	log.WithError(why).Warn("event put aside")
	return nil
}
