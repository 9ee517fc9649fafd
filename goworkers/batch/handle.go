package batch

// Handlers of single events: Handle makes a Handler of a function that gets each event
// decoded into a struct and says what shall become of it. How structs are filled is in
// columns.go.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sirupsen/logrus"

	"goworkers/pgq"
)

// HandleOption changes how Handle works.
type HandleOption int

const (
	// Strict makes an event bad that has a column which the struct lacks, or lacks one
	// which the struct has. Without it other columns are ignored, and a field that can
	// be NULL may be missing.
	Strict HandleOption = iota + 1
	// NoSavepoints saves time where the handler writes to its database. A statement that
	// fails undoes the whole batch then, and what the handler wrote for an event that it
	// puts aside stays.
	NoSavepoints
	// DataURL, DataJSON and DataSQL say that all events are written as by logutriga,
	// jsontriga or sqltriga. Without them it is told by each event: { begins JSON, the
	// types I, U and D of an event with ev_extra1 are those of sqltriga, all else is
	// url-encoded.
	DataURL
	DataJSON
	DataSQL
)

// Handle makes a Handler that calls f for each event, with the row in ev_data decoded
// into v. What f returns decides:
//
//	nil                      the event is done
//	Retry, RetryFor          it comes again later
//	DeadLetter               it is given up, and waits for a person
//	any other error          the batch is undone and comes again after a pause
//
// What f has written through tx for an event that is put aside is undone, also after a
// statement that failed: each event that uses tx has a savepoint, made by its first use.
//
// T is a struct, pgq.Row, or pgq.Change for events of triggers whatever their format.
// A field's column is named by its tag db or json, else by its name in snake case; the
// tag "-" leaves it out. Fields may be numbers, bool, string, []byte (bytea in hex, or
// any text), time.Time, time.Duration (as ParseDuration reads it), what has a Scan or
// UnmarshalText, such as the types of pgtype; slices of these, from an SQL or JSON array;
// other structs and maps, from JSON. A NULL, or no such column, leaves a pointer nil and
// what has a Scan zero; for any other field such an event is bad. Of bad events each is
// logged with its id, queue and field, and goes the way of on_bad_event. Handle panics
// when T cannot be decoded into.
func Handle[T any](job *Job, cfg BadEvents, f func(ctx context.Context, tx pgx.Tx, ev *pgq.Event, v *T) error, options ...HandleOption) Handler {
	decode := decoderOf[T](options)
	savepoints := true
	for _, option := range options {
		savepoints = savepoints && option != NoSavepoints
	}
	return func(ctx context.Context, tx pgx.Tx, b *Batch) error {
		guarded := &eventTx{Tx: tx, off: !savepoints}
		guarded.first = func() { _ = guarded.open(ctx) } // the fault is kept
		decode := decode()
		for ev, err := range b.Events() {
			if err != nil {
				return err
			}
			v := new(T)
			if bad := decode(ev, v); bad != nil {
				if err := cfg.PutAside(job, b, ev, bad); err != nil {
					return err
				}
				continue
			}
			guarded.opened = false
			err = guarded.settle(ctx, f(ctx, guarded, ev, v))
			var wish *asideError
			switch {
			case errors.As(err, &wish):
				if err := wish.put(job.Log, b, ev); err != nil {
					return err
				}
			case err != nil:
				return fmt.Errorf("event %d: %w", ev.ID, err)
			}
		}
		return nil
	}
}

// asideError is what a function given to Handle returns for an event to put aside.
type asideError struct {
	after  time.Duration
	reason string
	dead   bool
}

// Retry is what a function given to Handle returns for an event to come again after a
// while; see Batch.Retry.
func Retry(after time.Duration) error { return &asideError{after: after} }

// RetryFor is Retry with the reason; see Batch.RetryFor.
func RetryFor(after time.Duration, reason string) error {
	return &asideError{after: after, reason: reason}
}

// DeadLetter is what a function given to Handle returns for an event to give up; see
// Batch.Fail.
func DeadLetter(reason string) error { return &asideError{reason: reason, dead: true} }

func (e *asideError) Error() string {
	if e.dead {
		return "given up: " + e.reason
	}
	if e.reason == "" {
		return fmt.Sprintf("to be tried again after %s", e.after)
	}
	return fmt.Sprintf("to be tried again after %s: %s", e.after, e.reason)
}

