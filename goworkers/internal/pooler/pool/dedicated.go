// Servers of one client alone, for replication.

package pool

// Dedicated gives a client that is idle, or that belongs to no pool yet, a server of
// its own: the action Connect follows, at once or when its turn comes, and then Link
// or DropClient. The server counts in all limits, serves nobody else and is closed
// when its client goes. A failed login drops this client alone. Pause and RECONNECT
// during the login have it done again.
func (p *Pool) Dedicated(c *Client, now Time) {
	if c.state != ClientIdle && c.state != ClientGone {
		return
	}
	c.pool = p
	p.setClient(c, clientApart, now)
	if p.refusing(now) {
		p.dropClient(c, p.cachedFailure(), now)
		return
	}
	p.serve(now)
}

// dedicatedReady links a dedicated server that has logged in.
func (p *Pool) dedicatedReady(s *Server, now Time) {
	reason := s.closeNeeded
	switch {
	case reason != "":
	case p.paused:
		reason = "pause mode"
	case p.suspended:
		reason = "suspended"
	default:
		c := s.client
		p.linkPair(c, s, now)
		p.m.emit(Action{Kind: Link, Pool: p, Client: c, Server: s})
		p.serve(now) // a login may begin that had to wait for this one
		return
	}
	p.requeue(s)
	p.closeServer(s, reason, now)
	p.freed(now)
}

// requeue has a dedicated server's client wait for another one, in its old turn.
func (p *Pool) requeue(s *Server) {
	c := s.client
	unlink(c, s)
	p.moveWaiter(c, clientApart)
}
