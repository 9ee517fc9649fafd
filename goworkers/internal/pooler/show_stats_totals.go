// SHOW STATS_TOTALS.

package pooler

import "strings"

func showStatsTotals(p *Pooler, t *table) {
	t.columns = columns("database " + strings.Join(bareStatNames(""), " "))
	eachStats(p, func(name string, now *counters, _ [12]uint64) { t.add(statValues(name, now.totals())...) })
	t.sort(1)
}

// bareStatNames are the columns without prefix, but for that of the last four.
func bareStatNames(last string) []string {
	var names []string
	for i, n := range statNames {
		switch {
		case n == "received" || n == "sent":
			n = "bytes_" + n
		case i >= 8:
			n = last + n
		}
		names = append(names, n+":n")
	}
	return names
}
