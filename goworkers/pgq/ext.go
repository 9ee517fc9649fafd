// The schema pgq_ext: what a target database knows to be done. Each of these takes
// effect with db's transaction, together with the effects of the events.

package pgq

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const lockConsumerSQL = `select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pgq_ext ' || $1, 0))`

// LockConsumer waits until no other transaction has locked this consumer's name in
// this database, and holds the lock until the end of tx. GetLastTick after it says
// what still holds when tx commits.
func LockConsumer(ctx context.Context, tx pgx.Tx, consumer string) error {
	_, err := tx.Exec(ctx, lockConsumerSQL, consumer)
	return wrap(err, "lock the position of consumer %q", consumer)
}

const isBatchDoneSQL = `select pgq_ext.is_batch_done($1, $2)`

// IsBatchDone tells whether the consumer's last batch noted here is this one.
func IsBatchDone(ctx context.Context, db DB, consumer string, batch int64) (done bool, err error) {
	err = db.QueryRow(ctx, isBatchDoneSQL, consumer, batch).Scan(&done)
	return done, wrap(err, "ask whether batch %d of consumer %q is done", batch, consumer)
}

const setBatchDoneSQL = `select pgq_ext.set_batch_done($1, $2)`

// SetBatchDone notes that the consumer has done the batch. It says false when that
// was noted before.
func SetBatchDone(ctx context.Context, db DB, consumer string, batch int64) (set bool, err error) {
	err = db.QueryRow(ctx, setBatchDoneSQL, consumer, batch).Scan(&set)
	return set, wrap(err, "note batch %d of consumer %q as done", batch, consumer)
}

const getLastTickSQL = `select pgq_ext.get_last_tick($1)`

// GetLastTick returns the tick up to which the consumer has done everything, or
// nil when nothing was noted.
func GetLastTick(ctx context.Context, db DB, consumer string) (tick *int64, err error) {
	err = db.QueryRow(ctx, getLastTickSQL, consumer).Scan(&tick)
	return tick, wrap(err, "ask for the last tick of consumer %q", consumer)
}

const setLastTickSQL = `select pgq_ext.set_last_tick($1, $2)`

// SetLastTick notes the tick up to which the consumer has done everything.
func SetLastTick(ctx context.Context, db DB, consumer string, tick int64) error {
	_, err := db.Exec(ctx, setLastTickSQL, consumer, tick)
	return wrap(err, "note tick %d of consumer %q", tick, consumer)
}

// ForgetLastTick removes what SetLastTick has noted.
func ForgetLastTick(ctx context.Context, db DB, consumer string) error {
	_, err := db.Exec(ctx, setLastTickSQL, consumer, nil)
	return wrap(err, "forget the last tick of consumer %q", consumer)
}

const isEventDoneSQL = `select pgq_ext.is_event_done($1, $2, $3)`

// IsEventDone tells whether the event, of the consumer's current batch, was noted.
func IsEventDone(ctx context.Context, db DB, consumer string, batch, event int64) (done bool, err error) {
	err = db.QueryRow(ctx, isEventDoneSQL, consumer, batch, event).Scan(&done)
	return done, wrap(err, "ask whether event %d of batch %d of consumer %q is done", event, batch, consumer)
}

const setEventDoneSQL = `select pgq_ext.set_event_done($1, $2, $3)`

// SetEventDone notes that the consumer has done the event, and says false when that
// was noted before. The first event of a batch removes the notes of the one before.
func SetEventDone(ctx context.Context, db DB, consumer string, batch, event int64) (set bool, err error) {
	err = db.QueryRow(ctx, setEventDoneSQL, consumer, batch, event).Scan(&set)
	return set, wrap(err, "note event %d of batch %d of consumer %q as done", event, batch, consumer)
}

// Aside is an event that is not done with its batch, and what shall become of it at
// the queue.
type Aside struct {
	Event  int64
	Dead   bool          // give it up; else it shall come again
	After  time.Duration // after so long, in whole seconds (rounded up)
	Reason string        // why; "" is none
}

const setEventsAsideSQL = `select pgq_ext.set_events_aside($1, $2, $3::bigint[], $4::integer[], $5::text[])`

// SetEventsAside notes what shall become of some of the batch's events, behind
// SetBatchDone or SetLastTick in their transaction. A consumer that notes ticks gives
// the tick for the batch. The next batch's note removes these.
func SetEventsAside(ctx context.Context, db DB, consumer string, batch int64, events []Aside) error {
	ids := make([]int64, len(events))
	retry := make([]*int64, len(events))
	reasons := make([]*string, len(events))
	for i := range events {
		ids[i] = events[i].Event
		reasons[i] = nonempty(events[i].Reason)
		if !events[i].Dead {
			seconds := wholeSeconds(events[i].After)
			retry[i] = &seconds
		}
	}
	_, err := db.Exec(ctx, setEventsAsideSQL, consumer, batch, ids, retry, reasons)
	return wrap(err, "note %d events of batch %d of consumer %q as put aside", len(events), batch, consumer)
}

const getEventsAsideSQL = `select event_id, retry_seconds, coalesce(reason, '') from pgq_ext.get_events_aside($1, $2) order by event_id`

// GetEventsAside returns what SetEventsAside has noted for the batch, by event.
func GetEventsAside(ctx context.Context, db DB, consumer string, batch int64) ([]Aside, error) {
	rows, err := db.Query(ctx, getEventsAsideSQL, consumer, batch)
	if err != nil {
		return nil, wrap(err, "ask for the events of batch %d of consumer %q that are put aside", batch, consumer)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Aside, err error) {
		var seconds *int64
		err = row.Scan(&a.Event, &seconds, &a.Reason)
		if a.Dead = seconds == nil; !a.Dead {
			a.After = time.Duration(*seconds) * time.Second
		}
		return a, err
	})
	return list, wrap(err, "ask for the events of batch %d of consumer %q that are put aside", batch, consumer)
}

const extVersionSQL = `select pgq_ext.version()`

// ExtVersion returns the version of the extension pgq_ext.
func ExtVersion(ctx context.Context, db DB) (string, error) {
	var version string
	err := db.QueryRow(ctx, extVersionSQL).Scan(&version)
	return version, wrap(err, "ask for the version of pgq_ext")
}
