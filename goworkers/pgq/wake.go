// Waking instead of polling: writers wake the ticker, ticks wake consumers. It is
// on for queues whose setting notify is.

package pgq

import (
	"context"
	"time"
)

// InsertChannel is the channel that writers of queues with notify send the queue's
// name to when they commit. A ticker listens to it and calls TickerWake.
const InsertChannel = "pgq_insert"

const tickerWakeSQL = `select tick_id, again from pgq.ticker_wake($1)`

// TickerWake ticks a queue that a notification came for, if there is something to
// tick: tick is 0 when there was not. With again not nil call it once more after so
// long; else nothing is left to do until the next notification.
func TickerWake(ctx context.Context, db DB, queue string) (tick int64, again *time.Duration, err error) {
	var id *int64
	err = db.QueryRow(ctx, tickerWakeSQL, queue).Scan(&id, optional(&again))
	if id != nil {
		tick = *id
	}
	return tick, again, wrap(err, "tick queue %q after a notification", queue)
}

const tickChannelSQL = `select coalesce(pgq.tick_channel($1), '')`

// TickChannel names the channel that each tick of the queue is told on, with the
// tick's id; "" while the queue does not notify. Listen to it and take a batch then.
// A notification may be missed (the connection was lost meanwhile), so look at the
// queue now and then all the same.
func TickChannel(ctx context.Context, db DB, queue string) (channel string, err error) {
	err = db.QueryRow(ctx, tickChannelSQL, queue).Scan(&channel)
	return channel, wrap(err, "ask for the channel of queue %q", queue)
}

const (
	tickerLockSQL   = `select pg_catalog.pg_try_advisory_lock(7071, 1)`
	tickerUnlockSQL = `select pg_catalog.pg_advisory_unlock(7071, 1)`
)

// TryTickerLock takes the lock that the ticking session of a database holds, so that
// a second ticker waits as a spare. It says false when another session has it. The
// lock lives as long as the session: db must be one connection, not a pool.
func TryTickerLock(ctx context.Context, db DB) (locked bool, err error) {
	err = db.QueryRow(ctx, tickerLockSQL).Scan(&locked)
	return locked, wrap(err, "take the ticker's lock")
}

// ReleaseTickerLock gives back what TryTickerLock took.
func ReleaseTickerLock(ctx context.Context, db DB) error {
	_, err := db.Exec(ctx, tickerUnlockSQL)
	return wrap(err, "release the ticker's lock")
}
