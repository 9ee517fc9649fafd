package ticker

// One database: three loops, and what is told about its state.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sirupsen/logrus"

	"goworkers/batch"
	"goworkers/internal/service"
	"goworkers/pgq"
)

// database ticks and maintains one database.
type database struct {
	service.Group
	target
	*Ticker
	log    logrus.FieldLogger
	once   sync.Once   // for the series in metrics
	faults faults      // of queues, and the server's other warnings
	alert  alert       // what writers have sent word of; of the tick loop alone
	active atomic.Bool // we tick; false for a spare, and until it is known
	report report      // what /metrics asks the database for

	// What was told last, so that the three loops tell it once.
	mu     sync.Mutex
	outage batch.Trouble
	state  string
	role   string

	defiedAt time.Time // when we last asked for the lock all the same; of the tick loop alone
}

func (t *Ticker) newDatabase(target target) *database {
	d := &database{
		target: target,
		Ticker: t,
		log:    t.log.WithField("database", target.name),
		outage: batch.Trouble{Quiet: t.settings.quiet},
	}
	d.faults.log = d.log
	for _, l := range []*loop{
		{name: tickLoop, period: t.settings.period, keep: true, work: d.tick, tweak: d.hearTicker},
		{name: "maint", period: t.settings.maintPeriod, work: d.maintain, tweak: d.faults.hear},
		{name: "retry", period: min(t.settings.peekPeriod, t.settings.retryPeriod), keep: true, work: d.retry, tweak: d.faults.hear},
	} {
		l.database = d
		l.trouble.Quiet = t.settings.quiet
		d.Group = append(d.Group, service.NewLoop(l.run))
	}
	return d
}

// Start and Stop are those of the loops, not of the Ticker.
func (d *database) Start(ctx context.Context) error {
	d.metrics.hold(d)
	if !d.target.discovered {
		d.metrics.up.WithLabelValues(d.target.name) // 0 until it is known better
	}
	return d.Group.Start(ctx)
}

// Stop ends the loops.
func (d *database) Stop() {
	d.Group.Stop()
	d.once.Do(func() {
		d.metrics.release(d)
		d.report.close()
	})
}

// tickLoop is the loop that says whether a database is up.
const tickLoop = "tick"

// loop does one kind of work again and again.
type loop struct {
	*database
	name   string
	period time.Duration
	keep   bool // the connection, from round to round
	tweak  func(*pgx.ConnConfig)
	work   func(ctx context.Context, conn *pgx.Conn, stop <-chan struct{}) error

	conn    *pgx.Conn
	opened  time.Time
	standby bool // the connection leads to a standby, or to who knows what
	claimed bool // the tick loop's connection has become the one that ticks
	trouble batch.Trouble
}

func (l *loop) run(ctx context.Context, stop <-chan struct{}) {
	defer l.drop()
	for {
		began := time.Now()
		pause, err := l.limited(ctx, func(ctx context.Context) (time.Duration, error) { return l.round(ctx, stop) })
		goOn := true
		if err == nil {
			goOn, err = l.pause(ctx, stop, max(0, pause-time.Since(began)))
		}
		switch {
		case ctx.Err() != nil || !goOn:
			return
		case err != nil:
			if !service.Sleep(ctx, stop, l.failed(err)) {
				return
			}
		}
	}
}

// pause waits until the next round. An error is one of the connection.
func (l *loop) pause(ctx context.Context, stop <-chan struct{}, d time.Duration) (goOn bool, err error) {
	if l.claimed && l.conn != nil {
		return l.await(ctx, stop, l.conn, d)
	}
	return service.Sleep(ctx, stop, d), nil
}

// limited ends what the tick loop does when it takes too long: behind a network that
// swallows everything a statement would be waited for without end, and a queue that
// is not ticked must not look like one that is. The other loops may have a long
// vacuum to do.
func (l *loop) limited(ctx context.Context, do func(ctx context.Context) (time.Duration, error)) (time.Duration, error) {
	if l.name != tickLoop {
		return do(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, l.settings.roundLimit)
	defer cancel()
	pause, err := do(limited)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		err = fmt.Errorf("no answer within %s: %w", l.settings.roundLimit, err)
	}
	return pause, err
}