func (e *asideError) put(log logrus.FieldLogger, b *Batch, ev *pgq.Event) (err error) {
	if e.dead {
		err = b.Fail(ev, e.reason)
	} else {
		err = b.RetryFor(ev, e.after, e.reason)
	}
	if err != nil {
		return fmt.Errorf("event %d is %w: %w", ev.ID, e, err)
	}
	log = ofEvent(log, b, ev).WithField("reason", e.reason)
	if e.dead {
		log.Warn("event given up")
	} else {
		log.WithField("after", e.after).Debug("event will be tried again")
	}
	return nil
}

func ofEvent(log logrus.FieldLogger, b *Batch, ev *pgq.Event) logrus.FieldLogger {
	return log.WithFields(logrus.Fields{"queue": b.Queue, "consumer": b.Consumer, "batch_id": b.ID, "event_id": ev.ID})
}

// eventTx is the batch's transaction as the events see it: the first use of each event
// makes a savepoint, in the place of the event's before it.
type eventTx struct {
	pgx.Tx
	off    bool
	opened bool   // for this event
	made   bool   // there is a savepoint
	first  func() // open, for methods without a context
	fault  error  // of making a savepoint; nothing works after it
}

// Either can be a batch's message to the server, so that a savepoint costs one more.
const (
	savepointSQL  = `savepoint batch_event`
	nextPointSQL  = `release savepoint batch_event; savepoint batch_event`
	rollbackToSQL = `rollback to savepoint batch_event`
)

// open says why nothing works any more, or nil.
func (e *eventTx) open(ctx context.Context) error {
	if e.off || e.opened || e.fault != nil {
		return e.fault
	}
	sql := savepointSQL
	if e.made {
		sql = nextPointSQL
	}
	e.opened, e.made = true, true
	if _, err := e.Tx.Exec(ctx, sql); err != nil {
		e.fault = fmt.Errorf("make a savepoint: %w", err)
	}
	return e.fault
}

// settle undoes what the event did when its function has returned an error of putting it
// aside. It returns that error, or a worse one.
func (e *eventTx) settle(ctx context.Context, err error) error {
	if e.fault != nil {
		return e.fault // the handler's error only follows from it
	}
	broken := e.Tx.Conn().PgConn().TxStatus() == 'E'
	var wish *asideError
	switch {
	case err == nil && broken:
		return errors.New("one of its statements failed, and the handler says that it is done")
	case !errors.As(err, &wish):
		return err
	case e.opened:
		if _, err := e.Tx.Exec(ctx, rollbackToSQL); err != nil {
			return fmt.Errorf("undo what was done for it: %w", err)
		}
	case broken:
		return fmt.Errorf("one of its statements failed, which undoes the batch, as there are no savepoints; it was to be %s", wish)
	}
	return err
}

func (e *eventTx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	return e.Tx.Begin(ctx)
}

var errNotYours = errors.New("the transaction is the batch's: a handler neither commits nor rolls it back")

func (e *eventTx) Commit(context.Context) error   { return errNotYours }
func (e *eventTx) Rollback(context.Context) error { return errNotYours }

func (e *eventTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	if err := e.open(ctx); err != nil {
		return 0, err
	}
	return e.Tx.CopyFrom(ctx, table, columns, rows)
}

func (e *eventTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := e.open(ctx); err != nil {
		return faultResults{err: err}
	}
	return e.Tx.SendBatch(ctx, b)
}

func (e *eventTx) LargeObjects() pgx.LargeObjects {
	e.first()
	return e.Tx.LargeObjects()
}

func (e *eventTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	return e.Tx.Prepare(ctx, name, sql)
}

func (e *eventTx) Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error) {
	if err := e.open(ctx); err != nil {
		return pgconn.CommandTag{}, err
	}
	return e.Tx.Exec(ctx, sql, arguments...)
}

func (e *eventTx) Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error) {
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	return e.Tx.Query(ctx, sql, arguments...)
}

func (e *eventTx) QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row {
	if err := e.open(ctx); err != nil {
		return faultRow{err}
	}
	return e.Tx.QueryRow(ctx, sql, arguments...)
}

func (e *eventTx) Conn() *pgx.Conn {
	e.first()
	return e.Tx.Conn()
}

// faultRow and faultResults are what queries give when nothing works.
type faultRow struct{ err error }

func (f faultRow) Scan(...any) error { return f.err }

type faultResults struct {
	pgx.BatchResults // nil
	err              error
}

func (f faultResults) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, f.err }
func (f faultResults) Query() (pgx.Rows, error)         { return nil, f.err }
func (f faultResults) QueryRow() pgx.Row                { return faultRow{f.err} }
func (f faultResults) Close() error                     { return f.err }
