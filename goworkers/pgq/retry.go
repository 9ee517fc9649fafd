// Events that could not be handled: many to retry at once, and the dead ones.

package pgq

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	eventRetryManySQL   = `select pgq.event_retry($1, $2::bigint[], $3::timestamptz, null)`
	eventRetryReasonSQL = `select pgq.event_retry($1, $2::bigint[], $3::timestamptz, $4::text)`
	eventRetryAfterSQL  = `select pgq.event_retry($1, $2::bigint[], $3::integer)`
	eventRetryAfterWhy  = `select pgq.event_retry($1, $2::bigint[], $3::integer, $4::text)`
)

// EventRetryMany is EventRetry for many events of an open batch in one call; it
// returns how many were put aside. An event that was retried as often as the
// subscription's max_retries allows is dead instead, for this reason ("" is none).
// Where the subscription has a retry_delay, an event waits at least that long,
// doubled for each retry that it has had.
func EventRetryMany(ctx context.Context, db DB, batch int64, events []int64, after time.Duration, reason string) (added int, err error) {
	sql, args := eventRetryAfterSQL, []any{batch, events, wholeSeconds(after)}
	if reason != "" {
		sql, args = eventRetryAfterWhy, append(args, reason)
	}
	err = db.QueryRow(ctx, sql, args...).Scan(&added)
	return added, wrap(err, "retry %d events of batch %d", len(events), batch)
}

// EventRetryManyAt is EventRetryMany with the time of the next try.
func EventRetryManyAt(ctx context.Context, db DB, batch int64, events []int64, at time.Time, reason string) (added int, err error) {
	sql, args := eventRetryManySQL, []any{batch, events, at}
	if reason != "" {
		sql, args = eventRetryReasonSQL, append(args, reason)
	}
	err = db.QueryRow(ctx, sql, args...).Scan(&added)
	return added, wrap(err, "retry %d events of batch %d", len(events), batch)
}

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

const eventFailedSQL = `select pgq.event_failed($1, $2, $3) = 1`

// EventFailed makes an event of an open batch dead: it does not come again, and is
// kept with the reason until somebody retries or deletes it. It says false when the
// event was put aside before.
func EventFailed(ctx context.Context, db DB, batch, event int64, reason string) (added bool, err error) {
	err = db.QueryRow(ctx, eventFailedSQL, batch, event, reason).Scan(&added)
	return added, wrap(err, "fail event %d of batch %d", event, batch)
}

// DeadEvent is an event that a consumer has given up.
type DeadEvent struct {
	Event
	Reason string // why, "" when nobody said
	DiedAt time.Time
}

const failedEventListSQL = `
	select ev_id, ev_time, coalesce(ev_txid, 0), coalesce(ev_retry, 0), ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4,
	       coalesce(ev_failed_reason, ''), ev_failed_time
	  from pgq.failed_event_list($1, $2, $3, $4)
	 order by ev_id`

// FailedEventList lists the dead events of a consumer by id: count of them, after
// the first offset ones. A count of 0 is all.
func FailedEventList(ctx context.Context, db DB, queue, consumer string, count, offset int) ([]DeadEvent, error) {
	limit := pgtype.Int4{Int32: int32(count), Valid: count > 0}
	rows, err := db.Query(ctx, failedEventListSQL, queue, consumer, limit, offset)
	if err != nil {
		return nil, wrap(err, "list the dead events of consumer %q on queue %q", consumer, queue)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e DeadEvent, err error) {
		err = row.Scan(&e.ID, &e.Time, &e.TxID, &e.Retry, &e.Type, &e.Data, &e.Extra1, &e.Extra2, &e.Extra3, &e.Extra4, &e.Reason, &e.DiedAt)
		return e, err
	})
	return list, wrap(err, "list the dead events of consumer %q on queue %q", consumer, queue)
}

const failedEventCountSQL = `select pgq.failed_event_count($1, $2)`

// FailedEventCount counts the dead events of a consumer.
func FailedEventCount(ctx context.Context, db DB, queue, consumer string) (n int64, err error) {
	err = db.QueryRow(ctx, failedEventCountSQL, queue, consumer).Scan(&n)
	return n, wrap(err, "count the dead events of consumer %q on queue %q", consumer, queue)
}

const (
	failedEventRetrySQL     = `select pgq.failed_event_retry($1, $2, $3)`
	failedEventRetryAllSQL  = `select pgq.failed_event_retry($1, $2)`
	failedEventDeleteSQL    = `select pgq.failed_event_delete($1, $2, $3)`
	failedEventDeleteAllSQL = `select pgq.failed_event_delete($1, $2)`
)

// FailedEventRetry puts one dead event back into the queue for its consumer, to be
// tried as if it had never been. It returns how many events that were: 0 or 1.
func FailedEventRetry(ctx context.Context, db DB, queue, consumer string, event int64) (n int64, err error) {
	err = db.QueryRow(ctx, failedEventRetrySQL, queue, consumer, event).Scan(&n)
	return n, wrap(err, "retry dead event %d of consumer %q on queue %q", event, consumer, queue)
}

// FailedEventRetryAll is FailedEventRetry for all dead events of the consumer.
func FailedEventRetryAll(ctx context.Context, db DB, queue, consumer string) (n int64, err error) {
	err = db.QueryRow(ctx, failedEventRetryAllSQL, queue, consumer).Scan(&n)
	return n, wrap(err, "retry the dead events of consumer %q on queue %q", consumer, queue)
}

// FailedEventDelete forgets one dead event, and returns how many that were: 0 or 1.
func FailedEventDelete(ctx context.Context, db DB, queue, consumer string, event int64) (n int64, err error) {
	err = db.QueryRow(ctx, failedEventDeleteSQL, queue, consumer, event).Scan(&n)
	return n, wrap(err, "delete dead event %d of consumer %q on queue %q", event, consumer, queue)
}

// FailedEventDeleteAll forgets all dead events of the consumer.
func FailedEventDeleteAll(ctx context.Context, db DB, queue, consumer string) (n int64, err error) {
	err = db.QueryRow(ctx, failedEventDeleteAllSQL, queue, consumer).Scan(&n)
	return n, wrap(err, "delete the dead events of consumer %q on queue %q", consumer, queue)
}

// DeadLetters says how many dead events a consumer has.
type DeadLetters struct {
	Queue    string
	Consumer string
	Count    int64
	Oldest   time.Time // when the first of them died
}

const deadLettersSQL = `
	select queue_name, coalesce(consumer_name, ''), count(*), min(dead_time)
	  from pgq.dead_letter
	 group by 1, 2
	 order by 1, 2`

// CountDeadLetters counts the dead events of all consumers that have some.
func CountDeadLetters(ctx context.Context, db DB) ([]DeadLetters, error) {
	rows, err := db.Query(ctx, deadLettersSQL)
	if err != nil {
		return nil, wrap(err, "count dead events")
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[DeadLetters])
	return list, wrap(err, "count dead events")
}