// round works once and says when to come again.
func (l *loop) round(ctx context.Context, stop <-chan struct{}) (time.Duration, error) {
	if l.name != tickLoop && !l.active.Load() {
		return min(l.period, l.settings.sparePeriod), nil
	}
	if l.conn != nil && l.settings.lifetime > 0 && time.Since(l.opened) >= l.settings.lifetime {
		l.drop()
	}
	if l.conn == nil {
		conn, err := batch.Connect(ctx, l.dsn, l.settings.application, l.tweak)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", l.target.key, err)
		}
		l.conn, l.opened, l.standby = conn, time.Now(), true
	}
	if l.standby { // or not known yet
		ready, standby, err := l.look(ctx, l.conn)
		if err != nil {
			return 0, err
		}
		l.standby = standby
		if standby {
			l.found()
			return min(l.settings.checkPeriod, l.settings.standbyPeriod), nil
		}
		if !ready {
			l.found()
			l.drop()
			return l.settings.checkPeriod, nil
		}
	}
	if l.name == tickLoop && !l.claimed {
		won, pause, err := l.claim(ctx, l.conn)
		if err != nil {
			return 0, err
		}
		if !won {
			l.found()
			l.trouble.Over(l.log.WithField("loop", l.name))
			return pause, nil
		}
		l.claimed = true
	}
	if l.claimed {
		goOn, err := l.defy(ctx, l.conn)
		if err != nil {
			return 0, err
		}
		if !goOn {
			l.claimed = false
			return 0, nil
		}
	}
	if err := l.work(ctx, l.conn, stop); err != nil {
		return 0, err
	}
	if l.name == tickLoop {
		l.metrics.up.WithLabelValues(l.target.name).Set(1)
	}
	l.found()
	l.trouble.Over(l.log.WithField("loop", l.name))
	if !l.keep {
		l.drop()
	}
	if l.name == tickLoop && l.alert.all {
		return max(l.period, l.settings.restPeriod), nil
	}
	return l.period, nil
}

// failed tells an error once and returns the pause before the next try.
func (l *loop) failed(err error) time.Duration {
	l.metrics.errors.WithLabelValues(l.target.name, l.name).Inc()
	var unreachable *batch.ConnectError
	lost := errors.As(err, &unreachable) || (l.conn != nil && l.conn.IsClosed())
	l.drop()
	if lost {
		return l.lost(err)
	}
	if l.name == tickLoop {
		l.metrics.up.WithLabelValues(l.target.name).Set(0)
	}
	return l.trouble.Note(l.log.WithField("loop", l.name), err, l.settings.longestPause)
}

func (l *loop) drop() {
	if l.conn != nil {
		closeConn(l.conn)
		l.conn, l.claimed = nil, false
	}
}

// lost tells that the database cannot be reached, once for all loops.
func (d *database) lost(err error) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.metrics.up.WithLabelValues(d.target.name).Set(0)
	d.state = "lost"
	return d.outage.Note(d.log, err, d.settings.longestPause)
}

// found tells that the database is back, if it was lost.
func (d *database) found() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outage.Over(d.log)
}

const (
	standbySQL = `select pg_catalog.pg_is_in_recovery()`
	tickerSQL  = `select pg_catalog.to_regprocedure('pgq.ticker()') is not null`
)

