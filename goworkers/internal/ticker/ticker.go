package ticker

// The process: the databases as services, the operator's wishes, the
// statistics line.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sirupsen/logrus"

	"goworkers/batch"
	"goworkers/internal/service"
)

// Run ticks until the context ends or the job's signals say so. On SIGHUP it
// calls load and goes on with new settings; settings that load refuses leave
// everything as it was.
func Run(ctx context.Context, job *batch.Job, settings Settings, load func() (Settings, error)) error {
	signals := job.Signals
	if signals == nil {
		signals = &batch.Signals{}
	}
	atOnce, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	// Also while the last statements are waited for, SIGTERM means at once.
	var watcher, before sync.WaitGroup
	over := make(chan struct{})
	defer func() { close(over); watcher.Wait() }()
	watcher.Go(func() {
		select {
		case <-signals.Kill:
			cancel()
		case <-over:
		}
	})
	metrics := newMetrics(job.Metrics)

	start := func() (*Ticker, error) {
		t := &Ticker{settings: settings, job: job, log: job.Log, stats: job.Stats, metrics: metrics}
		t.resetStats()
		return t, t.Start(atOnce)
	}
	t, err := start()
	for err == nil {
		job.Log.Info("ticker started")
		var next *Settings
		if next, err = t.watch(ctx, signals, load); next == nil {
			break
		}
		// The ticker of the old settings may have a long vacuum to finish: that
		// holds up no tick of the new one.
		before.Go(t.Stop)
		settings = *next
		if t, err = start(); err == nil {
			job.Log.Info("configuration reloaded")
		}
	}
	if err != nil {
		cancel()
	}
	t.Stop()
	before.Wait()
	t.logStats()
	job.Log.Info("ticker stopped")
	if ended(signals.Kill) {
		return batch.ErrTerminated
	}
	return err
}

// watch lets the ticker run until it shall end (nil, nil, or an error to end
// at once) or go on with other settings. It is what systemd's watchdog looks at: the
// tick loops are ended by themselves when they hang.
func (t *Ticker) watch(ctx context.Context, signals *batch.Signals, load func() (Settings, error)) (*Settings, error) {
	beats, stop := t.job.Beat()
	defer stop()
	period := t.settings.statsPeriod
	if period <= 0 {
		period = time.Second
	}
	stats := time.NewTicker(period)
	defer stats.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case <-signals.Kill:
			return nil, batch.ErrTerminated
		case <-signals.Stop:
			select {
			case <-signals.Kill:
				return nil, batch.ErrTerminated
			default:
				return nil, nil
			}
		case <-signals.Reload:
			var settings Settings
			err := t.job.Reloading(func() (err error) {
				settings, err = load()
				return err
			})
			if err == nil {
				return &settings, nil
			}
			t.log.WithError(err).Error("reload failed, going on as before")
		case <-beats:
			t.job.Progress()
		case <-stats.C:
			t.logStats()
		}
	}
}

// Ticker is the service that ticks the databases of its settings.
type Ticker struct {
	settings Settings
	job      *batch.Job
	log      logrus.FieldLogger
	stats    *batch.Stats
	metrics  *metrics
	run      service.Service
}

// Start launches it.
func (t *Ticker) Start(ctx context.Context) error {
	if t.settings.discover.dsn != "" {
		t.run = service.NewLoop(t.discover)
	} else {
		var all service.Group
		for _, target := range t.settings.targets {
			all = append(all, t.newDatabase(target))
		}
		t.run = all
	}
	return t.run.Start(ctx)
}

// Stop ends it after the statements under way.
func (t *Ticker) Stop() { t.run.Stop() }

// resetStats makes the statistics line name all three counters in order.
func (t *Ticker) resetStats() {
	for _, key := range []string{"ticks", "maint", "retry"} {
		t.stats.Add(key, 0)
	}
}

func (t *Ticker) logStats() {
	t.job.FlushStats()
	t.resetStats()
}

const databasesSQL = `
	select datname
	  from pg_catalog.pg_database
	 where not datistemplate and datallowconn and pg_catalog.has_database_privilege(oid, 'connect')
	 order by datname`

// discover keeps a service for each database of the server.
func (t *Ticker) discover(ctx context.Context, stop <-chan struct{}) {
	running := map[string]*database{}
	defer func() {
		var all service.Group
		for _, d := range running {
			all = append(all, d)
		}
		all.Stop()
	}()
	trouble := batch.Trouble{Quiet: t.settings.quiet}
	for {
		pause := t.settings.checkPeriod
		names, err := t.databases(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// Who watches must see it, also before any database is known.
			t.metrics.up.WithLabelValues(t.settings.discover.name).Set(0)
			t.metrics.errors.WithLabelValues(t.settings.discover.name, "discover").Inc()
			pause = trouble.Note(t.log, err, t.settings.longestPause)
		default:
			if running[t.settings.discover.name] == nil {
				t.metrics.up.DeleteLabelValues(t.settings.discover.name)
			}
			trouble.Over(t.log)
			for _, name := range names {
				if running[name] == nil {
					d := t.newDatabase(target{name: name, dsn: t.settings.connect(name), key: t.settings.discover.key, discovered: true})
					if err := d.Start(ctx); err != nil {
						t.log.WithError(err).WithField("database", name).Error("database not started")
						continue
					}
					running[name] = d
				}
			}
			for _, name := range slices.Sorted(maps.Keys(running)) {
				if !slices.Contains(names, name) {
					running[name].Stop()
					delete(running, name)
					t.log.WithField("database", name).Info("database is gone")
				}
			}
		}
		if !service.Sleep(ctx, stop, pause) {
			return
		}
	}
}

func (t *Ticker) databases(ctx context.Context) ([]string, error) {
	conn, err := batch.Connect(ctx, t.settings.discover.dsn, t.settings.application)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.settings.discover.key, err)
	}
	defer closeConn(conn)
	rows, err := conn.Query(ctx, databasesSQL)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const closeTimeout = time.Second

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	conn.Close(ctx) // an error here is only that it was closed already
}
