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

// QueueMover is the mover, a batch.Worker.
type QueueMover struct {
	*batch.SerialConsumer
	job    *batch.Job
	cfg    QueueMoverConfig
	looked bool // at the target
}

// NewQueueMover makes a mover. Events keep their type, data, extras and time; they
// get new ids in the order they had in their batch. The place is kept as a tick, as
// the SkyTools script keeps it: so a mover that finds its source or its target set
// back in time, by a restore or a failover, stops instead of losing or doubling
// events.
func NewQueueMover(job *batch.Job, cfg QueueMoverConfig) (*QueueMover, error) {
	if cfg.DstQueueName == "" {
		return nil, batch.Usagef("%s: dst_queue_name is empty", job.Service)
	}
	m := &QueueMover{job: job, cfg: cfg}
	var err error
	m.SerialConsumer, err = batch.NewSerialConsumer(job, cfg.RemoteConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
		_, err := pgq.BulkInsert(ctx, tx, cfg.DstQueueName, b.Events())
		return m.explain(err)
	})
	return m, err
}

// Work does one batch, if there is one. The first round looks also whether the queue is there
// that the events go to: somebody shall be told at the start, not when the first one comes.
func (m *QueueMover) Work(ctx context.Context) (more bool, err error) {
	more, err = m.SerialConsumer.Work(ctx)
	if err == nil && !m.looked {
		err = m.look(ctx)
		m.looked = err == nil
	}
	return more, err
}

func (m *QueueMover) look(ctx context.Context) error {
	dst, err := m.job.DB(ctx, "dst_db", m.cfg.DstDB)
	if err != nil {
		return err
	}
	queues, err := pgq.QueueInfo(ctx, dst, m.cfg.DstQueueName)
	if err == nil && len(queues) == 0 {
		return batch.SetupError(fmt.Errorf("%s: there is no queue %q; create it in dst_db with: pgqadm INI create %[2]s", m.job.Config.Key("dst_queue_name"), m.cfg.DstQueueName))
	}
	return m.explain(err)
}

// explain adds to an error of the target what to do.
func (m *QueueMover) explain(err error) error {
	switch {
	case pgq.IsQueueNotFound(err):
		return fmt.Errorf("%w; create the queue in dst_db with: pgqadm INI create %s", err, m.cfg.DstQueueName)
	case pgq.IsNotInstalled(err):
		return fmt.Errorf("%w; the database in dst_db needs the extension pgq", err)
	}
	return err
}
