package cli

// pgqadm dlq: the events that consumers have given up.

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"goworkers/batch"
	"goworkers/pgq"
)

// listLimit is how many dead events are shown unless --limit says otherwise.
const listLimit = 100

// deadEvent is the JSON form of a dead event; it is an interface.
type deadEvent struct {
	ID     int64     `json:"event_id"`
	Time   time.Time `json:"time"`
	Retry  int32     `json:"retries"`
	Type   *string   `json:"type"`
	Data   *string   `json:"data"`
	Extra1 *string   `json:"extra1"`
	Extra2 *string   `json:"extra2"`
	Extra3 *string   `json:"extra3"`
	Extra4 *string   `json:"extra4"`
	Reason string    `json:"reason"`
	DiedAt time.Time `json:"died_at"`
}

func adminDeadLetters(ctx context.Context, a *admin) error {
	verb := a.args[0]
	a.args = a.args[1:] // now queue, consumer, events
	misuse := func(usage string) error { return batch.Usagef("usage: pgqadm [options] CONFIG.ini dlq %s", usage) }
	var events []int64
	for _, text := range a.args[min(len(a.args), 2):] {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return batch.Usagef("dlq %s: %q is not the number of an event", verb, text)
		}
		events = append(events, id)
	}
	switch verb {
	case "list":
		if len(a.args) != 2 || a.set["all"] {
			return misuse("list QUEUE CONSUMER [--limit N] [--json]")
		}
		return a.listDead(ctx)
	case "count":
		if len(a.args) == 1 || len(events) > 0 || a.set["all"] {
			return misuse("count [QUEUE CONSUMER] [--json]")
		}
		return a.countDead(ctx)
	case "retry":
		if len(a.args) < 2 || (len(events) > 0) == a.set["all"] {
			return misuse("retry QUEUE CONSUMER EVENT …|--all")
		}
		return a.eachDead(ctx, events, pgq.FailedEventRetry, pgq.FailedEventRetryAll, "will be retried")
	case "delete":
		if len(a.args) < 2 || (len(events) > 0) == a.set["all"] {
			return misuse("delete QUEUE CONSUMER EVENT …|--all")
		}
		return a.eachDead(ctx, events, pgq.FailedEventDelete, pgq.FailedEventDeleteAll, "deleted")
	}
	return batch.Usagef("dlq: unknown command %q; it is one of list, count, retry, delete", verb)
}

func (a *admin) listDead(ctx context.Context) error {
	limit, err := a.number("limit", listLimit, 0)
	if err != nil {
		return err
	}
	total, err := pgq.FailedEventCount(ctx, a.db, a.queue(), a.consumer())
	if err != nil {
		return err
	}
	list, err := pgq.FailedEventList(ctx, a.db, a.queue(), a.consumer(), int(limit), 0)
	if err != nil {
		return err
	}
	if a.json {
		out := []deadEvent{}
		for _, e := range list {
			out = append(out, deadEvent{ID: e.ID, Time: e.Time, Retry: e.Retry,
				Type: textOrNil(e.Type), Data: textOrNil(e.Data), Extra1: textOrNil(e.Extra1), Extra2: textOrNil(e.Extra2),
				Extra3: textOrNil(e.Extra3), Extra4: textOrNil(e.Extra4), Reason: e.Reason, DiedAt: e.DiedAt})
		}
		return a.printJSON(out)
	}
	for _, e := range list {
		fields := []string{fmt.Sprintf("event %d died %s after %d retries: %s", e.ID, e.DiedAt.Format("2006-01-02 15:04:05Z07:00"), e.Retry, e.Reason)}
		for _, f := range []struct {
			name  string
			value pgtype.Text
		}{{"type", e.Type}, {"data", e.Data}, {"extra1", e.Extra1}, {"extra2", e.Extra2}, {"extra3", e.Extra3}, {"extra4", e.Extra4}} {
			if f.value.Valid {
				fields = append(fields, f.name+" = "+f.value.String)
			}
		}
		for i, field := range fields {
			if i > 0 {
				field = "    " + field
			}
			if err := a.say("%s", field); err != nil {
				return err
			}
		}
	}
	switch more := total - int64(len(list)); {
	case total == 0:
		return a.say("consumer %s on queue %s has no dead events", a.consumer(), a.queue())
	case more > 0:
		return a.say("and %d more; show all with --limit 0", more)
	}
	return nil
}

func textOrNil(t pgtype.Text) *string {
	if !t.Valid {
		return nil
	}
	return &t.String
}

func (a *admin) countDead(ctx context.Context) error {
	type counted struct {
		Queue    string `json:"queue_name"`
		Consumer string `json:"consumer_name"`
		Count    int64  `json:"count"`
	}
	list := []counted{}
	if a.consumer() != "" {
		n, err := pgq.FailedEventCount(ctx, a.db, a.queue(), a.consumer())
		if err != nil {
			return err
		}
		list = append(list, counted{a.queue(), a.consumer(), n})
	} else {
		all, err := pgq.CountDeadLetters(ctx, a.db)
		if err != nil {
			return err
		}
		for _, d := range all {
			list = append(list, counted{d.Queue, d.Consumer, d.Count})
		}
	}
	if a.json {
		return a.printJSON(list)
	}
	for _, c := range list {
		if err := a.say("%s %s %d", c.Queue, c.Consumer, c.Count); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return a.say("no consumer has dead events")
	}
	return nil
}

// eachDead does something with the named events, all or none of them, or without
// names with every dead event of the consumer.
func (a *admin) eachDead(ctx context.Context, events []int64,
	one func(ctx context.Context, db pgq.DB, queue, consumer string, event int64) (int64, error),
	all func(ctx context.Context, db pgq.DB, queue, consumer string) (int64, error), done string) error {
	if len(events) == 0 {
		n, err := all(ctx, a.db, a.queue(), a.consumer())
		if err != nil {
			return err
		}
		return a.say("%d event(s) %s", n, done)
	}
	tx, err := a.db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, id := range events {
		n, err := one(ctx, tx, a.queue(), a.consumer(), id)
		switch {
		case pgq.IsEventNotFound(err) || err == nil && n == 0:
			return fmt.Errorf("event %d is not among the dead ones of consumer %q on queue %q, nothing was done; list them with: pgqadm %s dlq list %s %s",
				id, a.consumer(), a.queue(), a.ini, a.queue(), a.consumer())
		case err != nil:
			return err
		}
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return a.say("%d event(s) %s", len(events), done)
}
