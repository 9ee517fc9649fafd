// What the console asks for: PAUSE, SUSPEND, RECONNECT, KILL.

package pool

import "time"

// Pause stops linking: clients queue, free servers are closed, active ones when
// they are released. The pool is at rest when Busy says no.
func (p *Pool) Pause(now Time) {
	p.paused = true
	p.unhold()
	p.closeFree("pause mode", now)
}

// Resume ends Pause.
func (p *Pool) Resume(now Time) {
	p.paused = false
	p.serve(now)
}

// Suspend stops linking and opening: clients queue, servers stay as they are. Only
// what has begun goes on: logins, resets, checks, rescues.
func (p *Pool) Suspend(Time) {
	p.suspended = true
	p.unhold()
}

// Unsuspend ends Suspend.
func (p *Pool) Unsuspend(now Time) {
	p.suspended = false
	p.freed(now)
}

// closeFree closes the servers that nobody uses.
func (p *Pool) closeFree(reason string, now Time) {
	for _, state := range [...]ServerState{ServerIdle, ServerUsed} {
		for s := p.servers[state].first; s != nil; s = p.servers[state].first {
			p.closeServer(s, reason, now)
		}
	}
	p.freed(now)
}

// Reconnect has each server closed as soon as it is free.
func (p *Pool) Reconnect(reason string, now Time) {
	p.EachServer(func(s *Server) {
		s.closeNeeded, s.obsolete = reason, false
	})
	p.obsolete = 0
	p.closeFree(reason, now)
}

// slowly is how far ReconnectSlowly has come.
type slowly struct {
	from      Time // of the second that runs
	done      int  // servers in it
	perSecond int
}

// ReconnectSlowly has the servers that exist now closed as Reconnect does, but only so
// many a second, at least one: Sweep marks them, free ones first. Servers opened
// later are not touched. A second call begins anew, Reconnect ends it.
func (p *Pool) ReconnectSlowly(reason string, perSecond int, now Time) {
	p.obsolete = 0
	p.EachServer(func(s *Server) {
		if s.obsolete = s.closeNeeded == ""; s.obsolete {
			p.obsolete++
		}
	})
	p.slowReason = reason
	p.slowly = slowly{from: now, perSecond: max(1, perSecond)}
	if p.reconnectSome(now) {
		p.freed(now)
	}
}

// Reconnecting tells that ReconnectSlowly has not yet come to all servers.
func (p *Pool) Reconnecting() bool { return p.obsolete > 0 }

// reconnectSome marks the servers that ReconnectSlowly may come to by now; it reports
// whether one was closed.
func (p *Pool) reconnectSome(now Time) (closed bool) {
	if p.obsolete == 0 || p.suspended {
		return false
	}
	k := &p.slowly
	if past := now - k.from; past >= time.Second {
		k.from += past.Truncate(time.Second)
		k.done = 0
	}
	may := 1 + int(int64(k.perSecond)*int64(now-k.from)/int64(time.Second))
	for _, state := range [...]ServerState{ServerIdle, ServerUsed, ServerActive, ServerTested, ServerCanceled, ServerLogin} {
		for s := p.servers[state].first; s != nil && k.done < may; {
			next := s.link.next
			if s.obsolete {
				k.done++
				s.obsolete = false
				p.obsolete--
				s.closeNeeded = p.slowReason
				if isFree(state) {
					p.closeServer(s, s.closeNeeded, now)
					closed = true
				}
			}
			s = next
		}
	}
	return closed
}

// Kill closes all servers and drops all clients, telling them the reason.
func (p *Pool) Kill(reason string, now Time) {
	for i := range p.servers {
		for s := p.servers[i].first; s != nil; s = p.servers[i].first {
			c := s.client
			if c != nil {
				unlink(c, s)
			}
			p.closeServer(s, reason, now)
			if c != nil {
				p.dropClient(c, Failure{Message: reason}, now)
			}
		}
	}
	for i := range p.clients {
		for c := p.clients[i].first; c != nil; c = p.clients[i].first {
			p.dropClient(c, Failure{Message: reason}, now)
		}
	}
	p.freed(now)
}
