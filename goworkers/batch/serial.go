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
	lanes *lanes // the workers, when there are several
}

// NewSerialConsumer makes a consumer. Its first round registers it on the queue,
// if it is not registered, to get the events from then on.
func NewSerialConsumer(job *Job, cfg RemoteConfig, handler Handler) (*SerialConsumer, error) {
	t, err := newTarget(job, cfg, handler)
	if err != nil {
		return nil, err
	}
	c := serialConsumer(t)
	if cfg.Workers > 1 {
		c.lanes = &lanes{job: job}
		for n := range cfg.Workers {
			one := t
			one.source = t.inLane(n)
			c.lanes.add(serialConsumer(one))
		}
	}
	return c, nil
}

func serialConsumer(t target) *SerialConsumer {
	c := &SerialConsumer{target: t}
	// What the target knows of slots that were there once is no more true of new ones.
	t.resized = c.forget
	return c
}

// Work does one batch, if there is one; with several workers it does many.
func (c *SerialConsumer) Work(ctx context.Context) (more bool, err error) {
	if c.lanes != nil {
		return c.lanes.work(ctx)
	}
	return c.work(ctx)
}

func (c *SerialConsumer) work(ctx context.Context) (more bool, err error) {
	return c.apply(ctx, func(tx pgx.Tx, b *pgq.Batch) (fresh bool, err error) {
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
	}, func(b *pgq.Batch) int64 { return b.Tick })
}

// names are those that the target knows the consumer by: one for each slot.
func (c *SerialConsumer) names() []string {
	if c.cfg.Slots == 0 {
		return []string{c.cfg.ConsumerName}
	}
	var list []string
	for slot := range c.cfg.Slots {
		list = append(list, pgq.SlotName(c.cfg.ConsumerName, slot))
	}
	return list
}

// Rewind moves the consumer on the queue to where the target has stopped, so
// that what the target has not done comes again. It returns that tick, the lowest
// one of a consumer of several slots, or nil when the target knows none and nothing
// was done.
func (c *SerialConsumer) Rewind(ctx context.Context) (lowest *int64, err error) {
	src, err := c.db(ctx)
	if err != nil {
		return nil, err
	}
	dst, err := c.targetDB(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range c.names() {
		tick, err := pgq.GetLastTick(ctx, dst, name)
		switch {
		case err != nil:
			return nil, c.explainTarget(err)
		case tick == nil:
			continue
		}
		if _, err := pgq.RegisterConsumerAt(ctx, src, c.cfg.QueueName, name, *tick); err != nil {
			return nil, c.explain(err)
		}
		if lowest == nil || *tick < *lowest {
			lowest = tick
		}
	}
	return lowest, nil
}

// Reset makes the target forget its place, so that the next batch is taken
// wherever the queue has it.
func (c *SerialConsumer) Reset(ctx context.Context) error { return c.forget(ctx, c.names()) }

// forget makes the target forget the place of consumers.
func (c *SerialConsumer) forget(ctx context.Context, names []string) error {
	dst, err := c.targetDB(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := pgq.ForgetLastTick(ctx, dst, name); err != nil {
			return c.explainTarget(err)
		}
	}
	return nil
}
