package ticker

// What /metrics tells of queues and consumers: asked of the database when somebody
// asks us, so that it is never stale and costs nothing where nobody looks.

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"goworkers/batch"
)

// reportTimeout bounds what one database may take of a scrape.
const reportTimeout = 5 * time.Second

// report asks one database. It has a connection of its own, since a scrape comes
// when it likes.
type report struct {
	mu      sync.Mutex
	conn    *pgx.Conn
	opened  time.Time
	blocks  bool // the schema has rotation_blockers
	closed  bool
	trouble batch.Trouble
}

// measure is one kind of series: what it is called, and where it comes from.
type measure struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	column int // of the query, behind the labels
}

var (
	queueLabels    = []string{"database", "queue"}
	consumerLabels = []string{"database", "queue", "consumer"}
	blockerLabels  = []string{"database", "queue", "kind", "consumer"}
)

func series(name, help string, labels []string) *prometheus.Desc {
	return prometheus.NewDesc("skytools_queue_"+name, help, labels, nil)
}

// The columns of a query: names that are labels, then as many values as there are
// measures, in their order. A null gives no series.
var (
	queueMeasures = measures(queueLabels, []measured{
		{"tick_age_seconds", "Age of the queue's last tick.", prometheus.GaugeValue},
		{"tick_idle_period_seconds", "The longest time between two ticks that the queue's settings want.", prometheus.GaugeValue},
		{"ticker_off", "1 while the queue is paused or gets its ticks from elsewhere, else 0.", prometheus.GaugeValue},
		{"ticks_total", "Ticks since the queue was created.", prometheus.CounterValue},
		{"events_total", "Events since the queue was created, by its sequence; forced ticks add to it.", prometheus.CounterValue},
		{"events_per_second", "Events a second between the last 20 ticks.", prometheus.GaugeValue},
		{"new_events", "Events since the last tick.", prometheus.GaugeValue},
		{"rotation_age_seconds", "Time since the queue's tables were last rotated.", prometheus.GaugeValue},
		{"rotation_period_seconds", "How often the tables are to be rotated.", prometheus.GaugeValue},
		{"table_bytes", "Size of the queue's event tables, with indexes.", prometheus.GaugeValue},
		{"delayed_events", "Events to be delivered at a later time.", prometheus.GaugeValue},
	})
	consumerMeasures = measures(consumerLabels, []measured{
		{"consumer_lag_seconds", "Age of the last tick that the consumer has done.", prometheus.GaugeValue},
		{"consumer_last_seen_seconds", "Time since the consumer took or finished a batch.", prometheus.GaugeValue},
		{"consumer_pending_events", "Events between the consumer's place and the last tick.", prometheus.GaugeValue},
		{"consumer_ticks_total", "The last tick that the consumer has done; its rate is that of its batches where each has one tick.", prometheus.CounterValue},
		{"consumer_batch_open", "1 while the consumer works on a batch, else 0.", prometheus.GaugeValue},
		{"consumer_paused", "1 while the consumer is paused, else 0.", prometheus.GaugeValue},
		{"consumer_retry_events", "Events that wait for another try.", prometheus.GaugeValue},
		{"consumer_dead_events", "Events that the consumer has given up.", prometheus.GaugeValue},
	})
	blockerMeasures = measures(blockerLabels, []measured{
		{"rotation_blocked_seconds", "Time since the queue's rotation is due, by what holds it up.", prometheus.GaugeValue},
	})
	failingDesc = series("failing", "1 while the queue cannot be ticked.", queueLabels)
)

type measured struct {
	name, help string
	kind       prometheus.ValueType
}

func measures(labels []string, list []measured) []measure {
	var all []measure
	for i, m := range list {
		all = append(all, measure{series(m.name, m.help, labels), m.kind, i})
	}
	return all
}

