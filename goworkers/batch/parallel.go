package batch

// Parallel consumers: workers, in one process or many, that share one consumer by
// slots. Events with the same key are in one slot, and a slot is worked on by one
// worker at a time, batch after batch; so each key keeps its order.
//
// A worker tells the server that it is alive while its handler works. One that was
// not heard of for worker_timeout loses its batch: it comes to another worker under a
// new id, so that the late one can finish nothing, and what it did is undone.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"goworkers/pgq"
)

const (
	// touchesPerTimeout is how often a worker is heard of within worker_timeout.
	touchesPerTimeout = 3
	// laneRound is how long workers of one process take new batches before they meet,
	// so that the job can look at its signals, its statistics and its connections.
	laneRound = time.Second
	// lanePoll is how long a worker waits at most that has nothing to do, while another
	// of its process still works.
	lanePoll = time.Second
)

// errTakenOver is why a handler is stopped whose batch another worker has now.
var errTakenOver = errors.New("another worker has taken the batch over, as this one was not heard of for worker_timeout or subconsumer_timeout")

// workerName names a worker for the server and for people.
func workerName(cfg *ConsumerConfig, lane int) string {
	name := cfg.WorkerName
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		name = host + ":" + strconv.Itoa(os.Getpid())
	}
	if cfg.Workers > 1 {
		name += "/" + strconv.Itoa(lane)
	}
	return name
}

// checkParallel finds what does not go together.
func checkParallel(job *Job, cfg *ConsumerConfig) error {
	switch wish := (pgq.Wish{MinLag: cfg.KeepLag, MinCount: cfg.CollectEvents, MinInterval: cfg.CollectInterval}); {
	case cfg.Slots < 0 || cfg.Workers < 0:
		return Usagef("%s: consumer_slots and consumer_workers must not be below 0", job.Service)
	case cfg.Slots == 0 && cfg.Workers > 1:
		return Usagef("%s: consumer_workers = %d needs consumer_slots, the number of parts that the workers share", job.Service, cfg.Workers)
	case cfg.Slots > 0 && cfg.Workers > cfg.Slots:
		return Usagef("%s: consumer_workers = %d: more than consumer_slots = %d cannot have work", job.Service, cfg.Workers, cfg.Slots)
	case cfg.Slots > 0 && wish != (pgq.Wish{}):
		return Usagef("%s: consumer_slots does not go together with pgq_keep_lag and pgq_batch_collect_*", job.Service)
	}
	return nil
}

