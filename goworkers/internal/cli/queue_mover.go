package cli

// The command queue_mover.

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"goworkers/batch"
	"goworkers/internal/consumers"
)

func newQueueMover() *cli.Command {
	command := workerCommand(consumers.QueueMoverService,
		"move events from a queue into a queue of another database",
		`Reads queue_name in src_db and inserts its events into dst_queue_name in dst_db,
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

   queue_mover -d mover.ini`, runQueueMover)
	command.Flags = append(command.Flags,
		&cli.BoolFlag{Name: "register", Usage: "only register on the queue, to get what comes from now on"},
		&cli.BoolFlag{Name: "unregister", Usage: "only take the registration off the queue"},
		&cli.BoolFlag{Name: "rewind", Usage: "only go back on the queue to where the target is, after the target was restored"},
		&cli.BoolFlag{Name: "reset", Usage: "only make the target forget its place, after the queue was made anew"})
	return command
}

func runQueueMover(c *cli.Context, opt batch.Options) error {
	var cfg consumers.QueueMoverConfig
	var once []string
	for _, name := range []string{"register", "unregister", "rewind", "reset"} {
		if c.Bool(name) {
			once = append(once, name)
		}
	}
	switch len(once) {
	case 0:
		return batch.RunWorker(c.Context, consumers.QueueMoverService, &cfg, opt, func(job *batch.Job) (batch.Worker, error) {
			return consumers.NewQueueMover(job, cfg)
		})
	case 1:
		return placeQueueMover(c, opt, &cfg, once[0])
	}
	return batch.Usagef("--%s and --%s exclude each other", once[0], once[1])
}

// placeQueueMover does what only changes the mover's place. It leaves the files and
// the port of a mover that runs alone.
func placeQueueMover(c *cli.Context, opt batch.Options, cfg *consumers.QueueMoverConfig, what string) error {
	if _, err := batch.LoadConfig(consumers.QueueMoverService, cfg, opt); err != nil {
		return err
	}
	common := cfg.JobConfig
	common.LogFile, common.PidFile, common.MetricsListen = "", "", ""
	job, err := batch.NewJob(consumers.QueueMoverService, common, opt.Stderr)
	if err != nil {
		return err
	}
	defer job.Close()
	mover, err := consumers.NewQueueMover(job, *cfg)
	if err != nil {
		return err
	}
	switch what {
	case "register":
		return mover.Register(c.Context)
	case "unregister":
		gone, err := mover.Unregister(c.Context)
		if err == nil && !gone {
			return fmt.Errorf("%s: the consumer is not registered on queue %q", opt.Path, cfg.QueueName)
		}
		return err
	case "rewind":
		tick, err := mover.Rewind(c.Context)
		if err == nil && tick == nil {
			return fmt.Errorf("%s: the target knows no tick of this consumer, so there is nowhere to go back to", opt.Path)
		}
		if err == nil {
			job.Log.WithField("tick_id", *tick).Info("consumer moved on its queue to where the target is")
		}
		return err
	}
	if err := mover.Reset(c.Context); err != nil {
		return err
	}
	job.Log.Info("target has forgotten its place")
	return nil
}
