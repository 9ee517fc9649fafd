package consumers

// The queue mover: events of one queue go into another queue in another database.
// Several movers may fill one queue, as for the partitions of a cluster.

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

// QueueMoverService is the mover's section in the ini file.
const QueueMoverService = "queue_mover"

// QueueMoverConfig holds the keys of a queue mover.
type QueueMoverConfig struct {
	batch.RemoteConfig
	// DstQueueName is the queue in dst_db that the events go to. Required.
	DstQueueName string `ini:"dst_queue_name" required:"true" help:"queue in dst_db that the events go to; several movers may fill one"`
}

// NewQueueMover makes a mover. Events keep their type, data, extras and time; they
// get new ids in the order they had in their batch. The place is kept as a tick, as
// the SkyTools script keeps it: so a mover that finds its source or its target set
// back in time, by a restore or a failover, stops instead of losing or doubling
// events.
func NewQueueMover(job *batch.Job, cfg QueueMoverConfig) (*batch.SerialConsumer, error) {
	if cfg.DstQueueName == "" {
		return nil, batch.Usagef("%s: dst_queue_name is empty", job.Service)
	}
	return batch.NewSerialConsumer(job, cfg.RemoteConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
		_, err := pgq.BulkInsert(ctx, tx, cfg.DstQueueName, b.Events())
		switch {
		case pgq.IsQueueNotFound(err):
			return fmt.Errorf("%w; create the queue in dst_db with: pgqadm INI create %s", err, cfg.DstQueueName)
		case pgq.IsNotInstalled(err):
			return fmt.Errorf("%w; the database in dst_db needs the extension pgq", err)
		}
		return err
	})
}