// alive tells the server while a handler works that its worker is alive, over a
// connection of its own. The context that it returns is cancelled when the batch has
// gone to another worker. stop ends it.
func (s *source) alive(ctx context.Context, b *Batch) (_ context.Context, stop func()) {
	timeout := s.beatTimeout()
	if timeout <= 0 {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var beating sync.WaitGroup
	beating.Go(func() {
		var db interface {
			pgq.DB
			Close(context.Context) error
		}
		defer func() {
			if db != nil {
				ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
				defer cancel()
				db.Close(ctx) // an error here is only that it was closed already
			}
		}()
		ticker := time.NewTicker(timeout / touchesPerTimeout)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if db == nil {
				c, err := Connect(ctx, s.cfg.SrcDB, s.job.Config.JobName)
				if err != nil {
					s.log.WithError(err).Debug("cannot tell that the worker is alive")
					continue
				}
				db = c
			}
			open, err := pgq.TouchBatch(ctx, db, b.ID)
			switch {
			case err != nil:
				if ctx.Err() == nil {
					s.log.WithError(err).Debug("cannot tell that the worker is alive")
				}
				_ = db.Close(ctx) // the next turn opens another
				db = nil
			case !open:
				cancel(errTakenOver)
				return
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		beating.Wait()
	}
}

// beatTimeout is after how long a worker that is not heard of loses its batch; 0 is
// never. The workers of a group on a schema before 4.0 cannot be heard of meanwhile.
func (s *source) beatTimeout() time.Duration {
	switch {
	case s.cfg.Slots > 0:
		return s.cfg.WorkerTimeout
	case s.member != "" && s.modern:
		return s.deadAfter
	}
	return 0
}

// lane is one worker of a process.
type lane interface {
	work(ctx context.Context) (more bool, err error)
	side() *source
}

// lanes are the workers of one process, which take batches side by side.
type lanes struct {
	job  *Job
	list []lane
}

func (l *lanes) add(worker lane) {
	worker.side().lanes = l
	l.list = append(l.list, worker)
}

// hang tells whether a worker is at a batch that has not gone on for so long.
func (l *lanes) hang(limit time.Duration) bool {
	for _, worker := range l.list {
		s := worker.side()
		if s.busy.Load() != 0 && time.Since(time.Unix(0, s.moved.Load())) > limit {
			return true
		}
	}
	return false
}

// progress tells systemd's watchdog that a batch goes on. One worker that hangs keeps
// all others from telling it.
func (s *source) progress() {
	limit := s.job.manager.watchdog()
	if limit == 0 {
		return
	}
	s.moved.Store(time.Now().UnixNano())
	if s.lanes == nil || !s.lanes.hang(limit) {
		s.job.Progress()
	}
}

// work is a round of all workers: it ends when none of them finds a batch, or after a
// while, when all have ended the batch they are at. A worker goes on meanwhile, as long
// as another is at a batch that began in time.
func (l *lanes) work(ctx context.Context) (more bool, err error) {
	// The first registers the consumer, and the others find it.
	if first := l.list[0].side(); !first.registered {
		if _, err := first.ready(ctx); err != nil {
			return false, err
		}
	}
	var did atomic.Bool
	errs := make([]error, len(l.list))
	end := time.Now().Add(laneRound)
	var working sync.WaitGroup
	for i, worker := range l.list {
		working.Go(func() {
			for {
				found, err := worker.work(ctx)
				worker.side().busy.Store(0)
				if errs[i] = err; err != nil {
					return
				}
				if found {
					did.Store(true)
				}
				others := l.busySince(i)
				switch {
				case l.ending(ctx):
					return
				case found && (time.Now().Before(end) || !others.IsZero() && others.Before(end)):
					continue
				case others.IsZero() || !others.Before(end) || l.job.Config.LoopDelay <= 0:
					return
				}
				if !l.pause(ctx) {
					return
				}
			}
		})
	}
	working.Wait()
	return did.Load(), errors.Join(errs...)
}

// busySince is when the oldest batch began that another worker is at; zero when none
// is at any.
func (l *lanes) busySince(self int) (oldest time.Time) {
	for i, worker := range l.list {
		if began := worker.side().busy.Load(); i != self && began != 0 {
			if at := time.Unix(0, began); oldest.IsZero() || at.Before(oldest) {
				oldest = at
			}
		}
	}
	return oldest
}

// ending tells whether the job shall end: then no new batch is taken.
func (l *lanes) ending(ctx context.Context) bool {
	return ctx.Err() != nil || l.job.Signals != nil && isClosed(l.job.Signals.Stop)
}

// pause waits before a worker looks again; it says false when the job shall end.
func (l *lanes) pause(ctx context.Context) bool {
	timer := time.NewTimer(min(l.job.Config.LoopDelay, lanePoll))
	defer timer.Stop()
	var stop <-chan struct{}
	if l.job.Signals != nil {
		stop = l.job.Signals.Stop
	}
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}

// lost is the error of a batch that could not be finished.
func (s *source) lost(b *Batch) error {
	if s.cfg.Slots > 0 || s.member != "" {
		return fmt.Errorf("finish batch %d of consumer %q: %w", b.ID, b.Consumer, errTakenOver)
	}
	return fmt.Errorf("finish batch %d: it is not open any more; is there another process that runs as consumer %q?", b.ID, b.Consumer)
}
