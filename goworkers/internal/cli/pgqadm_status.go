package cli

// pgqadm status: how queues and consumers are doing.

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"goworkers/internal/shell"
	"goworkers/pgq"
)

// status is what status prints; its JSON form is an interface.
type status struct {
	Postgres string        `json:"postgres_version"`
	PgQ      string        `json:"pgq_version"`
	Queues   []queueStatus `json:"queues"`
}

type queueStatus struct {
	Name            string           `json:"queue_name"`
	Tables          int              `json:"ntables"`
	RotationPeriod  float64          `json:"rotation_period_seconds"`
	MaxCount        int              `json:"ticker_max_count"`
	MaxLag          float64          `json:"ticker_max_lag_seconds"`
	IdlePeriod      float64          `json:"ticker_idle_period_seconds"`
	Paused          bool             `json:"ticker_paused"`
	External        bool             `json:"external_ticker"`
	InsertDisabled  bool             `json:"insert_disabled"`
	TickerLag       *float64         `json:"ticker_lag_seconds"`
	EventsPerSecond *float64         `json:"events_per_second"`
	New             *int64           `json:"new_events"`
	LastTick        *int64           `json:"last_tick_id"`
	Consumers       []consumerStatus `json:"consumers"`
}

type consumerStatus struct {
	Name     string   `json:"consumer_name"`
	Lag      *float64 `json:"lag_seconds"`
	LastSeen *float64 `json:"last_seen_seconds"`
	LastTick *int64   `json:"last_tick"`
	Batch    *int64   `json:"current_batch"`
	Pending  *int64   `json:"pending_events"`
	Paused   bool     `json:"paused"`
}

func seconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	s := d.Seconds()
	return &s
}

const serverVersionSQL = `select pg_catalog.current_setting('server_version')`

func (a *admin) status(ctx context.Context) (*status, error) {
	s := &status{Queues: []queueStatus{}}
	if err := a.db.QueryRow(ctx, serverVersionSQL).Scan(&s.Postgres); err != nil {
		return nil, fmt.Errorf("ask for the server's version: %w", err)
	}
	var err error
	if s.PgQ, err = pgq.Version(ctx, a.db); err != nil {
		return nil, err
	}
	queues, err := pgq.QueueInfo(ctx, a.db)
	if err != nil {
		return nil, err
	}
	consumers, err := pgq.ConsumerInfo(ctx, a.db, "", "")
	if err != nil {
		return nil, err
	}
	queueParams, err := pgq.QueueParams(ctx, a.db)
	if err != nil {
		return nil, err
	}
	consumerParams, err := pgq.ConsumerParams(ctx, a.db, "", "")
	if err != nil {
		return nil, err
	}
	for _, q := range queues {
		entry := queueStatus{
			Name: q.Name, Tables: q.Tables, RotationPeriod: q.RotationPeriod.Seconds(),
			MaxCount: q.TickerMaxCount, MaxLag: q.TickerMaxLag.Seconds(), IdlePeriod: q.TickerIdlePeriod.Seconds(),
			Paused: q.TickerPaused, External: q.ExternalTicker,
			TickerLag: seconds(q.TickerLag), EventsPerSecond: q.EventsPerSecond, New: q.NewEvents, LastTick: q.LastTickID,
			Consumers:      []consumerStatus{},
			InsertDisabled: isOn(queueParams, q.Name, "", "disable_insert"),
		}
		for _, c := range consumers {
			if c.Queue == q.Name {
				entry.Consumers = append(entry.Consumers, consumerStatus{
					Name: c.Name, Lag: seconds(c.Lag), LastSeen: seconds(c.LastSeen),
					LastTick: c.LastTick, Batch: c.CurrentBatch, Pending: c.PendingEvents,
					Paused: isOn(consumerParams, c.Queue, c.Name, "paused"),
				})
			}
		}
		s.Queues = append(s.Queues, entry)
	}
	return s, nil
}

// isOn tells whether a parameter is true; one that the schema lacks is not.
func isOn(list []pgq.Params, queue, consumer, name string) bool {
	for _, of := range list {
		if of.Queue != queue || of.Consumer != consumer {
			continue
		}
		for _, p := range of.Params {
			if p.Name == name {
				return p.Value != nil && *p.Value == "true"
			}
		}
	}
	return false
}

func adminStatus(ctx context.Context, a *admin) error {
	s, err := a.status(ctx)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(s)
	}
	return s.print(a.out)
}

const statusWidth = 78

// print writes the familiar tables, 78 columns wide.
func (s *status) print(out io.Writer) error {
	rule := strings.Repeat("-", statusWidth) + "\n"
	var b strings.Builder
	fmt.Fprintf(&b, "Postgres version: %s   PgQ version: %s\n\n", s.Postgres, s.PgQ)
	row := func(name string, rest string) {
		name = shell.Printable(name)
		if width := statusWidth - utf8.RuneCountInString(rest) - 1; utf8.RuneCountInString(name) > width {
			b.WriteString(name + "\n") // a long name has a line of its own
			name = ""
		}
		b.WriteString(name + strings.Repeat(" ", statusWidth-utf8.RuneCountInString(name)-utf8.RuneCountInString(rest)) + rest + "\n")
	}
	queueRow := func(name, rotation, ticker, lag, eps, fresh string) {
		row(name, fmt.Sprintf("%12s %15s %6s %7s %7s", rotation, ticker, lag, eps, fresh))
	}
	queueRow("Event queue", "Rotation", "Ticker", "TLag", "EPS", "New")
	b.WriteString(rule)
	for _, q := range s.Queues {
		queueRow(q.Name,
			fmt.Sprintf("%d/%s", q.Tables, whole(&q.RotationPeriod)),
			fmt.Sprintf("%d/%s/%s", q.MaxCount, whole(&q.MaxLag), whole(&q.IdlePeriod)),
			whole(q.TickerLag), rate(q.EventsPerSecond), count(q.New))
	}
	b.WriteString(rule + "\n")
	consumerRow := func(name, lag, seen, pending string) {
		row(name, fmt.Sprintf("%9s %9s %9s", lag, seen, pending))
	}
	consumerRow("Consumer", "Lag", "LastSeen", "Pending")
	b.WriteString(rule)
	for _, q := range s.Queues {
		if len(q.Consumers) == 0 {
			continue
		}
		b.WriteString(shell.Printable(q.Name) + ":\n")
		for _, c := range q.Consumers {
			consumerRow("  "+c.Name, whole(c.Lag), whole(c.LastSeen), count(c.Pending))
		}
	}
	b.WriteString(rule)
	_, err := io.WriteString(out, b.String())
	return err
}

func whole(seconds *float64) string {
	if seconds == nil {
		return "NULL"
	}
	return strconv.FormatFloat(*seconds, 'f', 0, 64) + "s"
}

func rate(perSecond *float64) string {
	if perSecond == nil {
		return "NULL"
	}
	return strconv.FormatFloat(*perSecond, 'f', 1, 64)
}

func count(n *int64) string {
	if n == nil {
		return "NULL"
	}
	return strconv.FormatInt(*n, 10)
}
