package batch

// Waking: a consumer whose queue sends word of its ticks sleeps until then.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/pgq"
)

// listenPeriod is how rarely a consumer that listens looks at its queue all the
// same, and how often one that polls asks whether there is something to listen to:
// word may be lost, and queue_notify be switched at any time.
const listenPeriod = 10 * time.Second

// ear is a consumer's way to hear of ticks.
type ear struct {
	period  time.Duration // listenPeriod
	conn    *pgx.Conn     // that the rest is about
	deaf    bool          // the connection cannot listen, or the schema sends no word
	channel string        // "" while the queue sends no word
	asked   time.Time     // when the queue was asked for its channel
}

// pauses is what the consumers of a round say about the pause after it.
type pauses struct {
	polling   bool      // one has to look again after loop_delay
	listening *pgx.Conn // one will hear of ticks here
	period    time.Duration
}

// A connection behind a pooler shows another process's number than the server does.
const directSQL = `select pg_catalog.pg_backend_pid() = $1`

// listen makes src hear of ticks if the queue sends word of them, and comes before
// the queue is looked at: what ticks afterwards is heard. A consumer that wants more
// of a batch than its being there, like an age, polls.
func (s *source) listen(ctx context.Context, src *pgx.Conn, wish pgq.Wish) error {
	if s.job.Config.LoopDelay <= 0 || wish != (pgq.Wish{}) {
		s.job.pauses.polling = true
		return nil
	}
	e := &s.ear
	if e.conn != src {
		*e = ear{period: e.period, conn: src}
	}
	if !e.deaf && (e.asked.IsZero() || time.Since(e.asked) >= e.period) {
		if err := e.ask(ctx, s.cfg.QueueName); err != nil {
			return s.explain(err)
		}
	}
	if e.channel == "" || s.job.pauses.listening != nil {
		s.job.pauses.polling = true
		return nil
	}
	s.job.pauses.listening, s.job.pauses.period = src, e.period
	// Of what was heard so far, the look that follows tells all.
	forget(src)
	return nil
}

// ask finds the queue's channel, and listens to it or no longer.
func (e *ear) ask(ctx context.Context, queue string) error {
	if e.asked.IsZero() {
		var direct bool
		if err := e.conn.QueryRow(ctx, directSQL, int64(e.conn.PgConn().PID())).Scan(&direct); err != nil {
			return fmt.Errorf("ask for the server's process: %w", err)
		}
		if !direct {
			e.deaf = true
			return nil
		}
	}
	channel, err := pgq.TickChannel(ctx, e.conn, queue)
	var server *pgconn.PgError
	if errors.As(err, &server) && pgq.IsNotInstalled(err) {
		e.deaf = true // a schema before 4.0
		return nil
	}
	if err != nil {
		return err
	}
	e.asked = time.Now()
	if channel == e.channel {
		return nil
	}
	sql := "unlisten *"
	if channel != "" {
		sql = "listen " + pgx.Identifier{channel}.Sanitize()
	}
	if _, err := e.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("listen to ticks of queue %q: %w", queue, err)
	}
	e.channel = channel
	return nil
}

// forget drops the notifications that a connection has received.
func forget(conn *pgx.Conn) {
	past, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		if _, err := conn.WaitForNotification(past); err != nil {
			return
		}
	}
}

// earAfter is the connection to listen on in the pause after a round, or nil, and
// how long that pause may be. A round of several consumers, of which only one
// listens, is followed by an ordinary pause.
func (p *pauses) earAfter(loopDelay time.Duration) (conn *pgx.Conn, pause time.Duration) {
	if p.listening == nil || p.polling || p.listening.IsClosed() {
		return nil, loopDelay
	}
	return p.listening, max(loopDelay, p.period)
}

// waitForWord closes woken when conn hears something or breaks. End has to be
// called before the connection is used again.
func waitForWord(conn *pgx.Conn, limit time.Duration) (woken <-chan struct{}, end func()) {
	over := make(chan struct{})
	waiting, cancel := context.WithTimeout(context.Background(), limit)
	go func() {
		defer close(over)
		_, _ = conn.WaitForNotification(waiting) // who uses it next meets the error
	}()
	return over, func() {
		cancel()
		<-over
	}
}
