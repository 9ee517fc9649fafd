// Cancel requests: a server that one aims at is kept from the next client.

package pool

// Cancel is one cancel request on its way to a server.
type Cancel struct {
	Owner  any
	Server *Server
	epoch  uint32
	sent   bool
	done   bool
}

// Stale tells that the query which was meant has ended already: a cancel
// request that is not sent yet must not be sent any more.
func (k *Cancel) Stale() bool {
	s := k.Server
	return s.state != ServerActive && !(s.state == ServerTested && s.rescued) || s.epoch != k.epoch
}

// MarkSent tells that the request has been written to the server's address, for
// CancelsSent.
func (k *Cancel) MarkSent() {
	if !k.sent && !k.done {
		k.sent = true
		k.Server.pool.cancelsSent++
	}
}

// Cancels is the number of cancel requests on their way, sent or not.
func (p *Pool) Cancels() int { return p.cancels }

// CancelsSent is the number of those that were sent and have not yet arrived.
func (p *Pool) CancelsSent() int { return p.cancelsSent }

// CancelQuery begins a cancel request for the query of an active client. It
// returns nil when there is nothing to cancel or too many are on their way.
func (p *Pool) CancelQuery(c *Client) *Cancel {
	if c.state != ClientActive {
		return nil
	}
	return p.cancelServer(c.server)
}

// CancelRescue begins a cancel request for what runs on a server that is being
// rescued, so that the server is kept from the next client until it has arrived. It
// returns nil when the server is not being rescued or too many are on their way.
func (p *Pool) CancelRescue(s *Server) *Cancel {
	if s.state != ServerTested || !s.rescued {
		return nil
	}
	return p.cancelServer(s)
}

func (p *Pool) cancelServer(s *Server) *Cancel {
	if size := p.Settings.PoolSize; size > 0 && p.cancels >= 2*size {
		return nil
	}
	p.cancels++
	s.cancels++
	return &Cancel{Server: s, epoch: s.epoch}
}

// CancelDone tells that a cancel request has arrived, or will never be sent.
func (p *Pool) CancelDone(k *Cancel, now Time) {
	if k.done {
		return
	}
	k.done = true
	p.cancels--
	if k.sent {
		p.cancelsSent--
	}
	s := k.Server
	s.cancels--
	if s.cancels == 0 && s.state == ServerCanceled {
		if !p.closeIfDue(s, now) {
			p.resetOrIdle(s, now)
		}
	}
}
