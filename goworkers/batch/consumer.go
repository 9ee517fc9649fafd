package batch

// Consumers of queues: what all of them have in common, and the plain Consumer,
// which works in the queue's own database.

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"goworkers/pgq"
)

// ConsumerConfig holds the keys that every consumer has. Embed it, or
// RemoteConfig, in the config struct of a program that is one.
type ConsumerConfig struct {
	JobConfig
	// SrcDB is the database with the queue. Required.
	SrcDB ConnString `ini:"src_db" required:"true" help:"connection string of the database that has the queue"`
	// QueueName is the queue. Required.
	QueueName string `ini:"queue_name" alias:"pgq_queue_name" required:"true" help:"queue to read"`
	// ConsumerName is the name on the queue, and in pgq_ext on the target: all
	// consumers that share a target must have names of their own. Default:
	// job_name.
	ConsumerName string `ini:"consumer_name" alias:"pgq_consumer_id" help:"name of this consumer on the queue and in the target database; default: job_name"`
	// LazyFetch is how many events of a batch are in memory at a time; 0 takes
	// the whole batch at once. Default: 300.
	LazyFetch int `ini:"pgq_lazy_fetch" default:"300" min:"0" help:"events of a batch to hold in memory at a time; 0: all of them"`
	// LazyBytes is how many bytes the events in memory may have together; one that has
	// more is there alone. It does not hold when LazyFetch is 0. 0 is no limit.
	// Default: 8 MiB.
	LazyBytes Size `ini:"pgq_lazy_bytes" default:"8MiB" help:"bytes of events to hold in memory at a time, with pgq_lazy_fetch above 0; 0: no limit"`
	// TableFilter passes only events of these tables. Default: all events.
	TableFilter []string `ini:"table_filter" help:"read only events with these table names in ev_extra1, comma separated; empty: all"`
	// Filter is an SQL condition that passes only some events. Default: all events.
	Filter string `ini:"consumer_filter" help:"read only events that fit this SQL condition over ev_type, ev_data, ev_extra1 and so on; empty: all"`
	// CollectEvents joins ticks until a batch has about so many events. Default: 0, off.
	CollectEvents int `ini:"pgq_batch_collect_events" min:"0" help:"join ticks until a batch has about so many events; 0: off"`
	// CollectInterval joins ticks until a batch spans about so long. Default: 0, off.
	CollectInterval time.Duration `ini:"pgq_batch_collect_interval" min:"0" help:"join ticks until a batch spans about so many seconds; 0: off"`
	// KeepLag leaves events alone until they are so old. Default: 0, off.
	KeepLag time.Duration `ini:"pgq_keep_lag" min:"0" help:"stay so many seconds behind the present; 0: off"`

	// Slots splits the consumer, so that several workers share it; the events of a
	// key are all in one slot and keep their order. It cannot be changed while the
	// consumer is registered. Default: 0, one worker reads all.
	Slots int `ini:"consumer_slots" min:"0" help:"parts of the consumer that workers, in this process or others, share by the events' keys; 0: not shared"`
	// SlotKey is the event's field that is the key. Default: ev_extra1.
	SlotKey string `ini:"slot_key" default:"ev_extra1" choice:"ev_extra1,ev_extra2,ev_extra3,ev_extra4,ev_type,ev_data" help:"field of the events whose value is the key"`
	// Workers is how many batches this process works on at a time. The handler is
	// called by several goroutines then. Default: 1.
	Workers int `ini:"consumer_workers" default:"1" min:"0" help:"workers in this process, each with its own connections; needs consumer_slots"`
	// WorkerName names the process among those that share the consumer. Default:
	// host:pid.
	WorkerName string `ini:"worker_name" help:"name of this process among those that share the consumer; default: host:pid"`
	// WorkerTimeout is when a worker that is not heard of loses its batch to another.
	// It is heard of as long as its process lives, so a handler that hangs keeps its
	// slot: give what it waits for a deadline. Default: 60 s.
	WorkerTimeout time.Duration `ini:"worker_timeout" default:"60" min:"0" help:"seconds after which a worker that is not heard of loses its batch to another; 0: never"`

	Autocommit     string `ini:"pgq_autocommit" unused:"each batch is one transaction"`
	KeepaliveStats string `ini:"keepalive_stats" unused:"stats_period says when the statistics line is logged"`
}

