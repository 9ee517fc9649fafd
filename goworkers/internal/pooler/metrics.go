// Figures for Prometheus. Each loop publishes a copy of its counters with each sweep;
// the HTTP server's goroutines read the copies, so nothing is locked.

package pooler

import (
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"goworkers/batch"
	"goworkers/internal/pooler/pool"
)

type metrics struct {
	p        *Pooler
	registry *prometheus.Registry
	server   *batch.MetricsServer
}

// poolEvents are what is counted of a pool beside its statistics. They belong to the
// pool's loop.
type poolEvents struct {
	waits, queries, xacts histogram
	clientErrors          uint64 // told to clients that were logged in
	connects              uint64 // logins to servers
	connectFailures       uint64
}

// loopEvents are what is counted that has no pool. They belong to a loop.
type loopEvents struct {
	cancels      uint64 // requests
	failedLogins uint64
	tlsClients   uint64 // handshakes
	tlsServers   uint64
}

func (e *loopEvents) add(o *loopEvents) {
	e.cancels += o.cancels
	e.failedLogins += o.failedLogins
	e.tlsClients += o.tlsClients
	e.tlsServers += o.tlsServers
}

// countError counts an error that a client is told.
func (w *worker) countError(c *client) {
	if c.pl != nil && c.login == nil {
		c.pl.events.clientErrors++
	} else if c.console == nil {
		w.events.failedLogins++
	}
}

// figures are those of one loop, at its last sweep.
type figures struct {
	latest atomic.Pointer[loopFigures]
}

type loopFigures struct {
	events        loopEvents
	maxClientConn int
	pools         []poolFigures
}

// poolFigures are the figures of one pool at one time.
type poolFigures struct {
	database, user string
	counters       counters
	events         poolEvents
	clients        [len(clientLabels)]int
	servers        [len(serverLabels)]int
	size, reserve  int
	paused         bool
	maxWait        float64
}

// clientLabels and serverLabels are the values of the label state.
var (
	clientLabels = [...]struct {
		name  string
		state pool.ClientState
	}{{"idle", pool.ClientIdle}, {"active", pool.ClientActive}, {"waiting", pool.ClientWaiting}, {"login", pool.ClientWelcome}}
	serverLabels = [...]struct {
		name  string
		state pool.ServerState
	}{
		{"login", pool.ServerLogin}, {"idle", pool.ServerIdle}, {"used", pool.ServerUsed}, {"tested", pool.ServerTested},
		{"active", pool.ServerActive}, {"canceled", pool.ServerCanceled},
	}
)

// figure is a metric of a pool, or of the pooler, that is one number.
type figure[T any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*T) float64
}

func poolDesc(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("pooler_"+name, help, append([]string{"database", "user"}, more...), nil)
}

func poolTotal(name, help string, value func(*poolFigures) float64) figure[poolFigures] {
	return figure[poolFigures]{poolDesc(name, help), prometheus.CounterValue, value}
}

func poolGauge(name, help string, value func(*poolFigures) float64) figure[poolFigures] {
	return figure[poolFigures]{poolDesc(name, help), prometheus.GaugeValue, value}
}

var poolMetrics = []figure[poolFigures]{
	poolTotal("transactions_total", "Transactions.", func(f *poolFigures) float64 { return float64(f.counters.xacts) }),
	poolTotal("queries_total", "Queries.", func(f *poolFigures) float64 { return float64(f.counters.queries) }),
	poolTotal("received_bytes_total", "Bytes from clients.", func(f *poolFigures) float64 { return float64(f.counters.received) }),
	poolTotal("sent_bytes_total", "Bytes to clients.", func(f *poolFigures) float64 { return float64(f.counters.sent) }),
	poolTotal("assignments_total", "Times that a server was given to a client.", func(f *poolFigures) float64 { return float64(f.counters.assignments) }),
	poolTotal("logins_total", "Client logins.", func(f *poolFigures) float64 { return float64(f.counters.logins) }),
	poolTotal("client_parses_total", "Named statements that clients prepared.", func(f *poolFigures) float64 { return float64(f.counters.clientParses) }),
	poolTotal("server_parses_total", "Named statements that were prepared on servers.", func(f *poolFigures) float64 { return float64(f.counters.serverParses) }),
	poolTotal("binds_total", "Uses of named statements.", func(f *poolFigures) float64 { return float64(f.counters.binds) }),
	poolTotal("client_errors_total", "Errors of the pooler's own that logged-in clients were told.", func(f *poolFigures) float64 { return float64(f.events.clientErrors) }),
	poolTotal("server_connects_total", "Logins to servers.", func(f *poolFigures) float64 { return float64(f.events.connects) }),
	poolTotal("server_connect_failures_total", "Connections to servers that failed.", func(f *poolFigures) float64 { return float64(f.events.connectFailures) }),
	poolGauge("max_wait_seconds", "Time that the first client of the queue has waited.", func(f *poolFigures) float64 { return f.maxWait }),
	poolGauge("pool_size", "Limit of servers, without the reserve; 0 is none.", func(f *poolFigures) float64 { return float64(f.size) }),
	poolGauge("reserve_pool_size", "Servers beyond the limit for clients that have waited long.", func(f *poolFigures) float64 { return float64(f.reserve) }),
	poolGauge("paused", "1 while the pool is paused.", func(f *poolFigures) float64 {
		if f.paused {
			return 1
		}
		return 0
	}),
}

