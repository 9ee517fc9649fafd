package ticker

// Ticking: by looking at all queues now and then, and by word of their writers.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/batch"
	"goworkers/internal/service"
	"goworkers/pgq"
)

// alert is what the connection that ticks has heard and shall do.
type alert struct {
	spare int  // how often the lock was not to be had
	hears bool // the server sends word, and has pgq.ticker_wake
	all   bool // all queues send word

	at     map[string]time.Time // when to look at a queue
	looked map[string]time.Time // when we last did
	idle   bool                 // the last word told nothing new

	asked time.Time // when we last asked which queues send word
}

const (
	// wakePause is the least time between two looks at a queue for word of its
	// writers. What pgq.ticker_wake itself asks for may be sooner.
	wakePause = 25 * time.Millisecond
	// gather is how long words are left to gather when they come faster than
	// they are acted upon.
	gather = 5 * time.Millisecond
)

// hearTicker makes the connection that ticks take warnings and words.
func (d *database) hearTicker(cfg *pgx.ConnConfig) {
	d.faults.hear(cfg)
	cfg.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if n.Channel == pgq.InsertChannel {
			d.alert.hear(n.Payload, time.Now())
			d.metrics.wakeups.WithLabelValues(d.target.name).Inc()
		}
	}
}

// hear notes that a queue was written to.
func (a *alert) hear(queue string, now time.Time) {
	if a.at == nil {
		a.at, a.looked = map[string]time.Time{}, map[string]time.Time{}
	}
	at := now
	if earliest := a.looked[queue].Add(wakePause); earliest.After(now) {
		at = earliest
	}
	if planned, ok := a.at[queue]; ok && !planned.After(at) {
		a.idle = true
		return
	}
	a.at[queue] = at
}

// due lists the queues to look at now, and says when the next one follows.
func (a *alert) due(now, limit time.Time) (queues []string, next time.Time) {
	next = limit
	for queue, at := range a.at {
		if !at.After(now) {
			queues = append(queues, queue)
		} else if at.Before(next) {
			next = at
		}
	}
	return queues, next
}

// await is the tick loop's pause: it ends when all queues are to be looked at
// again, and ticks those that word comes of meanwhile.
func (l *loop) await(ctx context.Context, stop <-chan struct{}, conn *pgx.Conn, pause time.Duration) (goOn bool, err error) {
	d := l.database
	end := time.Now().Add(pause)
	for !ended(stop) && ctx.Err() == nil {
		now := time.Now()
		queues, next := d.alert.due(now, end)
		for _, queue := range queues {
			if _, err := l.limited(ctx, func(ctx context.Context) (time.Duration, error) {
				return 0, d.tickWoken(ctx, conn, queue)
			}); err != nil {
				return true, err
			}
		}
		if len(queues) > 0 {
			continue
		}
		if !now.Before(end) {
			return true, nil
		}
		if !d.alert.hears {
			service.Sleep(ctx, stop, next.Sub(now))
			continue
		}
		if d.alert.idle {
			d.alert.idle = false
			service.Sleep(ctx, stop, min(gather, next.Sub(now)))
			continue
		}
		if err := waitForWord(ctx, stop, conn, next); err != nil {
			return true, err
		}
	}
	return false, nil
}

// waitForWord returns when a notification came, at the latest at the given time.
func waitForWord(ctx context.Context, stop <-chan struct{}, conn *pgx.Conn, until time.Time) error {
	waiting, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	over, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-stop:
			cancel()
		case <-over:
		}
	}()
	err := conn.PgConn().WaitForNotification(waiting)
	close(over)
	<-watched
	if err != nil && conn.IsClosed() {
		return fmt.Errorf("wait for word of writers: %w", err)
	}
	return nil
}

// tickWoken looks at one queue that word came of. A queue that fails is told, and
// stops no other; looks at all queues say whether it has recovered.
func (d *database) tickWoken(ctx context.Context, conn *pgx.Conn, queue string) error {
	delete(d.alert.at, queue)
	d.alert.looked[queue] = time.Now()
	tick, again, err := pgq.TickerWake(ctx, conn, queue)
	if err != nil {
		if fault := ofQueue(err); fault != nil {
			d.faults.failed(queue, fault)
			return nil
		}
		return err
	}
	if tick != 0 {
		d.count(1)
	}
	if again != nil {
		d.alert.plan(queue, time.Now().Add(max(*again, time.Millisecond)))
	}
	return nil
}

// plan notes when to look at a queue again, unless word came meanwhile.
func (a *alert) plan(queue string, at time.Time) {
	if planned, ok := a.at[queue]; !ok || at.Before(planned) {
		a.at[queue] = at
	}
}

// ofQueue is the error if it can be one queue's own: not one of the connection,
// and not one that calls and rights of all queues have in common.
func ofQueue(err error) *pgconn.PgError {
	var server *pgconn.PgError
	if !errors.As(err, &server) || batch.IsConnectionLost(err) || strings.HasPrefix(server.Code, "42") || strings.HasPrefix(server.Code, "3F") {
		return nil
	}
	return server
}

// allWakeSQL says whether word comes of all queues, so that looks may be rare.
const allWakeSQL = `
	select coalesce(pg_catalog.bool_and(queue_notify), false)
	  from pgq.queue
	 where not queue_external_ticker and not queue_ticker_paused`

// tick looks at all queues.
func (d *database) tick(ctx context.Context, conn *pgx.Conn, _ <-chan struct{}) error {
	ticked, err := pgq.Ticker(ctx, conn)
	if err != nil && ofQueue(err) != nil {
		// The schemas before 4.0 let one bad queue fail the call.
		ticked, err = d.tickEach(ctx, conn)
	}
	if err != nil {
		return err
	}
	if err := d.faults.recovered(ctx, conn, d.faults.endRound()); err != nil {
		return err
	}
	d.count(ticked)
	d.metrics.lastRun.WithLabelValues(d.target.name).SetToCurrentTime()
	now := time.Now()
	for queue, looked := range d.alert.looked {
		if now.Sub(looked) > wakePause {
			delete(d.alert.looked, queue)
		}
	}
	if !d.alert.hears || now.Sub(d.alert.asked) < d.settings.peekPeriod {
		return nil
	}
	d.alert.asked = now
	if err := conn.QueryRow(ctx, allWakeSQL).Scan(&d.alert.all); err != nil {
		return fmt.Errorf("ask which queues send word: %w", err)
	}
	return nil
}

func (d *database) count(ticks int64) {
	d.stats.Add("ticks", int(ticks))
	d.metrics.ticks.WithLabelValues(d.target.name).Add(float64(ticks))
}

const tickableSQL = `
	select queue_name
	  from pgq.queue
	 where not queue_external_ticker and not queue_ticker_paused
	 order by queue_name`

// tickEach ticks the queues one by one, and those that fail stop no other.
func (d *database) tickEach(ctx context.Context, conn *pgx.Conn) (ticked int64, err error) {
	rows, err := conn.Query(ctx, tickableSQL)
	if err != nil {
		return 0, fmt.Errorf("list the queues: %w", err)
	}
	queues, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, fmt.Errorf("list the queues: %w", err)
	}
	for _, queue := range queues {
		tick, err := pgq.TickQueue(ctx, conn, queue)
		if err == nil {
			if tick != 0 {
				ticked++
			}
			continue
		}
		fault := ofQueue(err)
		if fault == nil {
			return ticked, err
		}
		d.faults.failed(queue, fault)
	}
	return ticked, nil
}
