// Figures for Prometheus. The loop publishes a copy of its counters with each sweep;
// the HTTP server's goroutines read the copy, so nothing is locked.

package pooler

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"goworkers/batch"
	"goworkers/internal/pooler/pool"
)

type metrics struct {
	p      *Pooler
	server *batch.MetricsServer
}

// figures are those of one loop's pools, at its last sweep.
type figures struct {
	latest atomic.Pointer[[]poolFigures]
}

// poolFigures are the figures of one pool at one time.
type poolFigures struct {
	database, user string
	counters       counters
	clients        map[string]int
	servers        map[string]int
	maxWait        float64
}

var (
	poolLabels  = []string{"database", "user"}
	clientsDesc = prometheus.NewDesc("pooler_clients", "Client connections.", []string{"database", "user", "state"}, nil)
	serversDesc = prometheus.NewDesc("pooler_servers", "Server connections.", []string{"database", "user", "state"}, nil)
	maxWaitDesc = prometheus.NewDesc("pooler_max_wait_seconds", "Time that the first client of the queue has waited.", poolLabels, nil)
	totalDescs  = []struct {
		desc  *prometheus.Desc
		value func(*counters) float64
	}{
		{totalDesc("transactions_total", "Transactions."), func(c *counters) float64 { return float64(c.xacts) }},
		{totalDesc("queries_total", "Queries."), func(c *counters) float64 { return float64(c.queries) }},
		{totalDesc("received_bytes_total", "Bytes from clients."), func(c *counters) float64 { return float64(c.received) }},
		{totalDesc("sent_bytes_total", "Bytes to clients."), func(c *counters) float64 { return float64(c.sent) }},
		{totalDesc("transaction_seconds_total", "Time within transactions."), func(c *counters) float64 { return c.xactTime.Seconds() }},
		{totalDesc("query_seconds_total", "Time within queries."), func(c *counters) float64 { return c.queryTime.Seconds() }},
		{totalDesc("wait_seconds_total", "Time that clients waited for a server."), func(c *counters) float64 { return c.waitTime.Seconds() }},
		{totalDesc("assignments_total", "Times that a server was given to a client."), func(c *counters) float64 { return float64(c.assignments) }},
		{totalDesc("logins_total", "Client logins."), func(c *counters) float64 { return float64(c.logins) }},
	}
)

func totalDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("pooler_"+name, help, poolLabels, nil)
}

func newMetrics(p *Pooler, listen string) (*metrics, error) {
	m := &metrics{p: p}
	for _, w := range p.workers {
		w.figures.publish(w)
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(m); err != nil {
		return nil, err
	}
	server, err := batch.ServeMetrics(listen, registry)
	if err != nil {
		return nil, err
	}
	m.server = server
	p.log.Info("metrics on http://" + server.Addr + "/metrics")
	return m, nil
}

func (m *metrics) stop() { m.server.Stop() }

// publish copies the figures of all pools.
func (f *figures) publish(w *worker) {
	pools := w.manager.Pools()
	list := make([]poolFigures, 0, len(pools))
	for _, q := range pools {
		pl := q.Owner.(*dbPool)
		list = append(list, poolFigures{
			database: pl.db.name, user: pl.user, counters: pl.stats,
			clients: map[string]int{
				"idle": q.Clients(pool.ClientIdle), "active": q.Clients(pool.ClientActive),
				"waiting": q.Clients(pool.ClientWaiting), "login": q.Clients(pool.ClientWelcome),
			},
			servers: map[string]int{
				"login": q.Servers(pool.ServerLogin), "idle": q.Servers(pool.ServerIdle), "used": q.Servers(pool.ServerUsed),
				"tested": q.Servers(pool.ServerTested), "active": q.Servers(pool.ServerActive), "canceled": q.Servers(pool.ServerCanceled),
			},
			maxWait: q.MaxWait(w.loop.Now()).Seconds(),
		})
	}
	f.latest.Store(&list)
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- clientsDesc
	ch <- serversDesc
	ch <- maxWaitDesc
	for _, t := range totalDescs {
		ch <- t.desc
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, w := range m.p.workers {
		m.collect(ch, *w.figures.latest.Load())
	}
}

func (m *metrics) collect(ch chan<- prometheus.Metric, list []poolFigures) {
	for _, f := range list {
		for state, n := range f.clients {
			ch <- prometheus.MustNewConstMetric(clientsDesc, prometheus.GaugeValue, float64(n), f.database, f.user, state)
		}
		for state, n := range f.servers {
			ch <- prometheus.MustNewConstMetric(serversDesc, prometheus.GaugeValue, float64(n), f.database, f.user, state)
		}
		ch <- prometheus.MustNewConstMetric(maxWaitDesc, prometheus.GaugeValue, f.maxWait, f.database, f.user)
		for _, t := range totalDescs {
			ch <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, t.value(&f.counters), f.database, f.user)
		}
	}
}
