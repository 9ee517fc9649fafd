package batch

// The job: what a round of work has around it, and the loop of rounds.

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
)

// Job is what a worker works with. Run, DB and DropConnections belong to one
// goroutine; Log, Stats and Metrics may be used from any.
type Job struct {
	Config  JobConfig
	Service string
	// Log writes the job's log. Everything a job says goes through it.
	Log logrus.FieldLogger
	// Stats is logged every stats_period and starts anew then.
	Stats *Stats
	// Metrics is served under /metrics when metrics_listen is set.
	Metrics *prometheus.Registry
	// Signals are the operator's wishes. Launch sets them; nil means that only
	// the context ends the job.
	Signals *Signals
	// Reload is called between two rounds after SIGHUP; its error is logged
	// and the job goes on as before. May be nil.
	Reload func(ctx context.Context) error

	file    *logFile
	logger  *logrus.Logger
	console io.Writer
	connsMu sync.Mutex // workers of one process open connections side by side
	conns   map[string]*conn
	locks   map[string]*os.File // by path; see lockFile
	metrics *MetricsServer
	manager *manager
	rounds  *prometheus.CounterVec
	lastOK  prometheus.Gauge
	labels  prometheus.Labels
	pauses  pauses // of the round under way

	succeededOnce bool // lastOK is registered
}

// NewJob opens the log (and logfile when it is set) and the metrics endpoint
// (when metrics_listen is set). The console gets the log too; nil is no
// console. Close gives everything back.
func NewJob(service string, cfg JobConfig, console io.Writer) (*Job, error) {
	j := &Job{
		Service: service,
		Config:  cfg,
		Stats:   &Stats{},
		Metrics: prometheus.NewRegistry(),
		console: console,
		conns:   map[string]*conn{},
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skytools_job_rounds_total", Help: "Rounds of work by their outcome.",
		}, []string{"outcome"}),
		lastOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "skytools_job_last_success_timestamp_seconds", Help: "When a round last ended without error.",
		}),
	}
	if cfg.LogFile != "" {
		var err error
		if j.file, err = openLogFile(cfg.LogFile, int64(cfg.LogSize), cfg.LogCount); err != nil {
			return nil, cfg.within(err)
		}
	}
	j.openLog()
	j.labels = prometheus.Labels{"job_name": cfg.JobName, "service": service}
	prometheus.WrapRegistererWith(j.labels, j.Metrics).MustRegister(j.rounds)
	j.Metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if cfg.MetricsListen != "" {
		var err error
		if j.metrics, err = ServeMetrics(cfg.MetricsListen, j.Metrics); err != nil {
			j.Close()
			return nil, cfg.within(err)
		}
		j.Log.WithField("listen", j.metrics.Addr).Info("metrics are served")
	}
	return j, nil
}

func (j *Job) openLog() {
	var writers []io.Writer
	if j.file != nil {
		writers = append(writers, j.file)
	}
	if j.console != nil {
		writers = append(writers, j.console)
	}
	j.logger = logrus.New()
	j.logger.SetOutput(io.MultiWriter(writers...))
	shapeLog(j.logger, &j.Config)
	j.Log = j.logger
}

// MetricsAddr is where metrics are served, or "".
func (j *Job) MetricsAddr() string {
	if j.metrics == nil {
		return ""
	}
	return j.metrics.Addr
}

// Close drops connections and locks, and closes the metrics endpoint and the log.
func (j *Job) Close() error {
	j.DropConnections()
	var errs []error
	for path, lock := range j.locks {
		errs = append(errs, lock.Close())
		delete(j.locks, path)
	}
	if j.metrics != nil {
		errs = append(errs, j.metrics.Stop())
		j.metrics = nil
	}
	if j.file != nil {
		errs = append(errs, j.file.Close())
		j.file = nil
	}
	return errors.Join(errs...)
}

