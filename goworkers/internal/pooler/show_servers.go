// SHOW SERVERS.

package pooler

func showServers(p *Pooler, t *table) {
	t.columns = columns(connColumns)
	p.eachServerSocket(func(s *socket) { t.addSocket(p, s, false) })
	t.sortByNumber(20)
}
