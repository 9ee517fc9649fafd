package consumers

// The simple local consumer: a statement for each event of a row, the place in a file.

import (
	"context"

	"goworkers/batch"
)

// SimpleLocalConsumerService is the simple local consumer's section in the ini file.
const SimpleLocalConsumerService = "simple_local_consumer"

// SimpleLocalConsumerConfig holds the keys of a simple local consumer.
type SimpleLocalConsumerConfig struct {
	batch.LocalConfig
	// DstDB is the database that the statement is run in. Required.
	DstDB batch.ConnString `ini:"dst_db" required:"true" help:"connection string of the database that dst_query runs in"`
	EventQuery
}

// SimpleLocalConsumer is a Worker that does what SimpleConsumer does, but keeps its
// place in a file: so a queue that is set back in time, or another copy of it, is read
// from where this consumer is.
type SimpleLocalConsumer struct {
	*batch.LocalConsumer
	*eventRunner
	dst batch.ConnString
}

// NewSimpleLocalConsumer makes a consumer. Its first round registers it on the queue.
func NewSimpleLocalConsumer(job *batch.Job, cfg SimpleLocalConsumerConfig) (*SimpleLocalConsumer, error) {
	if cfg.DstDB == "" {
		return nil, batch.Usagef("%s: dst_db is empty", job.Service)
	}
	runner, err := newEventRunner(job, cfg.EventQuery)
	if err != nil {
		return nil, err
	}
	s := &SimpleLocalConsumer{eventRunner: runner, dst: cfg.DstDB}
	s.LocalConsumer, err = batch.NewLocalConsumer(job, cfg.LocalConfig, runner.oneByOne(cfg.DstDB))
	return s, err
}

// Work does one batch, if there is one.
func (s *SimpleLocalConsumer) Work(ctx context.Context) (more bool, err error) {
	return s.work(ctx, s.LocalConsumer, s.dst)
}