// Run calls work until the job shall end, and returns nil then.
//
// work returns more = true to be called again at once; else the job sleeps
// loop_delay, or, when its consumer's queue sends word of ticks, until word comes,
// 10 s at most. An error is logged once (the same error again only at level
// debug; as a warning first if it is one of exception_quiet), connections are dropped, and work is called again after a pause
// that grows from 1 s to exception_sleep; a round without error after that
// logs "recovered". A *UsageError or *ConfigError is returned: trying again
// would not help. So is, until a first round was without error, a database that
// does not exist, lets nobody in, or lacks the queue or the extension; a server
// that cannot be reached is waited for.
//
// When ctx is cancelled or SIGINT comes, the round under way is finished and
// Run returns nil. SIGTERM cancels the context that work has, and Run returns
// ErrTerminated.
func (j *Job) Run(ctx context.Context, work func(ctx context.Context) (more bool, err error)) error {
	roundCtx, cancelRound := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRound()
	signals := j.Signals
	if signals == nil {
		signals = &Signals{} // nil channels: never
	}
	ended := make(chan struct{})
	watcher := make(chan struct{})
	defer func() { close(ended); <-watcher }()
	go func() {
		defer close(watcher)
		select {
		case <-signals.Kill:
			cancelRound()
		case <-ended:
		}
	}()
	defer j.DropConnections()
	defer j.FlushStats()

	var trouble Trouble
	worked := false
	lastStats := time.Now()
	for {
		select {
		case <-signals.Reload:
			j.reload(roundCtx)
		default:
		}
		j.pauses = pauses{}
		j.Progress()
		more, err := work(roundCtx)
		var listening *pgx.Conn
		pause := j.Config.LoopDelay
		switch {
		case err != nil && isClosed(signals.Kill):
			return ErrTerminated
		case err != nil:
			if ExitCode(err) == 2 || !worked && isSetup(err) {
				return err
			}
			j.rounds.WithLabelValues("error").Inc()
			j.DropConnections()
			if j.Config.LoopDelay <= 0 {
				return err // nobody waits for a job that runs once
			}
			trouble.Quiet = j.Config.Quiet()
			more, pause = false, trouble.Note(j.Log, err, j.Config.ExceptionSleep)
			j.manager.status("work failed, will be tried again: " + err.Error())
		default:
			worked = true
			j.succeeded()
			if trouble.Over(j.Log) {
				j.manager.status("recovered")
			}
			j.recycle()
			listening, pause = j.pauses.earAfter(pause)
		}
		if j.Config.StatsPeriod <= 0 || time.Since(lastStats) >= j.Config.StatsPeriod {
			j.FlushStats()
			lastStats = time.Now()
		}
		switch {
		case isClosed(signals.Kill):
			return ErrTerminated
		case ctx.Err() != nil || isClosed(signals.Stop):
			return nil
		case j.Config.LoopDelay < 0:
			return nil
		case more:
			continue
		case j.Config.LoopDelay == 0:
			return nil
		}
		if j.sleep(ctx, signals, pause, listening) {
			j.reload(roundCtx)
		}
		switch {
		case isClosed(signals.Kill):
			return ErrTerminated
		case ctx.Err() != nil || isClosed(signals.Stop):
			return nil
		}
	}
}

// sleep pauses until there is something to do; it says true when that is a reload.
// When listening is not nil it may hear of something to do meanwhile.
func (j *Job) sleep(ctx context.Context, signals *Signals, pause time.Duration, listening *pgx.Conn) (reload bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	beats, stop := j.Beat()
	defer stop()
	var woken <-chan struct{} // nil: never
	if listening != nil {
		var end func()
		woken, end = waitForWord(listening, pause)
		defer end()
	}
	for {
		select {
		case <-beats:
			j.Progress()
			continue
		case <-timer.C:
		case <-woken:
		case <-ctx.Done():
		case <-signals.Stop:
		case <-signals.Reload:
			return true
		}
		return false
	}
}

// succeeded counts a round. Before the first there is no last success to tell of:
// 0 would read as one in 1970.
func (j *Job) succeeded() {
	j.rounds.WithLabelValues("ok").Inc()
	j.lastOK.SetToCurrentTime()
	if !j.succeededOnce {
		j.succeededOnce = true
		prometheus.WrapRegistererWith(j.labels, j.Metrics).MustRegister(j.lastOK)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// FlushStats logs the statistics line, if anything was counted. Run does it every
// stats_period.
func (j *Job) FlushStats() {
	if line := j.Stats.Flush(); line != "" {
		j.Log.Info(line)
		j.manager.status(line)
	}
}

// ReopenLog follows a log file that was moved away. Run does it on SIGHUP.
func (j *Job) ReopenLog() {
	if j.file == nil {
		return
	}
	if err := j.file.reopen(); err != nil {
		j.Log.WithError(err).Error("log file not reopened")
	}
}

// Reloading surrounds a reload after SIGHUP: the log follows a file that was moved away,
// and systemd is told. Run does it by itself.
func (j *Job) Reloading(reload func() error) error {
	j.manager.reloading()
	defer j.manager.ready()
	j.ReopenLog()
	return reload()
}

func (j *Job) reload(ctx context.Context) {
	_ = j.Reloading(func() error {
		if j.Reload == nil {
			return nil
		}
		err := j.Reload(ctx)
		if err != nil {
			j.Log.WithError(err).Error("reload failed, going on as before")
		} else {
			j.Log.Info("configuration reloaded")
		}
		return err
	})
}
