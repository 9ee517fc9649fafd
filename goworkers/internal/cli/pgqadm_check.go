package cli

// pgqadm check and blockers: what wants a person.

import (
	"context"
	"fmt"
	"time"

	"goworkers/pgq"
)

// problem is one thing that check found; its JSON form is an interface.
type problem struct {
	Kind     string `json:"kind"`
	Queue    string `json:"queue_name"`
	Consumer string `json:"consumer_name,omitempty"`
	What     string `json:"problem"`
	Advice   string `json:"advice"`
}

const (
	// tickerGrace is how late a tick may be, in seconds, before somebody is told.
	tickerGrace = 30.0
	// rotationGrace is how long a rotation may be due: maintenance, which does it,
	// runs every few minutes, and needs transactions to end meanwhile.
	rotationGrace = 10 * time.Minute
)

// lagLimit is how far a consumer may be behind: --lag, else the key check_lag.
func (a *admin) lagLimit() (time.Duration, error) {
	limit, err := a.number("lag", int64(a.checkLag.Seconds()), 1)
	return time.Duration(limit) * time.Second, err
}

// problems names what wants a person in a status: queues that get no ticks or take no
// events, consumers that stand still, and those that lag: by more than the limit, or so
// far that they hold up the rotation of their queue's tables, which grow without limit
// then. What a missing tick explains is not the consumer's.
func (s *status) problems(ini string, lagLimit time.Duration) []problem {
	found := []problem{}
	for _, q := range s.Queues {
		add := func(kind, consumer, what, advice string) {
			found = append(found, problem{Kind: kind, Queue: q.Name, Consumer: consumer, What: what, Advice: advice})
		}
		late := q.IdlePeriod
		if q.New != nil && *q.New > 0 {
			late = q.MaxLag
		}
		switch {
		case q.Paused:
			add("ticker_paused", "", "the ticker is paused", fmt.Sprintf("resume with: pgqadm %s config %s ticker_paused=false", ini, q.Name))
		case q.External:
		case q.TickerLag == nil:
			add("ticker_stalled", "", "has no tick", fmt.Sprintf("start the ticker: pgqadm -d %s ticker", ini))
		case *q.TickerLag > late+tickerGrace:
			add("ticker_stalled", "", fmt.Sprintf("the last tick is %s old", whole(q.TickerLag)),
				fmt.Sprintf("is the ticker running? start it with: pgqadm -d %s ticker, or read its log", ini))
		}
		if q.InsertDisabled {
			add("insert_disabled", "", "inserts are disabled", fmt.Sprintf("allow them with: pgqadm %s config %s disable_insert=false", ini, q.Name))
		}
		for _, c := range q.Consumers {
			if c.Paused {
				add("consumer_paused", c.Name, "is paused", fmt.Sprintf("resume with: pgqadm %s resume %s %s", ini, q.Name, c.Name))
			}
			switch {
			case c.Lag == nil:
			case *c.Lag > q.RotationPeriod:
				add("consumer_lag", c.Name, fmt.Sprintf("lags by %s and holds up the rotation (every %s)", whole(c.Lag), whole(&q.RotationPeriod)),
					fmt.Sprintf("start it, or remove it with: pgqadm %s unregister %s %s", ini, q.Name, c.Name))
			case c.Paused || c.LastTick == nil || q.LastTick == nil || *c.LastTick == *q.LastTick:
			case *c.Lag > lagLimit.Seconds():
				add("consumer_lag", c.Name, fmt.Sprintf("lags by %s, of which %s are allowed (check_lag)", whole(c.Lag), lagLimit),
					"is it running, and is it fast enough? read its log")
			}
		}
	}
	return found
}

