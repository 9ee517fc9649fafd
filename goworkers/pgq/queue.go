// Queues: make, drop, configure, look at, tick and maintain them.

package pgq

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const createQueueSQL = `select pgq.create_queue($1)`

// CreateQueue makes a queue. It says false when there was one of that name.
func CreateQueue(ctx context.Context, db DB, queue string) (created bool, err error) {
	err = db.QueryRow(ctx, createQueueSQL+` = 1`, queue).Scan(&created)
	return created, wrap(err, "create queue %q", queue)
}

const dropQueueSQL = `select pgq.drop_queue($1, $2)`

// DropQueue drops a queue with its events. With force its consumers go too;
// without, a queue that has some stays and an error comes.
func DropQueue(ctx context.Context, db DB, queue string, force bool) error {
	_, err := db.Exec(ctx, dropQueueSQL, queue, force)
	return wrap(err, "drop queue %q", queue)
}

const setQueueConfigSQL = `select pgq.set_queue_config($1, $2, $3)`

// SetQueueConfig sets one parameter of a queue; QueueParams tells them all.
func SetQueueConfig(ctx context.Context, db DB, queue, param, value string) error {
	_, err := db.Exec(ctx, setQueueConfigSQL, queue, param, value)
	return wrap(err, "set %s of queue %q to %q", param, queue, value)
}

// UnsetQueueConfig sets a parameter of a queue to NULL: no limit, not kept longer.
func UnsetQueueConfig(ctx context.Context, db DB, queue, param string) error {
	_, err := db.Exec(ctx, setQueueConfigSQL, queue, param, nil)
	return wrap(err, "unset %s of queue %q", param, queue)
}

// Queue is what QueueInfo tells of a queue. Pointers are nil where the server
// says NULL: nothing to measure yet.
type Queue struct {
	Name             string
	Tables           int
	CurrentTable     int
	RotationPeriod   time.Duration
	SwitchTime       time.Time
	ExternalTicker   bool
	TickerPaused     bool
	TickerMaxCount   int
	TickerMaxLag     time.Duration
	TickerIdlePeriod time.Duration
	TickerLag        *time.Duration // age of the last tick
	EventsPerSecond  *float64
	NewEvents        *int64 // since the last tick
	LastTickID       *int64
}

const queueInfoSQL = `
	select queue_name, queue_ntables, queue_cur_table, queue_rotation_period, queue_switch_time,
	       queue_external_ticker, queue_ticker_paused, queue_ticker_max_count, queue_ticker_max_lag,
	       queue_ticker_idle_period, ticker_lag, ev_per_sec, ev_new, last_tick_id
	  from pgq.get_queue_info()`

// QueueInfo describes all queues, by name, or just the named one. A queue that
// does not exist gives an empty list.
func QueueInfo(ctx context.Context, db DB, queue ...string) ([]Queue, error) {
	sql, args := queueInfoSQL, []any(nil)
	if len(queue) > 0 {
		sql += ` where queue_name = any($1)`
		args = append(args, queue)
	}
	rows, err := db.Query(ctx, sql+` order by queue_name`, args...)
	if err != nil {
		return nil, wrap(err, "look at the queues")
	}
	infos, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (q Queue, err error) {
		err = row.Scan(&q.Name, &q.Tables, &q.CurrentTable, (*interval)(&q.RotationPeriod), &moment{&q.SwitchTime},
			&q.ExternalTicker, &q.TickerPaused, &q.TickerMaxCount, (*interval)(&q.TickerMaxLag),
			(*interval)(&q.TickerIdlePeriod), optional(&q.TickerLag), &q.EventsPerSecond, &q.NewEvents, &q.LastTickID)
		return q, err
	})
	return infos, wrap(err, "look at the queues")
}

const tickerSQL = `select pgq.ticker()`

// Ticker ticks every queue that wants one and returns how many got one.
func Ticker(ctx context.Context, db DB) (ticked int64, err error) {
	err = db.QueryRow(ctx, tickerSQL).Scan(&ticked)
	return ticked, wrap(err, "tick the queues")
}

const tickQueueSQL = `select coalesce(pgq.ticker($1), 0)`

// TickQueue ticks one queue if it wants a tick, and returns the tick's id, or 0
// when it did not.
func TickQueue(ctx context.Context, db DB, queue string) (tick int64, err error) {
	err = db.QueryRow(ctx, tickQueueSQL, queue).Scan(&tick)
	return tick, wrap(err, "tick queue %q", queue)
}

const forceTickSQL = `select coalesce(pgq.force_tick($1), 0)`

// ForceTick makes the next run of the ticker tick the queue, events or not. It
// returns the last tick there is.
func ForceTick(ctx context.Context, db DB, queue string) (lastTick int64, err error) {
	err = db.QueryRow(ctx, forceTickSQL, queue).Scan(&lastTick)
	return lastTick, wrap(err, "force a tick of queue %q", queue)
}

// MaintOp is one piece of maintenance: a function to call, with its argument if it
// has one. The names "vacuum" and "vacuum analyze" are no functions: the argument
// is a table to vacuum.
type MaintOp struct {
	Func string
	Arg  *string
}

const maintOperationsSQL = `select func_name, func_arg from pgq.maint_operations()`

// MaintOperations lists the maintenance that is due, in the order to do it.
func MaintOperations(ctx context.Context, db DB) ([]MaintOp, error) {
	rows, err := db.Query(ctx, maintOperationsSQL)
	if err != nil {
		return nil, wrap(err, "list the maintenance that is due")
	}
	ops, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (op MaintOp, err error) {
		err = row.Scan(&op.Func, &op.Arg)
		return op, err
	})
	return ops, wrap(err, "list the maintenance that is due")
}

const (
	quoteFQNameSQL = `select pgq.quote_fqname($1)`
)

// RunMaintOp does one piece of maintenance. It says again when the function asks
// to be called at once another time. Since VACUUM may not run in a transaction
// block, db must not be in one.
func RunMaintOp(ctx context.Context, db DB, op MaintOp) (again bool, err error) {
	switch op.Func {
	case "vacuum", "vacuum analyze":
		if op.Arg == nil {
			return false, wrap(errNoTable, "%s", op.Func)
		}
		var table string
		if err := db.QueryRow(ctx, quoteFQNameSQL, *op.Arg).Scan(&table); err != nil {
			return false, wrap(err, "%s %s", op.Func, *op.Arg)
		}
		_, err := db.Exec(ctx, op.Func+" "+table)
		return false, wrap(err, "%s %s", op.Func, *op.Arg)
	}
	var function string
	if err := db.QueryRow(ctx, quoteFQNameSQL, op.Func).Scan(&function); err != nil {
		return false, wrap(err, "maintenance %s", op.Func)
	}
	var result *int64
	if op.Arg != nil {
		err = db.QueryRow(ctx, "select "+function+"($1)::bigint", *op.Arg).Scan(&result)
		return result != nil && *result != 0, wrap(err, "maintenance %s(%q)", op.Func, *op.Arg)
	}
	err = db.QueryRow(ctx, "select "+function+"()::bigint").Scan(&result)
	return result != nil && *result != 0, wrap(err, "maintenance %s()", op.Func)
}

const maintRetryEventsSQL = `select pgq.maint_retry_events()`

// MaintRetryEvents puts some of the events whose retry time has come back into
// their queues and returns how many; call it until it says 0.
func MaintRetryEvents(ctx context.Context, db DB) (moved int, err error) {
	err = db.QueryRow(ctx, maintRetryEventsSQL).Scan(&moved)
	return moved, wrap(err, "put retried events back")
}
