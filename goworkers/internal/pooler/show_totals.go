// SHOW TOTALS.

package pooler

// The names of SHOW TOTALS, in the order of statNames.
var totalNames = [12]string{
	"server_assignment_count", "xact_count", "query_count", "client_bytes", "server_bytes", "xact_time", "query_time", "wait_time",
	"ps_client_parse_count", "ps_server_parse_count", "ps_bind_count", "client_login_count",
}

func showTotals(p *Pooler, t *table) {
	t.columns = columns("name value:q")
	var total, average [12]uint64
	eachStats(p, func(_ string, now *counters, avg [12]uint64) {
		for i, v := range now.totals() {
			total[i] += v
			average[i] += avg[i]
		}
	})
	for i, name := range totalNames {
		t.add("total_"+name, total[i])
	}
	for i, name := range totalNames {
		t.add("avg_"+name, average[i])
	}
}
