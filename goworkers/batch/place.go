package batch

// What only changes a consumer's place: --register, --unregister, --rewind, --reset.

import (
	"context"
	"fmt"
)

// Place is what is done in the place of running; its zero value is nothing.
type Place string

// The places.
const (
	PlaceRegister   Place = "register"   // register on the queue, to get what comes from now on
	PlaceUnregister Place = "unregister" // take the registration off the queue
	PlaceRewind     Place = "rewind"     // go back on the queue to where the target is
	PlaceReset      Place = "reset"      // make the target forget its place
)

// registrar is a consumer: see Consumer.
type registrar interface {
	Register(ctx context.Context) error
	Unregister(ctx context.Context) (bool, error)
}

// rewinder is a consumer whose target knows its place, too: see SerialConsumer.
type rewinder interface {
	Rewind(ctx context.Context) (*int64, error)
	Reset(ctx context.Context) error
}

// place does it. It leaves the files and the port of a process that runs alone.
func (p Place) place(ctx context.Context, service string, cfg Config, opt Options, start func(job *Job) (Worker, error)) error {
	if _, err := LoadConfig(service, cfg, opt); err != nil {
		return err
	}
	common := *cfg.Common()
	common.LogFile, common.PidFile, common.MetricsListen = "", "", ""
	job, err := NewJob(service, common, opt.Stderr)
	if err != nil {
		return err
	}
	defer job.Close()
	worker, err := start(job)
	if err != nil {
		return err
	}
	consumer, isConsumer := worker.(registrar)
	target, hasTarget := worker.(rewinder)
	switch {
	case !isConsumer:
		return Usagef("--%s: %s is no consumer of a queue", p, service)
	case !hasTarget && (p == PlaceRewind || p == PlaceReset):
		return Usagef("--%s: the place of %s is known to its queue alone", p, service)
	}
	switch p {
	case PlaceRegister:
		return consumer.Register(ctx)
	case PlaceUnregister:
		gone, err := consumer.Unregister(ctx)
		if err == nil && !gone {
			queue := "its queue"
			if c, ok := cfg.(interface{ Source() *ConsumerConfig }); ok {
				queue = fmt.Sprintf("queue %q", c.Source().QueueName)
			}
			return fmt.Errorf("%s: the consumer is not registered on %s", opt.Path, queue)
		}
		if err == nil && hasTarget {
			job.Log.Info("consumer unregistered; the target still knows its place: use --reset before it is registered again")
		}
		return err
	case PlaceRewind:
		tick, err := target.Rewind(ctx)
		if err == nil && tick == nil {
			return fmt.Errorf("%s: the target knows no tick of this consumer, so there is nowhere to go back to", opt.Path)
		}
		if err == nil {
			job.Log.WithField("tick_id", *tick).Info("consumer moved on its queue to where the target is")
		}
		return err
	}
	if err := target.Reset(ctx); err != nil {
		return err
	}
	job.Log.Info("target has forgotten its place")
	return nil
}
