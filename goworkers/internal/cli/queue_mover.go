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
the queue when it starts. Several movers may fill one queue; give each a job_name
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
		&cli.BoolFlag{Name: "unregister", Usage: "only take the registration off the queue"})
	return command
}

func runQueueMover(c *cli.Context, opt batch.Options) error {
	var cfg consumers.QueueMoverConfig
	if c.Bool("register") || c.Bool("unregister") {
		return registerQueueMover(c, opt, &cfg)
	}
	return batch.RunWorker(c.Context, consumers.QueueMoverService, &cfg, opt, func(job *batch.Job) (batch.Worker, error) {
		return consumers.NewQueueMover(job, cfg)
	})
}

// registerQueueMover leaves the files and the port of a mover that runs alone.
func registerQueueMover(c *cli.Context, opt batch.Options, cfg *consumers.QueueMoverConfig) error {
	if c.Bool("register") && c.Bool("unregister") {
		return batch.Usagef("--register and --unregister exclude each other")
	}
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
	if c.Bool("register") {
		return mover.Register(c.Context)
	}
	gone, err := mover.Unregister(c.Context)
	if err == nil && !gone {
		return fmt.Errorf("%s: the consumer is not registered on queue %q", opt.Path, cfg.QueueName)
	}
	return err
}
