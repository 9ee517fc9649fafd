// Consumers: register them, take batches, finish them.

package pgq

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
)

var errNoTable = errors.New("the server named no table")

const registerConsumerSQL = `select pgq.register_consumer($1, $2) = 1`

// RegisterConsumer registers a consumer on a queue; what comes from now on is for
// it. It says false when it was registered, and then changes nothing.
func RegisterConsumer(ctx context.Context, db DB, queue, consumer string) (registered bool, err error) {
	err = db.QueryRow(ctx, registerConsumerSQL, queue, consumer).Scan(&registered)
	return registered, wrap(err, "register consumer %q on queue %q", consumer, queue)
}

const registerConsumerAtSQL = `select pgq.register_consumer_at($1, $2, $3) = 1`

// RegisterConsumerAt registers a consumer as one that has done everything up to
// the tick. One that was registered is moved there, and its open batch dropped.
func RegisterConsumerAt(ctx context.Context, db DB, queue, consumer string, tick int64) (registered bool, err error) {
	err = db.QueryRow(ctx, registerConsumerAtSQL, queue, consumer, tick).Scan(&registered)
	return registered, wrap(err, "register consumer %q on queue %q at tick %d", consumer, queue, tick)
}

const unregisterConsumerSQL = `select pgq.unregister_consumer($1, $2)`

// UnregisterConsumer takes a consumer off a queue, its events to retry included,
// and returns how many registrations went: 0 when there was none, more than 1 when
// the consumer had subconsumers.
func UnregisterConsumer(ctx context.Context, db DB, queue, consumer string) (gone int, err error) {
	err = db.QueryRow(ctx, unregisterConsumerSQL, queue, consumer).Scan(&gone)
	return gone, wrap(err, "unregister consumer %q from queue %q", consumer, queue)
}

// Consumer is what ConsumerInfo tells of a consumer on a queue. Pointers are nil
// where the server says NULL, as for a subconsumer that is idle.
type Consumer struct {
	Queue         string
	Name          string
	Lag           *time.Duration // age of the last tick it has done
	LastSeen      *time.Duration // since it took or finished a batch
	LastTick      *int64
	CurrentBatch  *int64
	NextTick      *int64
	PendingEvents *int64
}

const consumerInfoSQL = `
	select queue_name, consumer_name, lag, last_seen, last_tick, current_batch, next_tick, pending_events
	  from pgq.get_consumer_info($1, $2)
	 order by queue_name, consumer_name`

// ConsumerInfo describes consumers by queue and name: all, or when the names are
// not empty those of one queue, or one consumer on one queue.
func ConsumerInfo(ctx context.Context, db DB, queue, consumer string) ([]Consumer, error) {
	rows, err := db.Query(ctx, consumerInfoSQL, nonempty(queue), nonempty(consumer))
	if err != nil {
		return nil, wrap(err, "look at the consumers")
	}
	infos, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Consumer, err error) {
		err = row.Scan(&c.Queue, &c.Name, optional(&c.Lag), optional(&c.LastSeen), &c.LastTick, &c.CurrentBatch, &c.NextTick, &c.PendingEvents)
		return c, err
	})
	return infos, wrap(err, "look at the consumers")
}

