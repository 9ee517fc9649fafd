package batch

// Consumers that apply a queue to another database, each event just once. The
// target keeps in pgq_ext what it has applied, in the transaction that applies it;
// so a crash anywhere leaves nothing to guess:
//
//	source  next_batch          the same batch comes until it is finished
//	target  begin, note the batch or tick; was it noted before? then only finish
//	source  read the events --> target  apply them
//	        those that it wants again later, or gives up: note them
//	target  commit
//	source  finish_batch; put aside what the note says, in the same transaction
//
// The note comes first, since it locks the consumer's place: should a second
// process run under the same name, it waits and then sees the work as done.

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/pgq"
)

// RemoteConfig holds the keys of a consumer with a target database.
type RemoteConfig struct {
	ConsumerConfig
	// DstDB is the database that the events are applied to. Required.
	DstDB ConnString `ini:"dst_db" required:"true" help:"connection string of the database that the events are applied to; needs the extension pgq_ext"`

	DstSchema string `ini:"dst_schema" old:"true" choice:"pgq_ext"`
}

// RemoteConsumer is a Worker that applies a queue to another database and keeps
// there the number of the last batch. Batch numbers belong to the queue's
// database: when the consumer moves to a copy of the queue elsewhere, a
// SerialConsumer finds its place and this one does not.
type RemoteConsumer struct {
	target
}

// NewRemoteConsumer makes a consumer. Its first round registers it on the queue,
// if it is not registered, to get the events from then on.
func NewRemoteConsumer(job *Job, cfg RemoteConfig, handler Handler) (*RemoteConsumer, error) {
	if cfg.Slots > 0 {
		// A batch that goes to another worker has a new number.
		return nil, Usagef("%s: consumer_slots needs a consumer that keeps its place by ticks, a SerialConsumer", job.Service)
	}
	t, err := newTarget(job, cfg, handler)
	if err != nil {
		return nil, err
	}
	return &RemoteConsumer{t}, nil
}

// Work does one batch, if there is one.
func (c *RemoteConsumer) Work(ctx context.Context) (more bool, err error) {
	return c.apply(ctx, func(tx pgx.Tx, b *pgq.Batch) (fresh bool, err error) {
		return pgq.SetBatchDone(ctx, tx, b.Consumer, b.ID)
	}, func(b *pgq.Batch) int64 { return b.ID })
}

// target is the side of a consumer that faces the database it applies to.
type target struct {
	*source
	dst     ConnString
	handler Handler

	looked  bool  // at the target once in a process; see look
	noAside error // why the target cannot note events to put aside
}

func newTarget(job *Job, cfg RemoteConfig, handler Handler) (target, error) {
	if cfg.DstDB == "" {
		return target{}, Usagef("%s: dst_db is empty", job.Service)
	}
	s, err := newSource(job, cfg.ConsumerConfig)
	return target{source: s, dst: cfg.DstDB, handler: handler}, err
}

func (t *target) targetDB(ctx context.Context) (*pgx.Conn, error) {
	return t.job.DB(ctx, t.key("dst_db"), t.dst)
}

// apply does one batch. note writes into the target's transaction that the batch
// is done, and says false when that was written before. key is what the target
// knows the batch by.
func (t *target) apply(ctx context.Context, note func(tx pgx.Tx, b *pgq.Batch) (fresh bool, err error), key func(b *pgq.Batch) int64) (more bool, err error) {
	started := time.Now()
	src, next, err := t.next(ctx)
	if err != nil {
		return false, err
	}
	if err := t.look(ctx); next == nil || err != nil {
		return false, err
	}
	dst, err := t.targetDB(ctx)
	if err != nil {
		return false, err
	}
	b := t.newBatch(next)
	b.noRetry = t.noAside
	fresh := false
	err = inTx(ctx, dst, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if fresh, err = note(tx, next); err != nil {
			return t.explainTarget(err)
		}
		if !fresh {
			if t.noAside == nil {
				b.aside, err = pgq.GetEventsAside(ctx, tx, b.Consumer, key(next))
			}
			return err
		}
		err := inTx(ctx, src, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(reader pgx.Tx) error {
			return t.handle(ctx, reader, tx, b, t.handler)
		})
		if err == nil && len(b.aside) > 0 {
			err = pgq.SetEventsAside(ctx, tx, b.Consumer, key(next), b.aside)
		}
		return err
	})
	if err != nil {
		return false, err
	}
	if !fresh {
		t.log.WithField("batch_id", b.ID).Info("batch was applied before, only to be finished")
	}
	if err := t.finishNoted(ctx, src, b.ID, b.aside); err != nil {
		return false, err
	}
	t.done(b, started)
	return true, nil
}

// look looks once at the target: what is wrong with it shall be told at the
// start, not when the first event comes. The consumer is registered by then, so
// that no event is lost meanwhile.
func (t *target) look(ctx context.Context) error {
	if t.looked {
		return nil
	}
	dst, err := t.targetDB(ctx)
	if err != nil {
		return err
	}
	version, err := pgq.ExtVersion(ctx, dst)
	if err != nil {
		return t.explainTarget(err)
	}
	if strings.HasPrefix(version, "3") {
		t.noAside = fmt.Errorf("the database in dst_db has pgq_ext %s, but 4.0 or newer is needed; update it with: alter extension pgq_ext update", version)
	}
	t.looked = true
	return nil
}

// explainTarget is explain for the target's database.
func (t *target) explainTarget(err error) error {
	if pgq.IsNotInstalled(err) {
		return t.job.Config.within(fmt.Errorf("%w; the database in dst_db needs the extension pgq_ext: run there \"create extension pgq_ext\", or correct dst_db", err))
	}
	return err
}

// LostPositionError tells that source and target of a SerialConsumer do not fit
// together: events would be lost or doubled, so nothing is done.
type LostPositionError struct {
	Queue, Consumer string
	Batch           int64
	PrevTick, Tick  int64 // of the batch that the source gives
	Target          int64 // tick that the target has done
}

func (e *LostPositionError) Error() string {
	return fmt.Sprintf("Lost position: batch %d..%d, dst has %d (queue %q, consumer %q); "+
		"after a restore of the target start once with --rewind, after the queue was made anew with --reset; by hand: "+
		"if the target is right, run on the source: select pgq.register_consumer_at(%[6]s, %[7]s, %[3]d); "+
		"if the source is right, run on the target: select pgq_ext.set_last_tick(%[7]s, %[1]d)",
		e.PrevTick, e.Tick, e.Target, e.Queue, e.Consumer, pgq.QuoteLiteral(pgq.Text(e.Queue)), pgq.QuoteLiteral(pgq.Text(e.Consumer)))
}
