package consumers

// The queue splitter: a field of each event names the queue of another database that
// it goes to.

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/batch"
	"goworkers/pgq"
)

// QueueSplitterService is the splitter's section in the ini file.
const QueueSplitterService = "queue_splitter"

// QueueSplitterConfig holds the keys of a queue splitter.
type QueueSplitterConfig struct {
	batch.RemoteConfig
	// QueueField is the event's field that names the queue. Default: ev_extra1.
	QueueField string `ini:"queue_field" default:"ev_extra1" choice:"ev_type,ev_data,ev_extra1,ev_extra2,ev_extra3,ev_extra4,type,data,extra1,extra2,extra3,extra4" help:"field of the events that names the queue in dst_db which an event goes to"`
	batch.BadEvents
}

// QueueSplitter is a Worker that gives the events of one queue to many. They keep their
// type, data, extras and time, and in each queue their order; they get new ids. The
// place is kept as a tick, as by a mover.
type QueueSplitter struct {
	*batch.SerialConsumer
	job  *batch.Job
	cfg  QueueSplitterConfig
	name func(*pgq.Event) pgtype.Text
}

// NewQueueSplitter makes a splitter. Its first round registers it on the queue.
func NewQueueSplitter(job *batch.Job, cfg QueueSplitterConfig) (*QueueSplitter, error) {
	s := &QueueSplitter{job: job, cfg: cfg}
	switch strings.TrimPrefix(cfg.QueueField, "ev_") {
	case "type":
		s.name = func(ev *pgq.Event) pgtype.Text { return ev.Type }
	case "data":
		s.name = func(ev *pgq.Event) pgtype.Text { return ev.Data }
	case "extra1":
		s.name = func(ev *pgq.Event) pgtype.Text { return ev.Extra1 }
	case "extra2":
		s.name = func(ev *pgq.Event) pgtype.Text { return ev.Extra2 }
	case "extra3":
		s.name = func(ev *pgq.Event) pgtype.Text { return ev.Extra3 }
	case "extra4":
		s.name = func(ev *pgq.Event) pgtype.Text { return ev.Extra4 }
	default:
		return nil, batch.Usagef("%s: %q is no field of an event; write ev_extra1 or the like", job.Config.Key("queue_field"), cfg.QueueField)
	}
	var err error
	s.SerialConsumer, err = batch.NewSerialConsumer(job, cfg.RemoteConfig, s.split)
	return s, err
}

const (
	// splitEvents and splitBytes are how much is sorted by queues at a time: each
	// portion is one COPY for each of its queues.
	splitEvents = 10_000
	splitBytes  = 4 << 20
)

// portion holds events by the queues they go to.
type portion struct {
	queues []string // in the order in which they came up
	events map[string][]*pgq.Event
	count  int
	bytes  int
}

func (p *portion) add(queue string, ev *pgq.Event) {
	if p.events == nil {
		p.events = map[string][]*pgq.Event{}
	}
	if _, found := p.events[queue]; !found {
		p.queues = append(p.queues, queue)
	}
	p.events[queue] = append(p.events[queue], ev)
	p.count++
	p.bytes += sizeOf(ev)
}

func sizeOf(ev *pgq.Event) int {
	return len(ev.Type.String) + len(ev.Data.String) +
		len(ev.Extra1.String) + len(ev.Extra2.String) + len(ev.Extra3.String) + len(ev.Extra4.String)
}

func (s *QueueSplitter) split(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
	var p portion
	for ev, err := range b.Events() {
		if err != nil {
			return err
		}
		queue := s.name(ev)
		if queue.String == "" {
			why := fmt.Errorf("%s names no queue to go to: it is empty", s.cfg.QueueField)
			if !queue.Valid {
				why = fmt.Errorf("%s names no queue to go to: it is NULL", s.cfg.QueueField)
			}
			if err := s.cfg.PutAside(s.job, b, ev, why); err != nil {
				return err
			}
			continue
		}
		p.add(queue.String, ev)
		if p.count >= splitEvents || p.bytes >= splitBytes {
			if err := s.insert(ctx, tx, b, &p); err != nil {
				return err
			}
			p = portion{}
		}
	}
	return s.insert(ctx, tx, b, &p)
}

// insert puts the events of a portion into their queues.
func (s *QueueSplitter) insert(ctx context.Context, tx pgx.Tx, b *batch.Batch, p *portion) error {
	for _, queue := range p.queues {
		events := p.events[queue]
		err := s.insertInto(ctx, tx, queue, events)
		switch {
		case err == nil:
		case pgq.IsQueueNotFound(err):
			err = fmt.Errorf("%s names a queue that dst_db does not have: %w; create it there with: pgqadm INI create %s", s.cfg.QueueField, err, queue)
			for _, ev := range events {
				if err := s.cfg.PutAside(s.job, b, ev, err); err != nil {
					return err
				}
			}
		case pgq.IsNotInstalled(err):
			return fmt.Errorf("%w; the database in dst_db needs the extension pgq", err)
		default:
			return err
		}
	}
	return nil
}

// insertInto inserts events into a queue. When bad events are put aside, the
// transaction is as before after an error.
func (s *QueueSplitter) insertInto(ctx context.Context, tx pgx.Tx, queue string, events []*pgq.Event) error {
	if s.cfg.Stops() {
		_, err := pgq.BulkInsert(ctx, tx, queue, each(events))
		return err
	}
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := pgq.BulkInsert(ctx, savepoint, queue, each(events)); err != nil {
		if undone := savepoint.Rollback(ctx); undone != nil {
			return undone
		}
		return err
	}
	return savepoint.Commit(ctx)
}

// each gives events as BulkInsert takes them.
func each(events []*pgq.Event) iter.Seq2[*pgq.Event, error] {
	return func(yield func(*pgq.Event, error) bool) {
		for _, ev := range events {
			if !yield(ev, nil) {
				return
			}
		}
	}
}
