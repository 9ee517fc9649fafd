// SHOW TOTALS.

package pooler

// The names of SHOW TOTALS, in the order of statNames.
var totalNames = [12]string{
	"server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes", "xact_time", "query_time", "wait_time",
	"ps_client_parse_count", "ps_server_parse_count", "ps_bind_count", "client_login_count",
}

func showTotals(p *Pooler, t *table) {
	t.columns = columns("name value:n")
	var sum counters
	var old [2]counters
	p.eachCounted(func(_ string, now *counters, was *[2]counters) {
		sum.add(now)
		for i := range old {
			old[i].add(&was[i])
		}
	})
	total, average := sum.totals(), p.statsAverages(&sum, &old)
	for i, name := range totalNames {
		t.add("total_"+name, total[i])
	}
	for i, name := range totalNames {
		t.add("avg_"+name, average[i])
	}
}