func nonempty(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Batch is the work between two ticks, given to one consumer.
type Batch struct {
	ID       int64
	Queue    string
	Consumer string

	PrevTick     int64 // the batch is what came after this tick ...
	PrevTickTime time.Time
	PrevSeq      int64
	Tick         int64 // ... up to this one
	TickTime     time.Time
	Seq          int64

	Slot int // of a consumer that is split; see NextSlotBatch
}

// Wish says how a batch should be; the zero value takes the very next one.
type Wish struct {
	// MinLag keeps the consumer at least so far behind the present.
	MinLag time.Duration
	// MinCount joins ticks until about so many events are together.
	MinCount int
	// MinInterval joins ticks until about so much time is together. When MinCount
	// is given too, either is enough.
	MinInterval time.Duration
}

const (
	batchColumns = `batch_id, prev_tick_id, prev_tick_time, prev_tick_event_seq, cur_tick_id, cur_tick_time, cur_tick_event_seq`

	nextBatchSQL       = `select ` + batchColumns + ` from pgq.next_batch_info($1, $2) where batch_id is not null`
	nextBatchCustomSQL = `select ` + batchColumns + ` from pgq.next_batch_custom($1, $2, $3, $4, $5) where batch_id is not null`
)

// NextBatch gives the consumer its open batch or, if it has none, opens the next
// one. It returns nil when there is no next one yet.
func NextBatch(ctx context.Context, db DB, queue, consumer string) (*Batch, error) {
	return nextBatch(queue, consumer, db.QueryRow(ctx, nextBatchSQL, queue, consumer))
}

// NextBatchCustom is NextBatch for a batch as the wish says. An open batch is
// given as it is.
func NextBatchCustom(ctx context.Context, db DB, queue, consumer string, wish Wish) (*Batch, error) {
	var count *int
	if wish.MinCount > 0 {
		count = &wish.MinCount
	}
	return nextBatch(queue, consumer, db.QueryRow(ctx, nextBatchCustomSQL,
		queue, consumer, asInterval(wish.MinLag), count, asInterval(wish.MinInterval)))
}

func nextBatch(queue, consumer string, row pgx.Row) (*Batch, error) {
	b := &Batch{Queue: queue, Consumer: consumer}
	err := row.Scan(&b.ID, &b.PrevTick, &moment{&b.PrevTickTime}, &b.PrevSeq, &b.Tick, &moment{&b.TickTime}, &b.Seq)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap(err, "take the next batch of consumer %q on queue %q", consumer, queue)
	}
	return b, nil
}

const getBatchEventsSQL = `select ` + eventColumns + ` from pgq.get_batch_events($1) order by ev_id`

// GetBatchEvents returns all events of a batch, by id. Where a batch may be big,
// BatchEvents holds less.
func GetBatchEvents(ctx context.Context, db DB, batch int64) ([]*Event, error) {
	rows, err := db.Query(ctx, getBatchEventsSQL, batch)
	if err != nil {
		return nil, wrap(err, "get the events of batch %d", batch)
	}
	events, err := pgx.CollectRows(rows, decodeEvent)
	return events, wrap(err, "get the events of batch %d", batch)
}

const eventRetrySQL = `select pgq.event_retry($1, $2, $3::integer) = 1`

// EventRetry asks for another try of an event of an open batch, after so many
// whole seconds (rounded up). It takes effect when db's transaction commits, which
// should be the one that finishes the batch. It says false when the event was
// waiting for its retry already.
func EventRetry(ctx context.Context, db DB, batch, event int64, after time.Duration) (added bool, err error) {
	err = db.QueryRow(ctx, eventRetrySQL, batch, event, wholeSeconds(after)).Scan(&added)
	return added, wrap(err, "retry event %d of batch %d", event, batch)
}

const batchRetrySQL = `select pgq.batch_retry($1, $2)`

// BatchRetry is EventRetry for all events of a batch; it returns how many it added.
func BatchRetry(ctx context.Context, db DB, batch int64, after time.Duration) (added int, err error) {
	err = db.QueryRow(ctx, batchRetrySQL, batch, wholeSeconds(after)).Scan(&added)
	return added, wrap(err, "retry batch %d", batch)
}

const finishBatchSQL = `select pgq.finish_batch($1) = 1`

// FinishBatch moves the consumer past its open batch. It says false when the batch
// is not open, as when it was finished before.
func FinishBatch(ctx context.Context, db DB, batch int64) (finished bool, err error) {
	err = db.QueryRow(ctx, finishBatchSQL, batch).Scan(&finished)
	return finished, wrap(err, "finish batch %d", batch)
}