const (
	// A queue whose sequence or tables are missing shows less, and hides no other. An
	// infinite time has an infinite age: seconds are subtracted, since before 17 times
	// like that are not.
	queuesSQL = `
		select q.queue_name,
		       extract(epoch from pg_catalog.clock_timestamp())::float8 - extract(epoch from top.tick_time)::float8,
		       extract(epoch from q.queue_ticker_idle_period)::float8,
		       (q.queue_external_ticker or q.queue_ticker_paused)::int::float8,
		       top.tick_id::float8,
		       coalesce(seq.value, top.tick_event_seq)::float8,
		       (top.tick_event_seq - first.tick_event_seq)::float8
		           / nullif(extract(epoch from top.tick_time)::float8 - extract(epoch from first.tick_time)::float8, 0),
		       coalesce(seq.value - top.tick_event_seq, 0)::float8,
		       extract(epoch from pg_catalog.clock_timestamp())::float8 - extract(epoch from q.queue_switch_time)::float8,
		       extract(epoch from q.queue_rotation_period)::float8,
		       (select sum(pg_catalog.pg_total_relation_size(t.inhrelid))
		          from pg_catalog.pg_inherits t
		         where t.inhparent = pg_catalog.to_regclass(q.queue_data_pfx)::oid)::float8,
		       coalesce(d.n, 0)::float8
		  from pgq.queue q
		  left join lateral (
		       select t.tick_id, t.tick_time, t.tick_event_seq
		         from pgq.tick t
		        where t.tick_queue = q.queue_id
		        order by t.tick_id desc
		        limit 1) top on true
		  left join lateral (
		       select t.tick_time, t.tick_event_seq
		         from pgq.tick t
		        where t.tick_queue = q.queue_id and t.tick_id >= top.tick_id - 20
		        order by t.tick_id
		        limit 1) first on true
		 cross join lateral (
		       select pg_catalog.pg_sequence_last_value(pg_catalog.to_regclass(q.queue_event_seq)) as value) seq
		  left join (select r.ev_queue, count(*) as n from pgq.retry_queue r where r.ev_owner <= 0 group by 1) d
		       on d.ev_queue = q.queue_id`

	// Several subscriptions may share one owner of retried events (slots,
	// subconsumers): the first of them shows these.
	consumersSQL = `
		select q.queue_name, c.co_name,
		       extract(epoch from pg_catalog.clock_timestamp())::float8 - extract(epoch from done.tick_time)::float8,
		       extract(epoch from pg_catalog.clock_timestamp())::float8 - extract(epoch from s.sub_active)::float8,
		       (top.tick_event_seq - done.tick_event_seq)::float8,
		       s.sub_last_tick::float8,
		       (s.sub_batch is not null)::int::float8,
		       coalesce((pg_catalog.to_jsonb(s)->>'sub_paused'::text)::boolean, false)::int::float8,
		       case when s.first then coalesce(r.waiting, 0) end::float8,
		       case when s.first then coalesce(r.dead, 0) end::float8
		  from (select s.*, s.sub_consumer = min(s.sub_consumer) over (partition by s.sub_id) as first
		          from pgq.subscription s) s
		  join pgq.queue q on q.queue_id = s.sub_queue
		  join pgq.consumer c on c.co_id = s.sub_consumer
		  left join pgq.tick done on done.tick_queue = s.sub_queue and done.tick_id = s.sub_last_tick
		  left join lateral (
		       select t.tick_event_seq
		         from pgq.tick t
		        where t.tick_queue = s.sub_queue
		        order by t.tick_id desc
		        limit 1) top on true
		  left join (
		       select ev_owner,
		              count(*) filter (where ev_retry_after < 'infinity') as waiting,
		              count(*) filter (where ev_retry_after = 'infinity') as dead
		         from pgq.retry_queue
		        group by 1) r on r.ev_owner = s.sub_id`

	// Transactions are many and short-lived: they are one series. Retention is no fault.
	blockersSQL = `
		select queue_name, blocker_kind,
		       case when blocker_kind = 'consumer' then coalesce(blocker, '') else '' end,
		       extract(epoch from pg_catalog.clock_timestamp())::float8 - extract(epoch from min(rotation_due_since))::float8
		  from pgq.rotation_blockers
		 where blocker_kind <> 'retention'
		 group by 1, 2, 3`

	hasBlockersSQL = `select pg_catalog.to_regclass('pgq.rotation_blockers') is not null`
)

