// SHOW CLIENTS.

package pooler

func showClients(p *Pooler, t *table) {
	t.columns = columns(connColumns)
	p.eachClientSocket(func(s *socket) {
		if s.state != "login" {
			t.addSocket(p, s, false)
		}
	})
	t.sortByNumber(20)
}
