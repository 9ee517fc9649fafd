// SHOW SOCKETS.

package pooler

func showSockets(p *Pooler, t *table) { t.sockets(p, func(*socket) bool { return true }) }

// sockets adds the connections that are wanted.
func (t *table) sockets(p *Pooler, wanted func(*socket) bool) {
	t.columns = columns(connColumns + bufferColumns)
	add := func(s *socket) {
		if wanted(s) {
			t.addSocket(p, s, true)
		}
	}
	p.eachClientSocket(add)
	p.eachServerSocket(add)
	t.sortByNumber(20)
}
