package batch

// The consumer that shares its batches with others.

import (
	"time"
)

// CoopConfig holds the keys of one of several workers that share a consumer.
type CoopConfig struct {
	ConsumerConfig
	// SubconsumerName names this worker; each has another. Required.
	SubconsumerName string `ini:"subconsumer_name" required:"true" help:"name of this worker among those that share the consumer's batches"`
	// SubconsumerTimeout is when a worker that is not heard of loses its batch to another.
	// It is heard of as long as its process lives; with pgq before 4.0, only when it takes
	// a batch, so that it has to be longer than a batch takes. Default: 0, never.
	SubconsumerTimeout time.Duration `ini:"subconsumer_timeout" min:"0" help:"seconds after which a worker that is not heard of loses its batch to another; 0: never"`
}

// CoopConsumer is a Consumer that shares its batches with others of the same
// consumer_name: each batch goes to one of them, which is called a subconsumer. There
// is no order between batches. It needs the extension pgq_coop, and runs with that of
// SkyTools 3, too. Where events of a key have to keep their order, take a Consumer with
// consumer_slots instead.
//
// When a worker dies, its batch goes to another after subconsumer_timeout; without that,
// to the one that is started under the same name. One that was only slow may lose its
// batch while it works; then only the first of the two keeps its effects.
type CoopConsumer struct {
	*Consumer
}

// NewCoopConsumer makes a consumer. Its first round registers it on the queue, and the
// consumer it belongs to, if they are not registered.
func NewCoopConsumer(job *Job, cfg CoopConfig, handler Handler) (*CoopConsumer, error) {
	switch {
	case cfg.SubconsumerName == "":
		return nil, Usagef("%s: subconsumer_name is empty", job.Service)
	case cfg.Slots > 0 || cfg.Workers > 1:
		return nil, Usagef("%s: consumer_slots and consumer_workers do not go together with subconsumer_name", job.Service)
	}
	c, err := NewConsumer(job, cfg.ConsumerConfig, handler)
	if err != nil {
		return nil, err
	}
	c.member, c.deadAfter = cfg.SubconsumerName, cfg.SubconsumerTimeout
	c.log = c.log.WithField("subconsumer", c.member)
	return &CoopConsumer{c}, nil
}