// Source gives others the part of a consumer's configuration that is about its queue.
func (c *ConsumerConfig) Source() *ConsumerConfig { return c }

// Handler applies the events of one batch through tx. When it returns nil, the
// effects and the position in the queue are kept together; when it returns an
// error, both are undone and the batch comes again after a pause. It must not
// commit or roll back tx itself (tx.Begin makes a savepoint).
type Handler func(ctx context.Context, tx pgx.Tx, batch *Batch) error

// Batch is a batch in the hands of a Handler.
type Batch struct {
	*pgq.Batch

	events   iter.Seq2[*pgq.Event, error]
	progress func()
	read     int   // events given so far
	first    int64 // id of the first of them ...
	last     int64 // ... and of the last
	opened   bool  // Events was called
	fault    error // of reading; the batch cannot be kept then

	noRetry error // why single events cannot be put aside; nil if they can
	noFail  error // why they cannot be given up
	at      int64 // event that was given last
	bad     int   // events that BadEvents has put aside
	aside   []pgq.Aside
	asideAt map[int64]int // where in aside an event is
}

var (
	errReadTwice = errors.New("the events of a batch can be read only once")
	errNotOpen   = errors.New("the batch is not open any more")
	errNotRead   = errors.New("it is none of the events that the batch has given so far")
)

