package shell

// Commands for consumers, subconsumers and batches.

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/pgq"
)

func showConsumer(ctx context.Context, s *Session, a *arguments) error {
	queue := a.options["on"]
	if queue == "" {
		queue = s.queue
	}
	t, err := s.table(ctx, showConsumersSQL, orNull(queue), orNull(a.arg))
	switch {
	case err != nil:
		return err
	case len(t.rows) == 0 && orNull(a.arg) != nil:
		return fmt.Errorf("consumer %q is not registered", a.arg)
	}
	return t.print(s.cfg.Out)
}

func registerConsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["on"])
	if err != nil {
		return err
	}
	at, atGiven := a.options["at"]
	from, fromGiven := a.options["copy"]
	slots, slotsGiven := a.options["slots"]
	switch {
	case atGiven && fromGiven, slotsGiven && (atGiven || fromGiven):
		return errors.New("at, copy and slots exclude each other")
	case a.options["key"] != "" && !slotsGiven:
		return errors.New("key is for slots: events with the same key go to the same slot")
	case slotsGiven:
		n, err := strconv.Atoi(slots)
		if err != nil {
			return fmt.Errorf("slots %q is not a number", slots)
		}
		if _, err = pgq.RegisterSlots(ctx, s.db, queue, a.arg, n, a.options["key"]); err != nil {
			return err
		}
		return s.say("REGISTER")
	case fromGiven:
		there, err := pgq.ConsumerInfo(ctx, s.db, queue, from)
		switch {
		case err != nil:
			return err
		case len(there) == 0 || there[0].LastTick == nil:
			return fmt.Errorf("consumer %q on queue %q has no position to copy", from, queue)
		}
		at, atGiven = strconv.FormatInt(*there[0].LastTick, 10), true
	}
	if atGiven {
		tick, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return fmt.Errorf("tick %q is not a number", at)
		}
		if _, err = pgq.RegisterConsumerAt(ctx, s.db, queue, a.arg, tick); err != nil {
			return err
		}
		return s.say("REGISTER")
	}
	if _, err := pgq.RegisterConsumer(ctx, s.db, queue, a.arg); err != nil {
		return err
	}
	return s.say("REGISTER")
}

func unregisterConsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["from"])
	if err != nil {
		return err
	}
	names := []string{a.arg}
	if a.arg == "*" {
		all, err := pgq.ConsumerInfo(ctx, s.db, queue, "")
		if err != nil {
			return err
		}
		names = nil
		for _, c := range all {
			names = append(names, c.Name)
		}
	}
	return s.atomically(ctx, "UNREGISTER", func() error {
		for _, name := range names {
			gone, err := pgq.UnregisterConsumer(ctx, s.db, queue, name)
			switch {
			case err != nil:
				return err
			case gone == 0 && a.arg != "*": // one of a group went with another
				return fmt.Errorf("consumer %q is not registered on queue %q", name, queue)
			}
		}
		return nil
	})
}

// consumerSettings are names of parameters.
var consumerSettings = []string{"paused", "max_retries", "retry_delay", "retry_max_delay"}

func alterConsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["on"])
	if err != nil {
		return err
	}
	return s.atomically(ctx, "ALTER", func() error {
		for _, p := range a.set {
			value := &p.value
			if p.value == unset {
				value = nil
			}
			if err := pgq.SetConsumerConfig(ctx, s.db, queue, a.arg, p.name, value); err != nil {
				return err
			}
		}
		return nil
	})
}

func pauseConsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["on"])
	if err != nil {
		return err
	}
	if _, err := pgq.PauseConsumer(ctx, s.db, queue, a.arg); err != nil {
		return err
	}
	return s.say("PAUSE")
}

func resumeConsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["on"])
	if err != nil {
		return err
	}
	if _, err := pgq.ResumeConsumer(ctx, s.db, queue, a.arg); err != nil {
		return err
	}
	return s.say("RESUME")
}

const timeSQL = `select $1::timestamptz`

func seekConsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["on"])
	if err != nil {
		return err
	}
	var at time.Time
	if err := s.db.QueryRow(ctx, timeSQL, a.options["to"]).Scan(&at); err != nil {
		return err
	}
	if _, err := pgq.SeekConsumer(ctx, s.db, queue, a.arg, at); err != nil {
		return err
	}
	return s.say("SEEK")
}

const (
	registerSubconsumerSQL   = `select pgq_coop.register_subconsumer($1, $2, $3)`
	unregisterSubconsumerSQL = `select pgq_coop.unregister_subconsumer($1, $2, $3, $4)`
	subconsumersSQL          = `
		select pg_catalog.substr(c.co_name, pg_catalog.length($2) + 2)
		  from pgq.queue q
		  join pgq.subscription s on s.sub_queue = q.queue_id
		  join pgq.consumer c on c.co_id = s.sub_consumer
		 where q.queue_name = $1 and pg_catalog.starts_with(c.co_name, $2 || '.')
		   and c.co_name !~ '\.\(batch \d+\)$' -- a batch that a worker has left to the others
		 order by 1`
)

func registerSubconsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["on"])
	if err != nil {
		return err
	}
	if _, err := s.db.Exec(ctx, registerSubconsumerSQL, queue, a.options["for"], a.arg); err != nil {
		return err
	}
	return s.say("REGISTER")
}

func unregisterSubconsumer(ctx context.Context, s *Session, a *arguments) error {
	queue, err := s.which(a.options["from"])
	if err != nil {
		return err
	}
	names, main := []string{a.arg}, a.options["for"]
	if a.arg == "*" {
		rows, err := s.db.Query(ctx, subconsumersSQL, queue, main)
		if err != nil {
			return err
		}
		if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
	}
	handling := 0
	if a.flags["close"] {
		handling = 1
	}
	return s.atomically(ctx, "UNREGISTER", func() error {
		for _, name := range names {
			var gone int
			if err := s.db.QueryRow(ctx, unregisterSubconsumerSQL, queue, main, name, handling).Scan(&gone); err != nil {
				return err
			}
			if gone == 0 {
				return fmt.Errorf("subconsumer %q of consumer %q is not registered on queue %q", name, main, queue)
			}
		}
		return nil
	})
}

const (
	batchInfoSQL   = `select * from pgq.get_batch_info($1::bigint) where queue_name is not null`
	batchEventsSQL = `select * from pgq.get_batch_cursor($1::bigint, 'shell_batch', $2::integer)`
	batchShown     = 20 // events
)

// showBatch shows an open batch, named by its number or by the consumer that has it.
func showBatch(ctx context.Context, s *Session, a *arguments) error {
	id, err := strconv.ParseInt(a.arg, 10, 64)
	if err != nil {
		queue, err := s.which(a.options["on"])
		if err != nil {
			return err
		}
		list, err := pgq.ConsumerInfo(ctx, s.db, queue, a.arg)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return fmt.Errorf("consumer %q is not registered on queue %q", a.arg, queue)
		case list[0].CurrentBatch == nil:
			return fmt.Errorf("consumer %q on queue %q has no open batch", a.arg, queue)
		}
		id = *list[0].CurrentBatch
	}
	return s.atomically(ctx, "", func() error {
		info, err := s.table(ctx, batchInfoSQL, id)
		switch {
		case err != nil:
			return err
		case len(info.rows) == 0:
			return fmt.Errorf("batch %d is not open", id)
		}
		events, err := s.table(ctx, batchEventsSQL, id, batchShown+1)
		if err != nil {
			return err
		}
		if _, err := s.db.Exec(ctx, `close shell_batch`); err != nil {
			return err
		}
		if err := info.print(s.cfg.Out); err != nil {
			return err
		}
		more := len(events.rows) > batchShown
		events.rows = events.rows[:min(len(events.rows), batchShown)]
		if err := events.print(s.cfg.Out); err != nil {
			return err
		}
		if more {
			return s.say("The batch has more events: select * from pgq.get_batch_events(%s);", strconv.FormatInt(id, 10))
		}
		return nil
	})
}