// blocked adds what else holds up rotations that have been due for a while.
func blocked(found []problem, blockers []pgq.Blocker, now time.Time, ini string) []problem {
	told := map[string]bool{}
	for _, p := range found {
		if p.Kind == "consumer_lag" {
			told[p.Queue+"\x00"+p.Consumer] = true
		}
	}
	for _, b := range blockers {
		if b.Kind == "retention" { // as it was asked for
			continue
		}
		if b.DueSince == nil || now.Sub(*b.DueSince) < rotationGrace || b.Kind == "consumer" && told[b.Queue+"\x00"+b.Name] {
			continue
		}
		p := problem{Kind: "rotation_blocked", Queue: b.Queue,
			What: fmt.Sprintf("the rotation is due since %s, held up by %s", timeText(b.DueSince), describeBlocker(b))}
		switch b.Kind {
		case "consumer":
			p.Consumer = b.Name
			p.What = fmt.Sprintf("holds up the rotation, due since %s", timeText(b.DueSince))
			p.Advice = fmt.Sprintf("start it, or remove it with: pgqadm %s unregister %s %s", ini, b.Queue, b.Name)
		case "transaction":
			p.Advice = "end that transaction: pg_terminate_backend(PID)"
		case "prepared transaction":
			p.Advice = "end it in its database: commit prepared or rollback prepared"
		case "lock":
			p.Advice = "end what holds the lock: pg_terminate_backend(PID)"
		default:
			p.Advice = fmt.Sprintf("is the ticker running? it also does the maintenance: pgqadm -d %s ticker", ini)
			switch b.Name {
			case "rebase_queue":
				p.Advice = fmt.Sprintf("repair the queue: pgqadm %s rebase %s", ini, b.Queue)
			case "ticker_paused":
				p.Advice = fmt.Sprintf("resume the ticker: pgqadm %s config %s ticker_paused=false", ini, b.Queue)
			case "external_ticker":
				p.Advice = "see why the external ticker gives it no ticks"
			}
		}
		found = append(found, p)
	}
	return found
}

func (a *admin) problems(ctx context.Context) (found []problem, queues int, err error) {
	limit, err := a.lagLimit()
	if err != nil {
		return nil, 0, err
	}
	s, err := a.status(ctx)
	if err != nil {
		return nil, 0, err
	}
	found = s.problems(a.ini, limit)
	var now time.Time
	if err := a.db.QueryRow(ctx, nowSQL).Scan(&now); err != nil {
		return nil, 0, fmt.Errorf("ask for the server's time: %w", err)
	}
	// An older schema has no views to ask.
	blockers, err := pgq.RotationBlockers(ctx, a.db)
	if err != nil && !pgq.IsNotInstalled(err) {
		return nil, 0, err
	}
	found = blocked(found, blockers, now, a.ini)
	dead, err := pgq.CountDeadLetters(ctx, a.db)
	if err != nil && !pgq.IsNotInstalled(err) {
		return nil, 0, err
	}
	for _, d := range dead {
		found = append(found, problem{Kind: "dead_letters", Queue: d.Queue, Consumer: d.Consumer,
			What:   fmt.Sprintf("has %d dead event(s), the first since %s", d.Count, timeText(&d.Oldest)),
			Advice: fmt.Sprintf("look at them with: pgqadm %s dlq list %s %s, then dlq retry or dlq delete", a.ini, d.Queue, d.Consumer)})
	}
	return found, len(s.Queues), nil
}

const nowSQL = `select pg_catalog.now()`

func adminCheck(ctx context.Context, a *admin) error {
	problems, queues, err := a.problems(ctx)
	if err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(problems); err != nil {
			return err
		}
	} else {
		for _, p := range problems {
			who := "queue " + p.Queue
			if p.Consumer != "" {
				who += ", consumer " + p.Consumer
			}
			if err := a.say("%s: %s; %s", who, p.What, p.Advice); err != nil {
				return err
			}
		}
		if len(problems) == 0 {
			return a.say("no problem found, %d queue(s) looked at", queues)
		}
	}
	if len(problems) > 0 {
		return fmt.Errorf("%d problem(s) found", len(problems))
	}
	return nil
}

// timeText writes a time for people.
func timeText(t *time.Time) string {
	if t == nil {
		return "?"
	}
	return t.Format("2006-01-02 15:04:05Z07:00")
}

func adminBlockers(ctx context.Context, a *admin) error {
	blockers, err := pgq.RotationBlockers(ctx, a.db)
	if err != nil {
		return err
	}
	if a.json {
		type blocker struct {
			Queue    string     `json:"queue_name"`
			DueSince *time.Time `json:"rotation_due_since"`
			Kind     string     `json:"blocker_kind"`
			Name     string     `json:"blocker"`
			Since    *time.Time `json:"since"`
			Detail   string     `json:"detail"`
		}
		list := []blocker{}
		for _, b := range blockers {
			list = append(list, blocker(b))
		}
		return a.printJSON(list)
	}
	for _, b := range blockers {
		if err := a.say("queue %s: rotation due since %s, held up by %s", b.Queue, timeText(b.DueSince), describeBlocker(b)); err != nil {
			return err
		}
	}
	if len(blockers) == 0 {
		return a.say("nothing holds up a rotation")
	}
	return nil
}

// describeBlocker says who it is, since when, and what more is known.
func describeBlocker(b pgq.Blocker) string {
	line := b.Kind
	if b.Name != "" {
		line += " " + b.Name
	}
	if b.Since != nil {
		line += " since " + timeText(b.Since)
	}
	if b.Detail != "" {
		line += " (" + b.Detail + ")"
	}
	return line
}
