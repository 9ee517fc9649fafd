package cli

// The command queue_mover.

import (
	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/consumers"
)

func newQueueMover() *cli.Command {
	return consumerJob{
		service: consumers.QueueMoverService,
		usage:   "move events from a queue into a queue of another database",
		description: `Reads queue_name in src_db and inserts its events into dst_queue_name in dst_db,
each just once: the position is kept in dst_db by pgq_ext. It registers itself on
the queue when it starts. When queue and target do not fit together, since one of
them was set back in time, it stops and says so. Several movers may fill one queue; give each a job_name
of its own.

   [queue_mover]
   job_name = eventlog_to_target_mover
   src_db = dbname=oltpdb
   dst_db = dbname=batchdb
   pgq_queue_name = batch_events
   dst_queue_name = batch_events
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   queue_mover -d mover.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.QueueMoverConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewQueueMover(job, *cfg) }
		},
	}.command()
}
