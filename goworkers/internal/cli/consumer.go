package cli

// What the commands of all consumers have in common: besides running, they can do
// what only changes the consumer's place.

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"goworkers/batch"
)

// consumerJob is a consumer as a command.
type consumerJob struct {
	service, usage, description string
	// rewinds says that its workers are rewinders.
	rewinds bool
	// start gives an empty configuration, and what makes the worker from it when it
	// is filled. The worker is a registrar.
	start func() (consumerConfig, func(job *batch.Job) (batch.Worker, error))
}

type consumerConfig interface {
	batch.Config
	Source() *batch.ConsumerConfig
}

// registrar is what every consumer is: see batch.Consumer.
type registrar interface {
	Register(ctx context.Context) error
	Unregister(ctx context.Context) (bool, error)
}

// rewinder is a consumer whose target knows its place, too: see batch.SerialConsumer.
type rewinder interface {
	Rewind(ctx context.Context) (*int64, error)
	Reset(ctx context.Context) error
}

func (j consumerJob) command() *cli.Command {
	command := workerCommand(j.service, j.usage, j.description, j.run)
	command.Flags = append(command.Flags,
		&cli.BoolFlag{Name: "register", Usage: "only register on the queue, to get what comes from now on"},
		&cli.BoolFlag{Name: "unregister", Usage: "only take the registration off the queue"})
	if j.rewinds {
		command.Flags = append(command.Flags,
			&cli.BoolFlag{Name: "rewind", Usage: "only go back on the queue to where the target is, after the target was restored"},
			&cli.BoolFlag{Name: "reset", Usage: "only make the target forget its place, after the queue was made anew"})
	}
	return command
}

func (j consumerJob) run(c *cli.Context, opt batch.Options) error {
	var once []string
	for _, name := range []string{"register", "unregister", "rewind", "reset"} {
		if c.Bool(name) {
			once = append(once, name)
		}
	}
	cfg, newWorker := j.start()
	switch len(once) {
	case 0:
		return batch.RunWorker(c.Context, j.service, cfg, opt, newWorker)
	case 1:
		return j.place(c.Context, opt, cfg, newWorker, once[0])
	}
	return batch.Usagef("--%s and --%s exclude each other", once[0], once[1])
}

// place does what only changes the consumer's place. It leaves the files and the port
// of one that runs alone.
func (j consumerJob) place(ctx context.Context, opt batch.Options, cfg consumerConfig, newWorker func(job *batch.Job) (batch.Worker, error), what string) error {
	if _, err := batch.LoadConfig(j.service, cfg, opt); err != nil {
		return err
	}
	common := *cfg.Common()
	common.LogFile, common.PidFile, common.MetricsListen = "", "", ""
	job, err := batch.NewJob(j.service, common, opt.Stderr)
	if err != nil {
		return err
	}
	defer job.Close()
	worker, err := newWorker(job)
	if err != nil {
		return err
	}
	switch what {
	case "register":
		return worker.(registrar).Register(ctx)
	case "unregister":
		gone, err := worker.(registrar).Unregister(ctx)
		if err == nil && !gone {
			return fmt.Errorf("%s: the consumer is not registered on queue %q", opt.Path, cfg.Source().QueueName)
		}
		return err
	case "rewind":
		tick, err := worker.(rewinder).Rewind(ctx)
		if err == nil && tick == nil {
			return fmt.Errorf("%s: the target knows no tick of this consumer, so there is nowhere to go back to", opt.Path)
		}
		if err == nil {
			job.Log.WithField("tick_id", *tick).Info("consumer moved on its queue to where the target is")
		}
		return err
	}
	if err := worker.(rewinder).Reset(ctx); err != nil {
		return err
	}
	job.Log.Info("target has forgotten its place")
	return nil
}
