// SHOW STATS.

package pooler

import "strings"

// Columns of SHOW STATS whose average has a name of its own.
var averageNames = map[string]string{"received": "recv"}

// eachCounted calls f for each database with its counters, now and at the ends of the
// last two stats periods; the console is among them.
func (p *Pooler) eachCounted(f func(name string, now *counters, old *[2]counters)) {
	for _, db := range p.databases {
		now, old := databaseStats(db)
		f(db.name, &now, &old)
	}
	f(consoleName, &p.consolePool.stats, &p.consolePool.shown)
}

// eachStats calls f for each database with its counters and averages.
func eachStats(p *Pooler, f func(name string, now *counters, avg [12]uint64)) {
	p.eachCounted(func(name string, now *counters, old *[2]counters) { f(name, now, p.statsAverages(now, old)) })
}

func statValues(name string, groups ...[12]uint64) []any {
	values := []any{name}
	for _, g := range groups {
		for _, v := range g {
			values = append(values, v)
		}
	}
	return values
}

func showStats(p *Pooler, t *table) {
	names := []string{"database"}
	for _, n := range statNames {
		names = append(names, "total_"+n+":n")
	}
	for _, n := range statNames {
		if short, ok := averageNames[n]; ok {
			n = short
		}
		names = append(names, "avg_"+n+":n")
	}
	t.columns = columns(strings.Join(names, " "))
	eachStats(p, func(name string, now *counters, avg [12]uint64) {
		t.add(statValues(name, now.totals(), avg)...)
	})
	t.sort(1)
}
