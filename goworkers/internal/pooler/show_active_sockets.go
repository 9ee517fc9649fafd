// SHOW ACTIVE_SOCKETS: those that hold bytes.

package pooler

func showActiveSockets(p *Pooler, t *table) { t.sockets(p, (*socket).active) }