// overall are the figures of the pooler as a whole.
type overall struct {
	events        loopEvents
	clients       int64
	maxClientConn int
	maxFiles      uint64
}

func total(name, help string, value func(*overall) float64) figure[overall] {
	return figure[overall]{prometheus.NewDesc("pooler_"+name, help, nil, nil), prometheus.CounterValue, value}
}

func gauge(name, help string, value func(*overall) float64) figure[overall] {
	return figure[overall]{prometheus.NewDesc("pooler_"+name, help, nil, nil), prometheus.GaugeValue, value}
}

var overallMetrics = []figure[overall]{
	total("cancel_requests_total", "Cancel requests from clients and peers.", func(o *overall) float64 { return float64(o.events.cancels) }),
	total("failed_logins_total", "Client logins that ended with an error.", func(o *overall) float64 { return float64(o.events.failedLogins) }),
	total("client_tls_total", "TLS handshakes with clients.", func(o *overall) float64 { return float64(o.events.tlsClients) }),
	total("server_tls_total", "TLS handshakes with servers.", func(o *overall) float64 { return float64(o.events.tlsServers) }),
	gauge("client_connections", "Clients that count against max_client_conn.", func(o *overall) float64 { return float64(o.clients) }),
	gauge("max_client_conn", "Limit of clients.", func(o *overall) float64 { return float64(o.maxClientConn) }),
	gauge("max_descriptors", "Limit of file descriptors; process_open_fds are in use.", func(o *overall) float64 { return float64(o.maxFiles) }),
}

var (
	clientsDesc = poolDesc("clients", "Client connections.", "state")
	serversDesc = poolDesc("servers", "Server connections.", "state")
	histograms  = []struct {
		desc  *prometheus.Desc
		value func(*poolFigures) (*histogram, float64)
	}{
		{poolDesc("wait_duration_seconds", "How long clients waited for a server."), func(f *poolFigures) (*histogram, float64) { return &f.events.waits, f.counters.waitTime.Seconds() }},
		{poolDesc("query_duration_seconds", "How long queries took."), func(f *poolFigures) (*histogram, float64) { return &f.events.queries, f.counters.queryTime.Seconds() }},
		{poolDesc("transaction_duration_seconds", "How long transactions took."), func(f *poolFigures) (*histogram, float64) { return &f.events.xacts, f.counters.xactTime.Seconds() }},
	}
)

func newMetrics(p *Pooler, listen string) (*metrics, error) {
	m := &metrics{p: p, registry: prometheus.NewRegistry()}
	for _, w := range p.workers {
		w.figures.publish(w)
	}
	m.registry.MustRegister(m, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server, err := batch.ServeMetrics(listen, m.registry)
	if err != nil {
		return nil, err
	}
	m.server = server
	p.log.Info("metrics on http://" + server.Addr + "/metrics")
	return m, nil
}

func (m *metrics) stop() { m.server.Stop() }

// publish copies the figures of a loop.
func (f *figures) publish(w *worker) {
	pools := w.manager.Pools()
	l := &loopFigures{events: w.events, maxClientConn: w.set.MaxClientConn, pools: make([]poolFigures, len(pools))}
	for i, q := range pools {
		pl := q.Owner.(*dbPool)
		g := &l.pools[i]
		*g = poolFigures{
			database: pl.db.name, user: pl.user, counters: pl.stats, events: pl.events, paused: q.Paused(),
			size: pl.settings.PoolSize, reserve: pl.settings.ReserveSize, maxWait: q.MaxWait(w.loop.Now()).Seconds(),
		}
		for j, s := range clientLabels {
			g.clients[j] = q.Clients(s.state)
		}
		for j, s := range serverLabels {
			g.servers[j] = q.Servers(s.state)
		}
	}
	f.latest.Store(l)
}

// Describe is part of prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- clientsDesc
	ch <- serversDesc
	for _, h := range histograms {
		ch <- h.desc
	}
	for _, f := range poolMetrics {
		ch <- f.desc
	}
	for _, f := range overallMetrics {
		ch <- f.desc
	}
}

// Collect is part of prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	o := overall{clients: m.p.clientCount.Load()}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		o.maxFiles = limit.Cur
	}
	for _, w := range m.p.workers {
		l := w.figures.latest.Load()
		o.events.add(&l.events)
		o.maxClientConn = l.maxClientConn
		for i := range l.pools {
			l.pools[i].collect(ch)
		}
	}
	for _, f := range overallMetrics {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&o))
	}
}

func (g *poolFigures) collect(ch chan<- prometheus.Metric) {
	for i, s := range clientLabels {
		ch <- prometheus.MustNewConstMetric(clientsDesc, prometheus.GaugeValue, float64(g.clients[i]), g.database, g.user, s.name)
	}
	for i, s := range serverLabels {
		ch <- prometheus.MustNewConstMetric(serversDesc, prometheus.GaugeValue, float64(g.servers[i]), g.database, g.user, s.name)
	}
	for _, f := range poolMetrics {
		ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(g), g.database, g.user)
	}
	for _, h := range histograms {
		times, sum := h.value(g)
		count, buckets := times.cumulative()
		ch <- prometheus.MustNewConstHistogram(h.desc, count, sum, buckets, g.database, g.user)
	}
}