// Events gives the events by id, in small portions from the server; it can be
// read once. After an error nothing more comes, and the batch is undone whatever
// the handler returns. Events left unread count as done.
func (b *Batch) Events() iter.Seq2[*pgq.Event, error] {
	return func(yield func(*pgq.Event, error) bool) {
		if b.opened {
			b.fault = errReadTwice
			yield(nil, b.fault)
			return
		}
		b.opened = true
		for ev, err := range b.events {
			if err != nil {
				b.fault = err
				yield(nil, err)
				return
			}
			if b.read == 0 {
				b.first = ev.ID
			}
			b.read++
			b.at = ev.ID
			b.last = ev.ID
			b.Progress()
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// Progress tells systemd's watchdog that the work on the batch goes on, as each event
// does by itself: it is for a handler that works longer than WatchdogSec without
// reading one.
func (b *Batch) Progress() {
	if b.progress != nil {
		b.progress()
	}
}

// Retry puts the event back into the queue, for this consumer only, to come
// again after a while with Event.Retry counted up. That takes effect together
// with the rest of the batch. The subscription may say more: with a retry_delay the
// event waits at least that long, doubled for each retry it has had, so that after
// may be 0; with max_retries it is dead when it was retried so often.
//
// The event comes with a later batch, so events behind it are done before it, those
// of the same key, too.
//
// A consumer with a target of its own notes the wish there, with the batch's effects,
// and carries it out when it finishes the batch; that needs pgq_ext 4.0.
func (b *Batch) Retry(ev *pgq.Event, after time.Duration) error {
	return b.setAside(pgq.Aside{Event: ev.ID, After: after})
}

// RetryFor is Retry with the reason, which is kept if it was the last retry.
func (b *Batch) RetryFor(ev *pgq.Event, after time.Duration, reason string) error {
	return b.setAside(pgq.Aside{Event: ev.ID, After: after, Reason: reason})
}

// Fail gives the event up: it is dead, and waits with the reason for a person, who
// has it retried or deleted (pgqadm dlq). It needs pgq 4.0. Of several wishes for one
// event the last counts.
func (b *Batch) Fail(ev *pgq.Event, reason string) error {
	return b.setAside(pgq.Aside{Event: ev.ID, Dead: true, Reason: reason})
}

func (b *Batch) setAside(a pgq.Aside) error {
	why := b.noRetry
	if why == nil && a.Dead {
		why = b.noFail
	}
	if why == nil && (b.read == 0 || a.Event < b.first || a.Event > b.last) {
		why = errNotRead
	}
	if why != nil {
		return fmt.Errorf("put event %d of batch %d of queue %q aside: %w", a.Event, b.ID, b.Queue, why)
	}
	if i, found := b.asideAt[a.Event]; found {
		b.aside[i] = a
		return nil
	}
	if b.asideAt == nil {
		b.asideAt = map[int64]int{}
	}
	b.asideAt[a.Event] = len(b.aside)
	b.aside = append(b.aside, a)
	return nil
}

// sendAside tells the server of events that are put aside; those with the same wish
// go together. modern is a schema that takes many at once.
func sendAside(ctx context.Context, tx pgx.Tx, batch int64, aside []pgq.Aside, modern bool) error {
	var order []pgq.Aside
	same := map[pgq.Aside][]int64{}
	for _, a := range aside {
		id := a.Event
		a.Event = 0
		if _, found := same[a]; !found {
			order = append(order, a)
		}
		same[a] = append(same[a], id)
	}
	for _, a := range order {
		if modern && !a.Dead {
			if _, err := pgq.EventRetryMany(ctx, tx, batch, same[a], a.After, a.Reason); err != nil {
				return err
			}
			continue
		}
		for _, id := range same[a] {
			var err error
			if a.Dead {
				_, err = pgq.EventFailed(ctx, tx, batch, id, a.Reason)
			} else {
				_, err = pgq.EventRetry(ctx, tx, batch, id, a.After)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Consumer is a Worker that reads a queue and works in the same database. The
// handler's transaction also finishes the batch, so what it does there happens
// once for each event; what it does elsewhere (a mail, a call of another
// database) happens at least once.
type Consumer struct {
	*source
	handler Handler
	lanes   *lanes // the workers, when there are several
}

// NewConsumer makes a consumer. Its first round registers it on the queue, if
// it is not registered, to get the events from then on.
func NewConsumer(job *Job, cfg ConsumerConfig, handler Handler) (*Consumer, error) {
	s, err := newSource(job, cfg)
	if err != nil {
		return nil, err
	}
	c := &Consumer{source: s, handler: handler}
	if cfg.Workers > 1 {
		c.lanes = &lanes{job: job}
		for n := range cfg.Workers {
			c.lanes.add(&Consumer{source: s.inLane(n), handler: handler})
		}
	}
	return c, nil
}

// Work does one batch, if there is one; with several workers it does many.
func (c *Consumer) Work(ctx context.Context) (more bool, err error) {
	if c.lanes != nil {
		return c.lanes.work(ctx)
	}
	return c.work(ctx)
}

func (c *Consumer) work(ctx context.Context) (more bool, err error) {
	started := time.Now()
	src, next, err := c.next(ctx)
	if next == nil || err != nil {
		return false, err
	}
	b := c.newBatch(next)
	if err := inTx(ctx, src, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if err := c.handle(ctx, tx, tx, b, c.handler); err != nil {
			return err
		}
		if err := sendAside(ctx, tx, b.ID, b.aside, c.modern); err != nil {
			return err
		}
		finished, err := c.finish(ctx, tx, b.ID)
		if err == nil && !finished {
			return c.lost(b)
		}
		return err
	}); err != nil {
		return false, err
	}
	c.done(b, started)
	return true, nil
}

// source is the side of a consumer that faces the queue.
type source struct {
	job     *Job
	cfg     ConsumerConfig
	log     logrus.FieldLogger
	metrics consumerMetrics

	registered bool // asked for once in a process; see next
	// resized is told of the slots that are new when there are others already; nil: nobody.
	resized   func(ctx context.Context, fresh []string) error
	version   string // of the schema
	modern    bool   // it is of 4.0 or newer
	ear       ear
	member    string        // subconsumer_name of a CoopConsumer
	deadAfter time.Duration // its subconsumer_timeout
	worker    string        // its name, where the consumer is shared
	lane      int           // its number among the workers of this process
	busy      atomic.Int64  // when the batch began that it is at, in ns; 0 without one
	moved     atomic.Int64  // when that batch was last seen to go on, in ns
	lanes     *lanes        // all workers of this process, when there are several
}

// side is for those that see only a lane.
func (s *source) side() *source { return s }

// inLane makes the source of one of several workers.
func (s *source) inLane(n int) *source {
	return &source{
		job: s.job, cfg: s.cfg, metrics: s.metrics, ear: s.ear, lane: n,
		worker: workerName(&s.cfg, n),
		log:    s.log.WithField("worker", workerName(&s.cfg, n)),
	}
}

func newSource(job *Job, cfg ConsumerConfig) (*source, error) {
	if cfg.ConsumerName == "" {
		cfg.ConsumerName = job.Config.JobName
	}
	for _, key := range []struct{ name, value string }{
		{"src_db", string(cfg.SrcDB)}, {"queue_name", cfg.QueueName}, {"consumer_name or job_name", cfg.ConsumerName},
	} {
		if key.value == "" {
			return nil, Usagef("%s: %s is empty", job.Service, key.name)
		}
	}
	if cfg.LazyFetch < 0 || cfg.LazyFetch > math.MaxInt32 {
		return nil, Usagef("%s: pgq_lazy_fetch = %d: give a number of events, or 0", job.Service, cfg.LazyFetch)
	}
	if err := checkParallel(job, &cfg); err != nil {
		return nil, err
	}
	return &source{
		job:     job,
		cfg:     cfg,
		worker:  workerName(&cfg, 0),
		log:     job.Log.WithFields(logrus.Fields{"queue": cfg.QueueName, "consumer": cfg.ConsumerName}),
		metrics: newConsumerMetrics(job, cfg),
		ear:     ear{period: listenPeriod},
	}, nil
}

// db connects to the queue's database.
func (s *source) db(ctx context.Context) (*pgx.Conn, error) {
	return s.job.DB(ctx, s.key("src_db"), s.cfg.SrcDB)
}

// key names a connection: each worker of a process has its own.
func (s *source) key(name string) string {
	if s.lane > 0 {
		name += "/" + strconv.Itoa(s.lane)
	}
	return name
}

// Register registers the consumer on the queue, to get what comes from now on.
// One that is registered stays where it is.
func (s *source) Register(ctx context.Context) error {
	src, err := s.db(ctx)
	if err != nil {
		return err
	}
	slots, err := s.slots(ctx, src)
	switch {
	case err != nil:
		return s.explain(err)
	case len(slots) > 0 && s.cfg.Slots == 0:
		return SetupError(fmt.Errorf("%s: consumer %q is split into %d slots on queue %q; set consumer_slots = %[3]d, or give the slots up, with what they have not done: select pgq.unregister_slots(%[5]s, %[6]s)",
			s.job.Config.Key("consumer_slots"), s.cfg.ConsumerName, len(slots), s.cfg.QueueName,
			pgq.QuoteLiteral(pgq.Text(s.cfg.QueueName)), pgq.QuoteLiteral(pgq.Text(s.cfg.ConsumerName))))
	case len(slots) > 0 && s.resized != nil:
		var fresh []string
		for slot := range s.cfg.Slots {
			if name := pgq.SlotName(s.cfg.ConsumerName, slot); !slices.Contains(slots, name) {
				fresh = append(fresh, name)
			}
		}
		if err := s.resized(ctx, fresh); err != nil {
			return err
		}
	}
	if s.cfg.Slots > 0 {
		made, err := pgq.RegisterSlots(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName, s.cfg.Slots, s.cfg.SlotKey)
		if made > 0 {
			s.log.WithField("slots", made).Info("consumer registered")
		}
		return s.explain(err)
	}
	var fresh bool
	if s.member != "" {
		fresh, err = pgq.RegisterSubconsumer(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName, s.member)
	} else {
		fresh, err = pgq.RegisterConsumer(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName)
	}
	if fresh {
		s.log.Info("consumer registered")
	}
	return s.explain(err)
}

// slots are the slots that the consumer is split into on the queue.
func (s *source) slots(ctx context.Context, src *pgx.Conn) (names []string, err error) {
	infos, err := pgq.ConsumerInfo(ctx, src, s.cfg.QueueName, "")
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		number, found := strings.CutPrefix(info.Name, s.cfg.ConsumerName+"#")
		if slot, err := strconv.Atoi(number); found && err == nil && info.Name == pgq.SlotName(s.cfg.ConsumerName, slot) {
			names = append(names, info.Name)
		}
	}
	return names, nil
}

// Unregister takes the consumer off the queue; it says false when it was not
// registered.
func (s *source) Unregister(ctx context.Context) (bool, error) {
	src, err := s.db(ctx)
	if err != nil {
		return false, err
	}
	if s.member != "" {
		gone, err := pgq.UnregisterSubconsumer(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName, s.member, false)
		return gone, s.explain(err)
	}
	unregister := pgq.UnregisterConsumer
	if s.cfg.Slots > 0 {
		unregister = pgq.UnregisterSlots
	}
	gone, err := unregister(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName)
	if err != nil {
		return false, s.explain(err)
	}
	return gone > 0, nil
}

// checkVersion refuses a queue database that is too old to be read.
func (s *source) checkVersion(ctx context.Context, src *pgx.Conn) error {
	version, err := pgq.Version(ctx, src)
	switch {
	case err != nil:
		return s.explain(err)
	case !pgq.Supported(version):
		return fmt.Errorf("%s: the database has pgq %s, but 3.0 or newer is needed; update it with: alter extension pgq update (%w)",
			s.job.Config.Key("src_db"), version, errTooOld)
	}
	s.version, s.modern = version, !strings.HasPrefix(version, "3")
	return nil
}

// next takes the next batch; nil when there is none. The consumer is registered
// by the first round of a process only: one that somebody has unregistered under
// it must not skip what came in between without a word.
func (s *source) next(ctx context.Context) (*pgx.Conn, *pgq.Batch, error) {
	src, err := s.ready(ctx)
	if err != nil {
		return nil, nil, err
	}
	wish := pgq.Wish{MinLag: s.cfg.KeepLag, MinCount: s.cfg.CollectEvents, MinInterval: s.cfg.CollectInterval}
	if s.lane == 0 { // one pair of ears is enough for a process
		if err := s.listen(ctx, src, wish); err != nil {
			return nil, nil, err
		}
	}
	var b *pgq.Batch
	switch {
	case s.cfg.Slots > 0:
		if b, err = pgq.NextSlotBatch(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName, s.worker, s.cfg.WorkerTimeout); b != nil {
			s.moved.Store(time.Now().UnixNano())
			s.busy.Store(time.Now().UnixNano())
		}
	case s.member != "":
		b, err = pgq.CoopNextBatch(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName, s.member, wish, s.deadAfter)
	case wish == (pgq.Wish{}):
		b, err = pgq.NextBatch(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName)
	default:
		b, err = pgq.NextBatchCustom(ctx, src, s.cfg.QueueName, s.cfg.ConsumerName, wish)
	}
	if err != nil {
		return nil, nil, s.explain(err)
	}
	return src, b, nil
}

// ready connects to the queue's database, and registers the consumer at first.
func (s *source) ready(ctx context.Context) (*pgx.Conn, error) {
	src, err := s.db(ctx)
	if err != nil || s.registered {
		return src, err
	}
	if err := s.checkVersion(ctx, src); err != nil {
		return nil, err
	}
	if err := s.Register(ctx); err != nil {
		return nil, err
	}
	if err := s.checkFilter(ctx, src); err != nil {
		return nil, err
	}
	s.registered = true
	return src, nil
}

// newBatch is a batch for a handler.
func (s *source) newBatch(next *pgq.Batch) *Batch {
	b := &Batch{Batch: next}
	if !s.modern {
		b.noFail = fmt.Errorf("the database in src_db has pgq %s, but 4.0 or newer is needed; update it with: alter extension pgq update", s.version)
	}
	return b
}

// handle gives the batch to the handler; its events come through reader.
func (s *source) handle(ctx context.Context, reader, tx pgx.Tx, b *Batch, handler Handler) error {
	portion := pgq.Portion{Events: s.cfg.LazyFetch}
	if s.cfg.LazyFetch > 0 {
		portion.Bytes = int64(s.cfg.LazyBytes)
	}
	ctx, stop := s.alive(ctx, b)
	defer stop()
	b.progress = s.progress
	b.Progress()
	b.events = pgq.BatchEvents(ctx, reader, b.ID, portion, s.where())
	if reader != tx { // the handler has no use for that connection
		b.events = ahead(b.events)
	}
	err := s.call(ctx, tx, b, handler)
	switch {
	case errors.Is(context.Cause(ctx), errTakenOver):
		return s.lost(b)
	case b.fault != nil: // it is the cause, whatever the handler made of it
		return b.fault
	case err != nil:
		return fmt.Errorf("apply batch %d of queue %q: %w", b.ID, b.Queue, err)
	}
	return nil
}

// call calls the handler. Its panic is an error like others: the batch is undone and
// comes again, and the log has the stack.
func (s *source) call(ctx context.Context, tx pgx.Tx, b *Batch, handler Handler) (err error) {
	defer func() {
		if what := recover(); what != nil {
			s.log.WithFields(logrus.Fields{"batch_id": b.ID, "event_id": b.at, "stack": string(debug.Stack())}).Error("handler panicked")
			err = fmt.Errorf("the handler panicked at event %d: %v", b.at, what)
		}
	}()
	return handler(ctx, tx, b)
}

// finish ends a batch at the queue; it says false when the batch is not open any more.
func (s *source) finish(ctx context.Context, db pgq.DB, batch int64) (finished bool, err error) {
	if s.member != "" {
		return pgq.CoopFinishBatch(ctx, db, batch)
	}
	return pgq.FinishBatch(ctx, db, batch)
}

// finishNoted ends a batch that is noted as done elsewhere, and puts those of its
// events aside that are noted to be. It does both or nothing; whoever was faster did
// the same.
func (s *source) finishNoted(ctx context.Context, src *pgx.Conn, batch int64, aside []pgq.Aside) error {
	finished, err := false, error(nil)
	if len(aside) == 0 {
		finished, err = s.finish(ctx, src, batch)
	} else {
		err = inTx(ctx, src, pgx.TxOptions{}, func(tx pgx.Tx) error {
			if err := sendAside(ctx, tx, batch, aside, s.modern); err != nil {
				return err
			}
			if finished, err = s.finish(ctx, tx, batch); err == nil && !finished {
				err = errNotOpen
			}
			return err
		})
	}
	if errors.Is(err, errNotOpen) || pgq.IsBatchNotFound(err) {
		finished, err = false, nil
	}
	if err != nil {
		return s.explain(err)
	}
	if !finished {
		s.log.WithField("batch_id", batch).Warn("batch was finished by somebody else: is there another process with this consumer's or worker's name?")
	}
	return nil
}

// where is the condition on the events that are read.
func (s *source) where() string {
	tables := pgq.FromTables(s.cfg.TableFilter...)
	if s.cfg.Filter == "" {
		return tables
	}
	filter := "(" + s.cfg.Filter + "\n)" // it may end in a comment
	if tables == "" {
		return filter
	}
	return tables + " and " + filter
}

// checkFilter has the server read the condition at the start, not when the first batch
// comes.
func (s *source) checkFilter(ctx context.Context, src *pgx.Conn) error {
	if s.cfg.Filter == "" {
		return nil
	}
	_, err := src.PgConn().Prepare(ctx, "", "select 1 from pgq.event_template where "+s.where(), nil)
	var server *pgconn.PgError
	if errors.As(err, &server) && !IsConnectionLost(err) {
		return SetupError(fmt.Errorf("%s: the server refuses the condition: %w", s.job.Config.Key("consumer_filter"), err))
	}
	return err
}

// done counts a batch that is finished.
func (s *source) done(b *Batch, started time.Time) {
	took := time.Since(started)
	s.job.Stats.Add("count", b.read)
	for _, a := range b.aside {
		if a.Dead {
			s.job.Stats.Add("dead", 1)
		} else {
			s.job.Stats.Add("retry", 1)
		}
	}
	s.job.Stats.AddDuration("duration", took)
	s.metrics.count(b, took)
	s.log.WithFields(logrus.Fields{
		"batch_id": b.ID, "tick_id": b.Tick, "events": b.read, "duration": took,
	}).Debug("batch finished")
}

// explain adds what to do to those errors of the queue's database that the
// operator can mend.
func (s *source) explain(err error) error {
	switch {
	case pgq.IsQueueNotFound(err):
		return s.job.Config.within(fmt.Errorf("%w; create the queue with: pgqadm INI create %s, or correct queue_name", err, s.cfg.QueueName))
	case pgq.IsNotSubscribed(err):
		return fmt.Errorf("%w; somebody has unregistered this consumer: start it again to have it registered at the queue's present end", err)
	case pgq.IsNotInstalled(err) && s.member != "" && s.version != "": // pgq is there
		return s.job.Config.within(fmt.Errorf("%w; the database in src_db needs the extension pgq_coop: run there \"create extension pgq_coop\", or correct src_db", err))
	case pgq.IsNotInstalled(err):
		return s.job.Config.within(fmt.Errorf("%w; the database in src_db needs the extension pgq: run there \"create extension pgq\", or correct src_db", err))
	}
	return err
}

// inTx runs f in a transaction: commits when it returns nil, else rolls back.
func inTx(ctx context.Context, db *pgx.Conn, options pgx.TxOptions, f func(tx pgx.Tx) error) error {
	tx, err := db.BeginTx(ctx, options)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	if err := f(tx); err != nil {
		// The error at hand tells more than one of the rollback, which the
		// server does by itself when the connection is gone.
		_ = tx.Rollback(ctx)
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// consumerMetrics are a consumer's figures for Prometheus.
type consumerMetrics struct {
	events, batches prometheus.Counter
	duration        prometheus.Histogram
	place           *place
}

func newConsumerMetrics(job *Job, cfg ConsumerConfig) consumerMetrics {
	labels := prometheus.Labels{"queue": cfg.QueueName, "consumer": cfg.ConsumerName}
	return consumerMetrics{
		events: register(job.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skytools_consumer_events_total", ConstLabels: labels,
			Help: "Events of finished batches.",
		})),
		batches: register(job.Metrics, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skytools_consumer_batches_total", ConstLabels: labels,
			Help: "Finished batches.",
		})),
		duration: register(job.Metrics, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "skytools_consumer_batch_duration_seconds", ConstLabels: labels,
			Help:    "How long finished batches took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 10), // to 262 s
		})),
		place: register(job.Metrics, &place{
			lastTick: prometheus.NewDesc("skytools_consumer_last_tick_timestamp_seconds",
				"Time, by the server's clock, up to which all events are done. It comes with the first batch.", nil, labels),
			lag: prometheus.NewDesc("skytools_consumer_lag_seconds",
				"Age of that time, by this machine's clock. It comes with the first batch, and grows while there is no tick.", nil, labels),
		}),
	}
}

func (m *consumerMetrics) count(b *Batch, took time.Duration) {
	m.events.Add(float64(b.read))
	m.batches.Inc()
	m.duration.Observe(took.Seconds())
	m.place.at.Store(b.TickTime.UnixMicro())
}

// place is how far a consumer is: nothing is known of it before its first batch.
type place struct {
	at            atomic.Int64 // µs since 1970
	lastTick, lag *prometheus.Desc
}

// Describe names the series.
func (p *place) Describe(to chan<- *prometheus.Desc) {
	to <- p.lastTick
	to <- p.lag
}

// Collect gives them.
func (p *place) Collect(to chan<- prometheus.Metric) {
	at := p.at.Load()
	if at == 0 {
		return
	}
	to <- prometheus.MustNewConstMetric(p.lastTick, prometheus.GaugeValue, float64(at)/1e6)
	to <- prometheus.MustNewConstMetric(p.lag, prometheus.GaugeValue, max(0, time.Since(time.UnixMicro(at)).Seconds()))
}

// register adds a metric, or finds the one of a worker that was there before a
// reload.
func register[T prometheus.Collector](registry *prometheus.Registry, metric T) T {
	var already prometheus.AlreadyRegisteredError
	if err := registry.Register(metric); errors.As(err, &already) {
		return already.ExistingCollector.(T)
	}
	return metric
}
