// What is counted, for SHOW STATS, the log and the metrics.

package pooler

import (
	"fmt"
	"time"

	"goworkers/internal/pooler/systemd"
)

// counters of one pool. They are written by the loop alone, without locks; others
// get copies.
type counters struct {
	assignments, xacts, queries       uint64
	received, sent                    uint64
	xactTime, queryTime, waitTime     time.Duration
	clientParses, serverParses, binds uint64
	logins                            uint64
}

func (c *counters) add(o *counters) {
	c.assignments += o.assignments
	c.xacts += o.xacts
	c.queries += o.queries
	c.received += o.received
	c.sent += o.sent
	c.xactTime += o.xactTime
	c.queryTime += o.queryTime
	c.waitTime += o.waitTime
	c.clientParses += o.clientParses
	c.serverParses += o.serverParses
	c.binds += o.binds
	c.logins += o.logins
}

// totals are the columns of SHOW STATS in their order.
func (c *counters) totals() [12]uint64 {
	us := func(d time.Duration) uint64 { return uint64(d / time.Microsecond) }
	return [12]uint64{
		c.assignments, c.xacts, c.queries, c.received, c.sent, us(c.xactTime), us(c.queryTime), us(c.waitTime),
		c.clientParses, c.serverParses, c.binds, c.logins,
	}
}

// averages are the same columns per second, and times per transaction, query and
// assignment, between an older state and c.
func (c *counters) averages(old *counters, elapsed time.Duration) [12]uint64 {
	now, was := c.totals(), old.totals()
	var avg [12]uint64
	seconds := elapsed.Seconds()
	for i := range now {
		if d := now[i] - was[i]; seconds > 0 {
			avg[i] = uint64(float64(d) / seconds)
		}
	}
	per := func(time, count int) {
		avg[time] = 0
		if n := now[count] - was[count]; n > 0 {
			avg[time] = (now[time] - was[time]) / n
		}
	}
	per(5, 1)
	per(6, 2)
	per(7, 0)
	return avg
}

// statNames are the columns of SHOW STATS without their prefix.
var statNames = [12]string{
	"server_assignment_count", "xact_count", "query_count", "received", "sent", "xact_time", "query_time", "wait_time",
	"client_parse_count", "server_parse_count", "bind_count", "client_login_count",
}

// databaseStats sums up the pools of a database: now, and at the ends of the last two
// stats periods.
func databaseStats(db *database) (now counters, old [2]counters) {
	for _, pl := range db.pools {
		now.add(&pl.stats)
		for i := range old {
			old[i].add(&pl.shown[i])
		}
	}
	return now, old
}

// statsAverages are the averages of a database over the last whole stats period; in
// the first one, since the start.
func (p *Pooler) statsAverages(now *counters, old *[2]counters) [12]uint64 {
	if p.periods == 0 {
		return now.averages(&counters{}, p.now())
	}
	return old[0].averages(&old[1], p.periodEnds[0]-p.periodEnds[1])
}

// endPeriod shifts the generations, and tells the averages to the log and the service
// manager.
func (p *Pooler) endPeriod() {
	now := p.now()
	var sum counters
	var old [2]counters
	shift := func(pl *dbPool) {
		pl.shown[1], pl.shown[0] = pl.shown[0], pl.stats
		sum.add(&pl.stats)
		for i := range old {
			old[i].add(&pl.shown[i])
		}
	}
	for _, db := range p.databases {
		for _, pl := range db.pools {
			shift(pl)
		}
	}
	shift(p.consolePool)
	p.periodEnds[1], p.periodEnds[0] = p.periodEnds[0], now
	p.periods++
	a := p.statsAverages(&sum, &old)
	line := fmt.Sprintf("stats: %d xacts/s, %d queries/s, %d client parses/s, %d server parses/s, %d binds/s, "+
		"%d client logins/s, in %d B/s, out %d B/s, xact %d us, query %d us, wait %d us",
		a[1], a[2], a[8], a[9], a[10], a[11], a[3], a[4], a[5], a[6], a[7])
	if p.set.LogStats {
		p.log.Info(line)
	}
	p.tell(systemd.Status(line))
}
