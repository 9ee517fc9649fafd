package ticker

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator watches of a ticker, by database.
type metrics struct {
	ticks, errors, maint, retried, wakeups *prometheus.CounterVec
	lastRun, up, spare                     *prometheus.GaugeVec

	mu    sync.Mutex
	users map[string]int       // tickers by database; two while a reload is under way
	shown map[string]*database // the later of them: it is asked for what is in the database
}

func newMetrics(registry *prometheus.Registry) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "skytools_ticker_" + name, Help: help}, labels)
		registry.MustRegister(v)
		return v
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "skytools_ticker_" + name, Help: help}, []string{"database"})
		registry.MustRegister(v)
		return v
	}
	m := &metrics{
		ticks:   counter("ticks_total", "Ticks made.", "database"),
		errors:  counter("errors_total", "Rounds that failed, by loop (tick, maint, retry; metrics: the database was not asked for its queues; discover: the server for its databases).", "database", "loop"),
		maint:   counter("maint_operations_total", "Maintenance operations done.", "database"),
		retried: counter("retried_events_total", "Events put back into their queues.", "database"),
		wakeups: counter("wakeups_total", "Words of writers that the ticker was woken by.", "database"),
		lastRun: gauge("last_run_timestamp_seconds", "When the queues were last looked at without error."),
		up:      gauge("up", "1 when the database can be reached and ticked, else 0; databases without pgq that nobody named are left out. A server that cannot be asked for its databases is told by the one to ask in."),
		spare:   gauge("spare", "1 while another ticker works on the database and this one waits to take over, else 0."),
		users:   map[string]int{},
		shown:   map[string]*database{},
	}
	registry.MustRegister(m)
	return m
}

// hold keeps the series of a database until release.
func (m *metrics) hold(d *database) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[d.target.name]++
	m.shown[d.target.name] = d
}

// release drops the series of a database that no ticker works on any more.
func (m *metrics) release(d *database) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shown[d.target.name] == d {
		delete(m.shown, d.target.name)
	}
	if m.users[d.target.name]--; m.users[d.target.name] == 0 {
		delete(m.users, d.target.name)
		m.forget(d.target.name)
	}
}

// forget drops the series of a database.
func (m *metrics) forget(database string) {
	labels := prometheus.Labels{"database": database}
	for _, v := range []*prometheus.CounterVec{m.ticks, m.errors, m.maint, m.retried, m.wakeups} {
		v.DeletePartialMatch(labels)
	}
	for _, v := range []*prometheus.GaugeVec{m.lastRun, m.up, m.spare} {
		v.DeletePartialMatch(labels)
	}
}
