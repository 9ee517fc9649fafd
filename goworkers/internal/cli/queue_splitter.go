package cli

// The command queue_splitter.

import (
	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/consumers"
)

func newQueueSplitter() *cli.Command {
	return consumerJob{
		service: consumers.QueueSplitterService,
		usage:   "move events from a queue into several queues of another database",
		description: `Reads queue_name in src_db and inserts each event into the queue of dst_db that
its field queue_field names, each just once, as queue_mover does for one queue. So
a database has one queue and one job to look after, however many consumers there
are elsewhere. The queues in dst_db have to be there: an event that names none, or
one that does not exist, stops the job, unless on_bad_event says otherwise.

   [queue_splitter]
   job_name = events_to_queues
   src_db = dbname=oltpdb
   dst_db = dbname=queuedb
   pgq_queue_name = all_events
   queue_field = ev_extra1
   logfile = ~/log/%(job_name)s.log
   pidfile = ~/pid/%(job_name)s.pid

   queue_splitter -d splitter.ini`,
		rewinds: true,
		start: func() (batch.Config, func(job *batch.Job) (batch.Worker, error)) {
			cfg := new(consumers.QueueSplitterConfig)
			return cfg, func(job *batch.Job) (batch.Worker, error) { return consumers.NewQueueSplitter(job, *cfg) }
		},
	}.command()
}
