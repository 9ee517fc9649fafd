package ticker

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator watches of a ticker, by database.
type metrics struct {
	ticks, errors, maint, retried *prometheus.CounterVec
	lastRun, up                   *prometheus.GaugeVec

	mu    sync.Mutex
	users map[string]int // tickers by database; two while a reload is under way
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
	return &metrics{
		ticks:   counter("ticks_total", "Ticks made.", "database"),
		errors:  counter("errors_total", "Rounds that failed, by loop (tick, maint, retry).", "database", "loop"),
		maint:   counter("maint_operations_total", "Maintenance operations done.", "database"),
		retried: counter("retried_events_total", "Events put back into their queues.", "database"),
		lastRun: gauge("last_run_timestamp_seconds", "When the queues were last looked at without error."),
		up:      gauge("up", "1 when the database can be reached and ticked, else 0; databases without pgq that nobody named are left out."),
		users:   map[string]int{},
	}
}

// hold keeps the series of a database until release.
func (m *metrics) hold(database string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[database]++
}

// release drops the series of a database that no ticker works on any more.
func (m *metrics) release(database string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.users[database]--; m.users[database] == 0 {
		delete(m.users, database)
		m.forget(database)
	}
}

// forget drops the series of a database.
func (m *metrics) forget(database string) {
	labels := prometheus.Labels{"database": database}
	for _, v := range []*prometheus.CounterVec{m.ticks, m.errors, m.maint, m.retried} {
		v.DeletePartialMatch(labels)
	}
	m.lastRun.DeletePartialMatch(labels)
	m.up.DeletePartialMatch(labels)
}
