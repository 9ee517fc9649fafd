// The schema pgq_coop: workers, called subconsumers, that share the batches of one
// consumer, without order between batches.

package pgq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const registerSubconsumerSQL = `select pgq_coop.register_subconsumer($1, $2, $3) = 1`

// RegisterSubconsumer lets a worker share the batches of a consumer, which is
// registered, too, if it is not yet. It says false when the worker was registered.
func RegisterSubconsumer(ctx context.Context, db DB, queue, consumer, worker string) (registered bool, err error) {
	err = db.QueryRow(ctx, registerSubconsumerSQL, queue, consumer, worker).Scan(&registered)
	return registered, wrap(err, "register subconsumer %q of consumer %q on queue %q", worker, consumer, queue)
}

const unregisterSubconsumerSQL = `select pgq_coop.unregister_subconsumer($1, $2, $3, $4) = 1`

// UnregisterSubconsumer ends a worker's part in its consumer; it says false when there
// is no such worker. One with an open batch is refused, unless it may be dropped: it
// goes to another worker then. Schemas before 4.0 lose that batch's events instead.
func UnregisterSubconsumer(ctx context.Context, db DB, queue, consumer, worker string, dropBatch bool) (unregistered bool, err error) {
	handling := 0
	if dropBatch {
		handling = 1
	}
	err = db.QueryRow(ctx, unregisterSubconsumerSQL, queue, consumer, worker, handling).Scan(&unregistered)
	return unregistered, wrap(err, "unregister subconsumer %q of consumer %q from queue %q", worker, consumer, queue)
}

const (
	coopNextBatchSQL = `select coalesce(pgq_coop.next_batch_custom($1, $2, $3, $4, $5, $6, $7), 0)`
	batchInfoSQL     = `
		select prev_tick_id, batch_start, seq_start, tick_id, batch_end, seq_end
		  from pgq.get_batch_info($1)
		 where tick_id is not null`
)

// CoopNextBatch gives a worker its open batch or, if it has none, opens the next one
// of the consumer, as the wish says. With dead above 0 it may also be the batch of a
// worker that was not heard of for so long, which loses its registration; but who was
// only slow can still finish the batch, under the same id. A sign of life is a call of
// this or, from 4.0 on, of TouchBatch. It returns nil when there is no batch.
//
// The batch's Consumer is the worker's registration, CONSUMER.WORKER.
func CoopNextBatch(ctx context.Context, db DB, queue, consumer, worker string, wish Wish, dead time.Duration) (*Batch, error) {
	b := &Batch{Queue: queue, Consumer: consumer + "." + worker}
	fail := func(err error) (*Batch, error) {
		return nil, wrap(err, "take the next batch of consumer %q on queue %q for subconsumer %q", consumer, queue, worker)
	}
	var count *int
	if wish.MinCount > 0 {
		count = &wish.MinCount
	}
	err := db.QueryRow(ctx, coopNextBatchSQL, queue, consumer, worker,
		asInterval(wish.MinLag), count, asInterval(wish.MinInterval), asInterval(dead)).Scan(&b.ID)
	if err != nil {
		return fail(err)
	}
	if b.ID == 0 {
		return nil, nil
	}
	// Another statement, since this one does not see what that one has changed.
	err = db.QueryRow(ctx, batchInfoSQL, b.ID).Scan(
		&b.PrevTick, &moment{&b.PrevTickTime}, &b.PrevSeq, &b.Tick, &moment{&b.TickTime}, &b.Seq)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("batch %d is not open any more", b.ID)
	}
	if err != nil {
		return fail(err)
	}
	return b, nil
}

const coopFinishBatchSQL = `select pgq_coop.finish_batch($1) = 1`

// CoopFinishBatch ends a worker's batch. It says false when no worker has it open, as
// when it was finished before.
func CoopFinishBatch(ctx context.Context, db DB, batch int64) (finished bool, err error) {
	err = db.QueryRow(ctx, coopFinishBatchSQL, batch).Scan(&finished)
	return finished, wrap(err, "finish batch %d of a subconsumer", batch)
}
