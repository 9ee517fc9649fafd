// SHOW STATE.

package pooler

func showState(p *Pooler, t *table) {
	t.columns = columns("key value")
	yes := map[bool]string{true: "yes", false: "no"}
	t.add("active", yes[!p.paused && p.suspended == suspendNot])
	t.add("paused", yes[p.paused])
	t.add("suspended", yes[p.suspended != suspendNot])
}
