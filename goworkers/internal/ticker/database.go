package ticker

// One database: three loops, and what is told about it.

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
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
	log  logrus.FieldLogger
	once sync.Once // for the series in metrics

	// What was told last, so that the three loops tell it once.
	mu       sync.Mutex
	outage   batch.Trouble
	state    string
	warnings map[string]bool
}

func (t *Ticker) newDatabase(target target) *database {
	d := &database{
		target:   target,
		Ticker:   t,
		log:      t.log.WithField("database", target.name),
		warnings: map[string]bool{},
	}
	for _, l := range []*loop{
		{name: tickLoop, period: t.settings.period, keep: true, work: d.tick},
		{name: "maint", period: t.settings.maintPeriod, work: d.maintain},
		{name: "retry", period: t.settings.retryPeriod, work: d.retry},
	} {
		l.database = d
		d.Group = append(d.Group, service.NewLoop(l.run))
	}
	return d
}

// Start and Stop are those of the loops, not of the Ticker.
func (d *database) Start(ctx context.Context) error {
	d.metrics.hold(d.target.name)
	if !d.target.discovered {
		d.metrics.up.WithLabelValues(d.target.name) // 0 until it is known better
	}
	return d.Group.Start(ctx)
}

// Stop ends the loops.
func (d *database) Stop() {
	d.Group.Stop()
	d.once.Do(func() { d.metrics.release(d.target.name) })
}

// tickLoop is the loop that says whether a database is up.
const tickLoop = "tick"

// loop does one kind of work again and again.
type loop struct {
	*database
	name   string
	period time.Duration
	keep   bool // the connection, from round to round
	work   func(ctx context.Context, conn *pgx.Conn, stop <-chan struct{}) error

	conn    *pgx.Conn
	opened  time.Time
	trouble batch.Trouble
}

func (l *loop) run(ctx context.Context, stop <-chan struct{}) {
	defer l.drop()
	for {
		began := time.Now()
		pause, err := l.round(ctx, stop)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = l.failed(err)
		default:
			pause = max(0, pause-time.Since(began))
		}
		if !service.Sleep(ctx, stop, pause) {
			return
		}
	}
}

// round works once and says when to come again.
func (l *loop) round(ctx context.Context, stop <-chan struct{}) (time.Duration, error) {
	if l.conn != nil && l.settings.lifetime > 0 && time.Since(l.opened) >= l.settings.lifetime {
		l.drop()
	}
	if l.conn == nil {
		conn, err := batch.Connect(ctx, l.dsn, l.settings.application, l.takeNotices)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", l.target.key, err)
		}
		l.conn, l.opened = conn, time.Now()
		ready, err := l.look(ctx, conn)
		if err != nil {
			return 0, err
		}
		if !ready {
			l.found()
			l.drop()
			return l.settings.checkPeriod, nil
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
		l.conn = nil
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

// look says whether the database can be ticked, and tells when that changes.
func (d *database) look(ctx context.Context, conn *pgx.Conn) (ready bool, err error) {
	var standby, installed bool
	if err := conn.QueryRow(ctx, standbySQL).Scan(&standby); err != nil {
		return false, fmt.Errorf("ask whether the server is a standby: %w", err)
	}
	if standby {
		d.metrics.up.WithLabelValues(d.target.name).Set(0)
		d.tell("standby", func() { d.log.Info("server is a standby, nothing to tick until it is promoted") })
		return false, nil
	}
	if err := conn.QueryRow(ctx, tickerSQL).Scan(&installed); err != nil {
		return false, fmt.Errorf("look for pgq: %w", err)
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
		return false, nil
	}
	version, err := pgq.Version(ctx, conn)
	if err != nil {
		return false, err
	}
	if !pgq.Supported(version) {
		d.metrics.up.WithLabelValues(d.target.name).Set(0)
		d.tell("version "+version, func() {
			d.log.WithField("version", version).Error("pgq is too old to be ticked, 3.0 or newer is needed; update the extension")
		})
		return false, nil
	}
	d.tell("ready "+version, func() { d.log.WithField("version", version).Info("pgq version ok") })
	return true, nil
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

// takeNotices logs the server's warnings, each once: a queue that cannot be
// ticked makes one every time.
func (d *database) takeNotices(cfg *pgx.ConnConfig) {
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized != "WARNING" || strings.HasPrefix(n.Code, operatorClass) {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.warnings) >= warningsMax {
			clear(d.warnings)
		}
		kind := numbers.ReplaceAllString(n.Message, "0")
		if !d.warnings[kind] {
			d.warnings[kind] = true
			d.log.WithField("sqlstate", n.Code).Warn(n.Message)
		}
	}
}

// operatorClass of SQLSTATEs is the server's last words when it shuts down;
// the lost connection is told anyway.
const operatorClass = "57P"

// numbers vary between repeats of one warning: transaction ids, counts.
var numbers = regexp.MustCompile(`\b[0-9]+\b`)

// warningsMax bounds what is remembered of warnings.
const warningsMax = 1000

func (d *database) tick(ctx context.Context, conn *pgx.Conn, _ <-chan struct{}) error {
	ticked, err := pgq.Ticker(ctx, conn)
	if err != nil {
		return err
	}
	d.stats.Add("ticks", int(ticked))
	d.metrics.ticks.WithLabelValues(d.target.name).Add(float64(ticked))
	d.metrics.lastRun.WithLabelValues(d.target.name).SetToCurrentTime()
	return nil
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

func (d *database) retry(ctx context.Context, conn *pgx.Conn, stop <-chan struct{}) error {
	for !ended(stop) {
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
