// SHOW STATS.

package pooler

import "strings"

// Columns of SHOW STATS whose average has a name of its own.
var averageNames = map[string]string{"received": "recv"}

// eachStats calls f for each database with its counters, the console among them.
func eachStats(p *Pooler, f func(name string, now *counters, avg [12]uint64)) {
	for _, db := range p.databases {
		now, old := databaseStats(db)
		f(db.name, &now, p.statsAverages(&now, &old))
	}
	pl := p.consolePool
	f(consoleName, &pl.stats, p.statsAverages(&pl.stats, &pl.shown))
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
