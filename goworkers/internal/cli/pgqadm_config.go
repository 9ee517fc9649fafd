package cli

// pgqadm config: a queue's settings.

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"goworkers/batch"
	"goworkers/pgq"
)

// setting is one of a queue's settings, in the form that config takes back.
type setting struct{ key, value string }

func settingsOf(q pgq.Queue) []setting {
	return []setting{
		{"ticker_max_count", strconv.Itoa(q.TickerMaxCount)},
		{"ticker_max_lag", span(q.TickerMaxLag)},
		{"ticker_idle_period", span(q.TickerIdlePeriod)},
		{"ticker_paused", strconv.FormatBool(q.TickerPaused)},
		{"rotation_period", span(q.RotationPeriod)},
		{"external_ticker", strconv.FormatBool(q.ExternalTicker)},
	}
}

// span writes a time as the server reads it.
func span(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
}

func adminConfig(ctx context.Context, a *admin) error {
	var names []string
	if len(a.args) > 0 {
		names = a.args[:1]
	}
	if len(a.args) > 1 {
		if err := a.configure(ctx, a.args[0], a.args[1:]); err != nil {
			return err
		}
	}
	queues, err := pgq.QueueInfo(ctx, a.db, names...)
	if err != nil {
		return err
	}
	if len(names) > 0 && len(queues) == 0 {
		return a.noQueue(names[0])
	}
	if a.json {
		all := map[string]map[string]string{}
		for _, q := range queues {
			all[q.Name] = map[string]string{}
			for _, s := range settingsOf(q) {
				all[q.Name][s.key] = s.value
			}
		}
		return a.printJSON(all)
	}
	for _, q := range queues {
		if err := a.say("%s", q.Name); err != nil {
			return err
		}
		for _, s := range settingsOf(q) {
			if err := a.say("    %s = %s", s.key, s.value); err != nil {
				return err
			}
		}
	}
	return nil
}

// configure sets all of the KEY=VALUE arguments or none.
func (a *admin) configure(ctx context.Context, queue string, args []string) error {
	known := settingsOf(pgq.Queue{})
	var names []string
	for _, s := range known {
		names = append(names, s.key)
	}
	var wanted []setting
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok || value == "" {
			return batch.Usagef("config: %q is not KEY=VALUE", arg)
		}
		key = strings.TrimPrefix(key, "queue_")
		if !slices.Contains(names, key) {
			return batch.Usagef("config: unknown setting %q; it is one of %s", key, strings.Join(names, ", "))
		}
		wanted = append(wanted, setting{key, value})
	}
	tx, err := a.db.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, s := range wanted {
		if err := pgq.SetQueueConfig(ctx, tx, queue, s.key, s.value); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

func (a *admin) noQueue(queue string) error {
	return fmt.Errorf("queue %q does not exist; create it with: pgqadm %s create %s", queue, a.ini, queue)
}

func (a *admin) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
