// SHOW CONFIG.

package pooler

func showConfig(p *Pooler, t *table) {
	t.columns = columns("key value default changeable")
	for _, r := range p.cfg.Rows() {
		changeable := "no"
		if r.Changeable {
			changeable = "yes"
		}
		t.add(r.Key, r.Value, r.Default, changeable)
	}
}