// look says whether the database can be ticked, or why not if its server is a standby,
// and tells when that changes.
func (d *database) look(ctx context.Context, conn *pgx.Conn) (ready, standby bool, err error) {
	defer func() {
		if err == nil && !ready {
			d.active.Store(false)
			d.metrics.lastRun.DeleteLabelValues(d.target.name) // nobody is to look at it
		}
	}()
	var installed bool
	if err := conn.QueryRow(ctx, standbySQL).Scan(&standby); err != nil {
		return false, false, fmt.Errorf("ask whether the server is a standby: %w", err)
	}
	if standby {
		d.metrics.up.WithLabelValues(d.target.name).Set(0)
		d.tell("standby", func() { d.log.Info("server is a standby, nothing to tick until it is promoted") })
		return false, true, nil
	}
	if err := conn.QueryRow(ctx, tickerSQL).Scan(&installed); err != nil {
		return false, false, fmt.Errorf("look for pgq: %w", err)
	}
	if !installed {
		if d.target.discovered {
			d.metrics.up.DeleteLabelValues(d.target.name)
		} else {
			d.metrics.up.WithLabelValues(d.target.name).Set(0)
		}
		d.tell("no pgq", func() {
			if d.settings.hint == "" {
				d.log.Info("pgq is not installed, nothing to tick")
				return
			}
			d.log.WithField("install_with", d.settings.hint).Error("pgq is not installed, nothing to tick")
		})
		return false, false, nil
	}
	version, err := pgq.Version(ctx, conn)
	if err != nil {
		return false, false, err
	}
	if !pgq.Supported(version) {
		d.metrics.up.WithLabelValues(d.target.name).Set(0)
		d.tell("version "+version, func() {
			d.log.WithField("version", version).Error("pgq is too old to be ticked, 3.0 or newer is needed; update the extension")
		})
		return false, false, nil
	}
	d.tell("ready "+version, func() { d.log.WithField("version", version).Info("pgq version ok") })
	return true, false, nil
}

// tell calls say when the state is another than the one told last.
func (d *database) tell(state string, say func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != state {
		d.state = state
		say()
	}
}

// maintain does what is due, each operation in a transaction of its own. One
// that fails does not hold up the others.
func (d *database) maintain(ctx context.Context, conn *pgx.Conn, stop <-chan struct{}) error {
	ops, err := pgq.MaintOperations(ctx, conn)
	if err != nil {
		return err
	}
	var faults []error
	for _, op := range ops {
		for again := true; again; {
			if ended(stop) {
				return nil
			}
			if again, err = pgq.RunMaintOp(ctx, conn, op); err != nil {
				if conn.IsClosed() {
					return err
				}
				faults = append(faults, err)
				break
			}
			d.stats.Add("maint", 1)
			d.metrics.maint.WithLabelValues(d.target.name).Inc()
		}
	}
	return errors.Join(faults...)
}

const nextRetrySQL = `
	select extract(epoch from min(ev_retry_after))::float8 - extract(epoch from pg_catalog.clock_timestamp())::float8
	  from pgq.retry_queue
	 where ev_retry_after < 'infinity'`

// retry puts events back that are due, and waits for one that is due before the
// next round. It looks often, since an event that is put aside now may be due soon.
func (d *database) retry(ctx context.Context, conn *pgx.Conn, stop <-chan struct{}) error {
	for !ended(stop) && ctx.Err() == nil {
		var due *float64
		if err := conn.QueryRow(ctx, nextRetrySQL).Scan(&due); err != nil {
			return fmt.Errorf("ask when the next event is to be retried: %w", err)
		}
		if due == nil {
			return nil
		}
		wait := time.Duration(max(*due, 0) * float64(time.Second))
		if wait > min(d.settings.peekPeriod, d.settings.retryPeriod) {
			return nil
		}
		if !service.Sleep(ctx, stop, wait) {
			return nil
		}
		moved, err := pgq.MaintRetryEvents(ctx, conn)
		if err != nil || moved == 0 {
			return err
		}
		d.stats.Add("retry", moved)
		d.metrics.retried.WithLabelValues(d.target.name).Add(float64(moved))
	}
	return nil
}

func ended(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// databaseName is the database that a connection string leads to.
func databaseName(dsn batch.ConnString) string {
	cfg, err := pgx.ParseConfig(string(dsn))
	if err != nil || cfg.Database == "" {
		return "default"
	}
	return cfg.Database
}
