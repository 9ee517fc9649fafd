package batch

// The consumer that keeps its place by ticks.

import (
	"context"

	"github.com/jackc/pgx/v5"

	"goworkers/pgq"
)

// SerialConsumer is a Worker that applies a queue to another database in order
// and keeps there the last tick it has done. It goes on only where the target
// has stopped; when the source offers anything else, it stops with a
// LostPositionError.
type SerialConsumer struct {
	target
}

// NewSerialConsumer makes a consumer. Its first round registers it on the queue,
// if it is not registered, to get the events from then on.
func NewSerialConsumer(job *Job, cfg RemoteConfig, handler Handler) (*SerialConsumer, error) {
	t, err := newTarget(job, cfg, handler)
	if err != nil {
		return nil, err
	}
	return &SerialConsumer{t}, nil
}

// Work does one batch, if there is one.
func (c *SerialConsumer) Work(ctx context.Context) (more bool, err error) {
	return c.work(ctx, func(tx pgx.Tx, b *pgq.Batch) (fresh bool, err error) {
		if err := pgq.LockConsumer(ctx, tx, b.Consumer); err != nil {
			return false, err
		}
		last, err := pgq.GetLastTick(ctx, tx, b.Consumer)
		switch {
		case err != nil:
			return false, err
		case last == nil || *last == b.PrevTick:
			return true, pgq.SetLastTick(ctx, tx, b.Consumer, b.Tick)
		case *last == b.Tick:
			return false, nil
		}
		return false, &LostPositionError{
			Queue: b.Queue, Consumer: b.Consumer, Batch: b.ID,
			PrevTick: b.PrevTick, Tick: b.Tick, Target: *last,
		}
	})
}

// Rewind moves the consumer on the queue to where the target has stopped, so
// that what the target has not done comes again. It returns that tick, or nil
// when the target knows none and nothing was done.
func (c *SerialConsumer) Rewind(ctx context.Context) (tick *int64, err error) {
	src, err := c.db(ctx)
	if err != nil {
		return nil, err
	}
	dst, err := c.targetDB(ctx)
	if err != nil {
		return nil, err
	}
	tick, err = pgq.GetLastTick(ctx, dst, c.cfg.ConsumerName)
	if err != nil || tick == nil {
		return nil, c.explainTarget(err)
	}
	if _, err := pgq.RegisterConsumerAt(ctx, src, c.cfg.QueueName, c.cfg.ConsumerName, *tick); err != nil {
		return nil, c.explain(err)
	}
	return tick, nil
}

// Reset makes the target forget its place, so that the next batch is taken
// wherever the queue has it.
func (c *SerialConsumer) Reset(ctx context.Context) error {
	dst, err := c.targetDB(ctx)
	if err != nil {
		return err
	}
	return c.explainTarget(pgq.ForgetLastTick(ctx, dst, c.cfg.ConsumerName))
}
