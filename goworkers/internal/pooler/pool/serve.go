// Who is linked, and what is opened for whom.

package pool

// serve links waiting clients to idle servers, in order, and opens what is missing.
func (p *Pool) serve(now Time) {
	p.unhold()
	if p.atRest() {
		return
	}
	waiting, apart := &p.clients[ClientWaiting], &p.clients[clientApart]
	for {
		// Who wants a server of its own takes the place of an idle one in its turn.
		d, c := apart.first, waiting.first
		if d != nil && (c == nil || d.ahead(c)) && p.open(d, forLogin, now) {
			continue
		}
		if c == nil {
			break
		}
		s := p.free(now)
		if s == nil {
			break
		}
		p.linkPair(c, s, now)
		p.m.emit(Action{Kind: Link, Pool: p, Client: c, Server: s})
	}
	for waiting.n > p.tested() && p.servers[ServerUsed].n > 0 {
		s := p.servers[ServerUsed].last
		p.setServer(s, ServerTested, now)
		p.m.emit(Action{Kind: Check, Pool: p, Server: s})
	}
	for p.grow(now) {
	}
}

// grow opens one more connection if one is missing and the limits allow it.
func (p *Pool) grow(now Time) bool {
	c := p.unsupplied()
	d := p.clients[clientApart].first
	switch {
	case d != nil && (c == nil || d.ahead(c)):
		return p.open(d, forLogin, now)
	case c != nil:
		return p.open(nil, forQueue, now)
	case !p.welcome && p.clients[ClientWelcome].n > 0 && p.logins() == 0:
		return p.open(nil, forLogin, now)
	case p.lacksServers():
		return p.open(nil, forStock, now)
	}
	return false
}

// tested is how many servers are tested that soon are free: a rescue may take long.
func (p *Pool) tested() int { return p.servers[ServerTested].n - p.nRescued }

// logins is how many servers log in that all clients may use.
func (p *Pool) logins() int { return p.servers[ServerLogin].n - p.clients[clientOwn].n }

// unsupplied is the first client of the queue for which no server is under way.
func (p *Pool) unsupplied() *Client {
	coming := p.tested() + p.logins()
	if p.clients[ClientWaiting].n <= coming {
		return nil
	}
	c := p.clients[ClientWaiting].first
	for ; coming > 0; coming-- {
		c = c.link.next
	}
	return c
}

// mayConnect tells that another server may begin to log in.
func (p *Pool) mayConnect(now Time) bool {
	slots := 1
	if p.proven {
		slots = max(1, p.Settings.ParallelConnects)
	}
	return p.servers[ServerLogin].n < slots && !p.inRetry(now)
}

// inRetry tells that the pause after an unsuccessful login lasts.
func (p *Pool) inRetry(now Time) bool {
	return p.retrying && now < p.retryFrom+p.Settings.LoginRetry
}

// limit is how many servers the pool may have now; waits says that a client does.
func (p *Pool) limit(waits bool, now Time) int {
	set := p.Settings
	if !waits || set.ReserveSize <= 0 {
		return set.PoolSize
	}
	for _, state := range [...]ClientState{ClientWaiting, clientApart} {
		if c := p.clients[state].first; c != nil && now-c.since >= set.ReserveTimeout {
			return set.PoolSize + set.ReserveSize
		}
	}
	return set.PoolSize
}

// purpose is what a connection is opened for.
type purpose uint8

const (
	forStock purpose = iota // MinPoolSize
	forQueue                // a client that any server of the pool would help
	forLogin                // a client that only a new one helps, an idle one does not
)

// open begins a connection, which is own's alone unless that is nil.
func (p *Pool) open(own *Client, why purpose, now Time) bool {
	if !p.mayConnect(now) {
		return false
	}
	extra := false
	if size := p.Settings.PoolSize; size > 0 {
		limit := p.limit(why != forStock, now)
		for why == forLogin && p.nServers >= limit {
			s := p.idlest(nil)
			if s == nil {
				break
			}
			p.closeServer(s, "evicted", now)
		}
		if p.nServers >= limit {
			return false
		}
		extra = p.nServers >= size
	}
	if !p.place(why, now) {
		return false
	}
	if extra && !p.tookExtra {
		p.m.emit(Action{Kind: ReserveTaken, Pool: p})
	}
	p.tookExtra = extra
	s := &Server{pool: p, created: now, lastUsed: now, dedicated: own != nil}
	p.addServer(s, ServerLogin, now)
	if own != nil {
		own.server, s.client = s, own
		p.moveWaiter(own, clientOwn)
	}
	p.m.emit(Action{Kind: Connect, Pool: p, Server: s})
	return true
}