// Describe names the series.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, list := range [][]measure{queueMeasures, consumerMeasures, blockerMeasures} {
		for _, m := range list {
			ch <- m.desc
		}
	}
	ch <- failingDesc
}

// Collect asks the databases, all at the same time. One that does not answer in
// time is left out, and counted.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	var all []*database
	for _, d := range m.shown {
		all = append(all, d)
	}
	m.mu.Unlock()
	var done sync.WaitGroup
	for _, d := range all {
		if d.active.Load() {
			done.Go(func() { d.collect(ch) })
		}
	}
	done.Wait()
}

// collect sends the series of one database; those that it has to be asked for all,
// or none.
func (d *database) collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
	defer cancel()
	r := &d.report
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for _, queue := range d.faults.queues() {
		ch <- prometheus.MustNewConstMetric(failingDesc, prometheus.GaugeValue, 1, d.target.name, strings.ToValidUTF8(queue, "?"))
	}
	list, err := d.ask(ctx)
	if err != nil {
		r.drop()
		d.metrics.errors.WithLabelValues(d.target.name, "metrics").Inc()
		if d.up() { // else it is told already
			r.trouble.Note(d.log.WithField("loop", "metrics"), err, 0)
		}
		return
	}
	r.trouble.Over(d.log.WithField("loop", "metrics"))
	for _, metric := range list {
		ch <- metric
	}
}

// up says whether the database can be reached, as far as the loops know.
func (d *database) up() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state != "lost"
}

func (d *database) ask(ctx context.Context) ([]prometheus.Metric, error) {
	r := &d.report
	if r.conn != nil && d.settings.lifetime > 0 && time.Since(r.opened) >= d.settings.lifetime {
		r.drop()
	}
	if r.conn == nil {
		conn, err := batch.Connect(ctx, d.dsn, d.settings.application)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.target.key, err)
		}
		r.conn, r.opened = conn, time.Now()
		if err := conn.QueryRow(ctx, hasBlockersSQL).Scan(&r.blocks); err != nil {
			return nil, fmt.Errorf("look for pgq.rotation_blockers: %w", err)
		}
	}
	var list []prometheus.Metric
	for _, q := range []struct {
		sql      string
		labels   int
		measures []measure
		skip     bool
	}{
		{queuesSQL, len(queueLabels) - 1, queueMeasures, false},
		{consumersSQL, len(consumerLabels) - 1, consumerMeasures, false},
		{blockersSQL, len(blockerLabels) - 1, blockerMeasures, !r.blocks},
	} {
		if q.skip {
			continue
		}
		rows, err := r.conn.Query(ctx, q.sql)
		if err != nil {
			return nil, fmt.Errorf("measure the queues: %w", err)
		}
		names, values := make([]string, q.labels), make([]*float64, len(q.measures))
		var into []any
		for i := range names {
			into = append(into, &names[i])
		}
		for i := range values {
			into = append(into, &values[i])
		}
		if _, err := pgx.ForEachRow(rows, into, func() error {
			labels := []string{d.target.name}
			for _, name := range names {
				labels = append(labels, strings.ToValidUTF8(name, "?"))
			}
			for _, m := range q.measures {
				if value := values[m.column]; value != nil {
					list = append(list, prometheus.MustNewConstMetric(m.desc, m.kind, *value, labels...))
				}
			}
			return nil
		}); err != nil {
			return nil, fmt.Errorf("measure the queues: %w", err)
		}
	}
	return list, nil
}

func (r *report) drop() {
	if r.conn != nil {
		closeConn(r.conn)
		r.conn = nil
	}
}

// close gives the connection back; nothing is asked any more.
func (r *report) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.drop()
}
