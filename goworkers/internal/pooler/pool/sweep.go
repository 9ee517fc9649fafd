// What time brings.

package pool

// Sweep does what time brings; call it some times a second.
func (m *Manager) Sweep(now Time) {
	m.sweeps++
	// A pool cannot disappear meanwhile: RemovePool is the caller's.
	for _, p := range m.pools {
		if p.nServers > 0 || p.hungry || p.lacksServers() {
			p.sweep(now)
		}
	}
}

func (p *Pool) sweep(now Time) {
	servers := p.nServers
	p.sweepUnready(now)
	if !p.suspended {
		p.sweepQueue(now)
		p.reconnectSome(now)
		p.sweepFree(now)
	}
	// What was closed may have held up a pool that has been swept already.
	if p.nServers < servers {
		p.freed(now)
	} else {
		p.serve(now)
	}
}

// sweepUnready ends logins and rescues that take too long.
func (p *Pool) sweepUnready(now Time) {
	if limit := p.Settings.ConnectTimeout; limit > 0 {
		for s := p.servers[ServerLogin].first; s != nil; {
			next := s.link.next
			if now-s.created >= limit {
				p.closeServer(s, "connect timeout", now)
				p.loginDeferred(s, now)
			}
			s = next
		}
	}
	if limit := p.Settings.RescueTimeout; limit > 0 {
		for s := p.servers[ServerTested].first; s != nil; {
			next := s.link.next
			if s.rescued && now-s.since >= limit {
				p.closeServer(s, "rescue timeout", now)
			}
			s = next
		}
	}
}

// sweepQueue drops clients that have waited too long, logins among them.
func (p *Pool) sweepQueue(now Time) {
	limit := p.Settings.QueryWait
	if limit <= 0 {
		return
	}
	for _, state := range [...]ClientState{ClientWelcome, ClientWaiting, clientApart, clientOwn} {
		for c := p.clients[state].first; c != nil && now-c.since >= limit; c = p.clients[state].first {
			if s := c.server; s != nil {
				unlink(c, s)
				p.closeServer(s, "query_wait_timeout", now)
			}
			p.dropClient(c, Failure{Message: "query_wait_timeout"}, now)
		}
	}
}

// sweepFree closes free servers that are too old or have been free for too long.
func (p *Pool) sweepFree(now Time) {
	set := p.Settings
	for _, state := range [...]ServerState{ServerIdle, ServerUsed} {
		for s := p.servers[state].first; s != nil; {
			next := s.link.next
			switch {
			case s.closeNeeded != "":
				p.closeServer(s, s.closeNeeded, now)
			case p.aged(s, now):
				p.lastAged, p.agedOnce = now, true
				p.closeServer(s, "server lifetime over", now)
			case set.ServerIdle > 0 && now-s.lastUsed >= set.ServerIdle && p.nServers-p.nDedicated > set.MinPoolSize:
				p.closeServer(s, "server idle timeout", now)
			case state == ServerIdle && set.Check && now-s.lastUsed >= set.CheckDelay:
				p.setServer(s, ServerUsed, now)
			}
			s = next
		}
	}
}
