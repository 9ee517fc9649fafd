// Taking over clients and servers from another process. The pool must be suspended
// meanwhile, or an adopted server could be given to the wrong client; Unsuspend
// begins the work.

package pool

// AdoptServer takes in a server that another process has logged in, idle if that is
// its state and to be checked before use otherwise. It counts in all limits although
// it may exceed them. created is when its connection was begun, owner is the caller's.
func (p *Pool) AdoptServer(state ServerState, created, now Time, owner any) *Server {
	if state != ServerIdle {
		state = ServerUsed
	}
	s := p.adopt(created, now, owner)
	p.addServer(s, state, now)
	return s
}

// AdoptLink takes in a client together with the server that it has, which
// AdoptServer has given: both are active.
func (p *Pool) AdoptLink(c *Client, s *Server, now Time) {
	c.pool = p
	p.linkPair(c, s, now)
}

// AdoptDedicated takes in a replication client together with its own server.
func (p *Pool) AdoptDedicated(c *Client, created, now Time, owner any) *Server {
	s := p.adopt(created, now, owner)
	s.dedicated = true
	c.pool = p
	p.addServer(s, ServerUsed, now)
	p.linkPair(c, s, now)
	return s
}

// AdoptWaiting takes in a client that was in the queue; the order of the calls is
// that of the queue.
func (p *Pool) AdoptWaiting(c *Client, now Time) {
	c.pool = p
	p.setClient(c, ClientWaiting, now)
}

func (p *Pool) adopt(created, now Time, owner any) *Server {
	p.unhold() // a starving pool has no server
	for _, sh := range p.shares {
		if sh != nil {
			sh.n++
			sh.g.n.Add(1)
			sh.g.grants.Add(1)
		}
	}
	return &Server{Owner: owner, pool: p, created: created, lastUsed: now}
}
