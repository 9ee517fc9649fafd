// SHOW STATS_AVERAGES.

package pooler

import "strings"

func showStatsAverages(p *Pooler, t *table) {
	t.columns = columns("database " + strings.Join(bareStatNames("avg_"), " "))
	eachStats(p, func(name string, _ *counters, avg [12]uint64) { t.add(statValues(name, avg)...) })
	t.sort(1)
}
