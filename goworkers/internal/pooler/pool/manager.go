// The rules: who is linked, what is opened, what is closed.

package pool

import "time"

// Manager is all pools together. It is not safe for concurrent use.
type Manager struct {
	pools   []*Pool
	actions []Action
	next    int
}

// Next gives the next action to carry out. Actions that carrying one out brings
// about come after those that were there.
func (m *Manager) Next() (Action, bool) {
	if m.next == len(m.actions) {
		clear(m.actions)
		m.actions, m.next = m.actions[:0], 0
		return Action{}, false
	}
	m.next++
	return m.actions[m.next-1], true
}

func (m *Manager) emit(a Action) { m.actions = append(m.actions, a) }

// Pools are all pools, in the order of their making.
func (m *Manager) Pools() []*Pool { return m.pools }

// AddPool makes a pool. Either group may be nil.
func (m *Manager) AddPool(s *Settings, database, user *Group, owner any) *Pool {
	p := &Pool{Settings: s, Owner: owner, m: m, groups: [2]*Group{database, user}}
	m.pools = append(m.pools, p)
	return p
}

// RemovePool forgets a pool that has neither clients nor servers; it reports
// false when it has.
func (m *Manager) RemovePool(p *Pool) bool {
	if p.TotalClients() > 0 || p.TotalServers() > 0 || p.cancels > 0 {
		return false
	}
	for i, q := range m.pools {
		if q == p {
			m.pools = append(m.pools[:i], m.pools[i+1:]...)
			break
		}
	}
	return true
}

// setClient moves a client to a state's list.
func (p *Pool) setClient(c *Client, to ClientState, now Time) {
	if c.state != ClientGone {
		p.clients[c.state].remove(c)
	}
	c.state, c.since = to, now
	if to != ClientGone {
		p.clients[to].pushBack(c)
	}
}

// setServer moves a server to a state's list.
func (p *Pool) setServer(s *Server, to ServerState, now Time) {
	if s.state != ServerGone {
		p.servers[s.state].remove(s)
	}
	s.state, s.since = to, now
	switch to {
	case ServerGone:
	case ServerIdle:
		// Last in, first out, so that what is not needed gets old.
		if p.Settings.RoundRobin {
			p.servers[to].pushBack(s)
		} else {
			p.servers[to].pushFront(s)
		}
	default:
		p.servers[to].pushBack(s)
	}
}

// AddClient takes in a client that has logged in.
func (p *Pool) AddClient(c *Client, now Time) {
	c.pool = p
	p.setClient(c, ClientIdle, now)
}

// AwaitWelcome takes in a client whose login needs a server's answer, which only
// the first server login of the pool brings: the action Welcome or DropClient follows.
func (p *Pool) AwaitWelcome(c *Client, now Time) {
	c.pool = p
	p.setClient(c, ClientWelcome, now)
	switch {
	case p.welcome:
		p.setClient(c, ClientIdle, now)
		p.m.emit(Action{Kind: Welcome, Pool: p, Client: c})
	case p.refusing(now):
		p.dropClient(c, p.cachedFailure(), now)
	default:
		p.serve(now)
	}
}

// ForgetWelcome has the next clients wait for a server login again.
func (p *Pool) ForgetWelcome() { p.welcome = false }

// Request asks for a server for an idle client. It returns the server when the
// client is linked at once; otherwise the client waits for Link or DropClient.
func (p *Pool) Request(c *Client, now Time) *Server {
	if c.state != ClientIdle {
		return c.server
	}
	// An idle server while others wait exists only between two actions.
	if !p.paused && p.clients[ClientWaiting].n == 0 {
		if s := p.servers[ServerIdle].first; s != nil {
			p.linkPair(c, s, now)
			return s
		}
	}
	if p.refusing(now) {
		p.dropClient(c, p.cachedFailure(), now)
		return nil
	}
	p.setClient(c, ClientWaiting, now)
	p.serve(now)
	return nil
}

func (p *Pool) linkPair(c *Client, s *Server, now Time) {
	p.setClient(c, ClientActive, now)
	p.setServer(s, ServerActive, now)
	c.server, s.client = s, c
	s.lastUsed = now
}

func unlink(c *Client, s *Server) {
	c.server, s.client = nil, nil
}

// serve links waiting clients to idle servers, in order, and opens what is missing.
func (p *Pool) serve(now Time) {
	if p.paused {
		return
	}
	waiting := &p.clients[ClientWaiting]
	for waiting.n > 0 && p.servers[ServerIdle].n > 0 {
		c, s := waiting.first, p.servers[ServerIdle].first
		p.linkPair(c, s, now)
		p.m.emit(Action{Kind: Link, Pool: p, Client: c, Server: s})
	}
	for waiting.n > p.servers[ServerTested].n && p.servers[ServerUsed].n > 0 {
		s := p.servers[ServerUsed].last
		p.setServer(s, ServerTested, now)
		p.m.emit(Action{Kind: Check, Pool: p, Server: s})
	}
	if waiting.n > p.servers[ServerTested].n || !p.welcome && p.clients[ClientWelcome].n > 0 {
		p.grow(now)
	} else if p.TotalServers() < p.Settings.MinPoolSize && (p.Settings.FillAlways || p.TotalClients() > 0) {
		p.grow(now)
	}
}

// grow opens one more connection if the limits allow it.
func (p *Pool) grow(now Time) {
	if p.servers[ServerLogin].n > 0 || p.failing && now < p.failedAt+p.Settings.LoginRetry {
		return
	}
	total := p.TotalServers()
	if size := p.Settings.PoolSize; size > 0 && total >= size {
		if total >= size+p.Settings.ReserveSize || p.clients[ClientWaiting].n == 0 ||
			p.MaxWait(now) < p.Settings.ReserveTimeout {
			return
		}
		if !p.tookExtra {
			p.tookExtra = true
			p.m.emit(Action{Kind: ReserveTaken, Pool: p})
		}
	} else {
		p.tookExtra = false
	}
	for _, g := range p.groups {
		if g != nil && g.Max > 0 && g.n >= g.Max && !p.m.evict(g, p, now) {
			return
		}
	}
	s := &Server{pool: p, created: now, lastUsed: now}
	for _, g := range p.groups {
		if g != nil {
			g.n++
		}
	}
	p.setServer(s, ServerLogin, now)
	p.m.emit(Action{Kind: Connect, Pool: p, Server: s})
}

// evict closes the server that has been idle longest in the group's other pools.
func (m *Manager) evict(g *Group, except *Pool, now Time) bool {
	var oldest *Server
	for _, p := range m.pools {
		if p == except || p.groups[0] != g && p.groups[1] != g {
			continue
		}
		for _, state := range [...]ServerState{ServerIdle, ServerUsed} {
			for s := p.servers[state].first; s != nil; s = s.link.next {
				if oldest == nil || s.lastUsed < oldest.lastUsed {
					oldest = s
				}
			}
		}
	}
	if oldest == nil {
		return false
	}
	oldest.pool.closeServer(oldest, "evicted", now)
	return g.n < g.Max
}

// closeServer forgets a server that has no client and has it closed.
func (p *Pool) closeServer(s *Server, reason string, now Time) {
	p.forgetServer(s, now)
	p.m.emit(Action{Kind: CloseServer, Pool: p, Server: s, Reason: Failure{Message: reason}})
}

func (p *Pool) forgetServer(s *Server, now Time) {
	p.setServer(s, ServerGone, now)
	for _, g := range p.groups {
		if g != nil {
			g.n--
		}
	}
}

// longestWait is since when the pool's first client waits for a server.
func (p *Pool) longestWait() (since Time, ok bool) {
	for _, state := range [...]ClientState{ClientWaiting, ClientWelcome} {
		if c := p.clients[state].first; c != nil && (!ok || c.since < since) {
			since, ok = c.since, true
		}
	}
	return since, ok
}

// starved finds the pool without any server that one place of p's in a shared limit
// would help, and whose client has waited longer than each of p's own; nil if none.
func (p *Pool) starved(now Time) *Pool {
	var found *Pool
	first, waits := p.longestWait()
	for _, g := range p.groups {
		if g == nil || g.Max == 0 {
			continue
		}
		for _, q := range p.m.pools {
			if q == p || q.groups[0] != g && q.groups[1] != g || q.paused || q.TotalServers() > 0 ||
				q.failing && now < q.failedAt+q.Settings.LoginRetry {
				continue
			}
			since, ok := q.longestWait()
			if ok && (!waits || since < first) && q.fits(p) {
				found, first, waits = q, since, true
			}
		}
	}
	return found
}

// fits tells whether a server of q fits the limits once one of p's is closed.
func (q *Pool) fits(p *Pool) bool {
	for _, g := range q.groups {
		if g != nil && g.Max > 0 && g.n >= g.Max && g != p.groups[0] && g != p.groups[1] {
			return false
		}
	}
	return true
}

// turn is how long a server stays with its pool at least while another pool that
// shares a limit has none: a login for each transaction would serve nobody.
const turn = time.Second

// yield gives the place of a server that has just lost its client to a pool that a
// shared limit keeps without one, or a standing queue could keep it for ever.
func (p *Pool) yield(s *Server, now Time) bool {
	if now-s.created < turn {
		return false
	}
	full := false
	for _, g := range p.groups {
		full = full || g != nil && g.Max > 0 && g.n >= g.Max
	}
	if !full || p.starved(now) == nil {
		return false
	}
	p.closeServer(s, "evicted", now)
	p.freed(now)
	return true
}

// freed lets those go on whom a server may have held up that is closed or idle
// now: its own pool, and the pools that share a limit with it.
func (p *Pool) freed(now Time) {
	// A free server is for its own pool's queue; the place of a closed one is not.
	if p.servers[ServerIdle].n+p.servers[ServerUsed].n == 0 {
		if q := p.starved(now); q != nil {
			q.serve(now)
		}
	}
	p.serve(now)
	for _, g := range p.groups {
		if g == nil || g.Max == 0 {
			continue
		}
		for _, q := range p.m.pools {
			if q != p && (q.groups[0] == g || q.groups[1] == g) && q.clients[ClientWaiting].n+q.clients[ClientWelcome].n > 0 {
				q.serve(now)
			}
		}
	}
}

func (p *Pool) dropClient(c *Client, why Failure, now Time) {
	p.setClient(c, ClientGone, now)
	p.m.emit(Action{Kind: DropClient, Pool: p, Client: c, Reason: why})
}

// refusing tells that newcomers are refused at once, since logins fail.
func (p *Pool) refusing(now Time) bool {
	return p.failing && !p.paused && p.TotalServers() == 0 && now < p.failedAt+p.Settings.LoginRetry
}

func (p *Pool) cachedFailure() Failure {
	return Failure{p.failure.Code, "server login has been failing, cached error: " + p.failure.Message + " (server_login_retry)"}
}

// ServerReady tells that a server has logged in.
func (p *Pool) ServerReady(s *Server, now Time) {
	if s.state != ServerLogin {
		return
	}
	p.failing = false
	p.welcome = true
	s.lastUsed = now
	for c := p.clients[ClientWelcome].first; c != nil; c = p.clients[ClientWelcome].first {
		p.setClient(c, ClientIdle, now)
		p.m.emit(Action{Kind: Welcome, Pool: p, Client: c})
	}
	p.toIdle(s, false, now)
}

// LoginFailed tells that a server did not log in. starting says that it refuses
// clients just now, so that waiting makes sense.
func (p *Pool) LoginFailed(s *Server, why Failure, starting bool, now Time) {
	if s.state != ServerLogin {
		return
	}
	p.forgetServer(s, now)
	p.loginFailed(why, starting, now)
	p.freed(now)
}

func (p *Pool) loginFailed(why Failure, starting bool, now Time) {
	p.failing, p.failure, p.failedAt = true, why, now
	if starting || p.TotalServers() > 0 {
		return
	}
	for _, state := range [...]ClientState{ClientWelcome, ClientWaiting} {
		for c := p.clients[state].first; c != nil; c = p.clients[state].first {
			p.dropClient(c, why, now)
		}
	}
}

// ServerLost tells that the connection of a logged-in server is gone; the caller
// has closed it. Its client is dropped.
func (p *Pool) ServerLost(s *Server, why Failure, now Time) {
	switch s.state {
	case ServerGone:
		return
	case ServerLogin:
		p.LoginFailed(s, why, false, now)
		return
	}
	c := s.client
	if c != nil {
		unlink(c, s)
	}
	p.forgetServer(s, now)
	if c != nil {
		p.dropClient(c, why, now)
	}
	p.freed(now)
}

// KillLink closes an active server and drops its client, telling it why.
func (p *Pool) KillLink(s *Server, why Failure, now Time) {
	c := s.client
	if c == nil {
		return
	}
	unlink(c, s)
	p.closeServer(s, why.Message, now)
	p.dropClient(c, why, now)
	p.freed(now)
}

// Release tells that the active server's client needs it no more and that it is
// clean: outside a transaction with nothing outstanding.
func (p *Pool) Release(s *Server, now Time) {
	if s.state != ServerActive {
		return
	}
	c := s.client
	unlink(c, s)
	p.setClient(c, ClientIdle, now)
	p.retire(s, now)
}

// retire brings a server that has just lost its client back to the others.
func (p *Pool) retire(s *Server, now Time) {
	s.lastUsed = now
	s.epoch++
	switch {
	case p.closeIfDue(s, now):
	case s.cancels > 0:
		p.setServer(s, ServerCanceled, now)
	default:
		p.resetOrIdle(s, now)
	}
}

func (p *Pool) resetOrIdle(s *Server, now Time) {
	if p.yield(s, now) {
		return
	}
	if p.Settings.Reset {
		p.setServer(s, ServerTested, now)
		p.m.emit(Action{Kind: Reset, Pool: p, Server: s})
		return
	}
	p.toIdle(s, true, now)
}

// toIdle makes a server free; used says that a client had it since it was last checked.
func (p *Pool) toIdle(s *Server, used bool, now Time) {
	if s.closeNeeded != "" || p.paused {
		reason := s.closeNeeded
		if reason == "" {
			reason = "pause mode"
		}
		p.closeServer(s, reason, now)
		p.freed(now)
		return
	}
	if used && p.Settings.Check && p.Settings.CheckDelay == 0 {
		p.setServer(s, ServerUsed, now)
	} else {
		p.setServer(s, ServerIdle, now)
	}
	p.freed(now)
}

// closeIfDue closes an unlinked server that must not be used again.
func (p *Pool) closeIfDue(s *Server, now Time) bool {
	switch {
	case s.closeNeeded != "":
		p.closeServer(s, s.closeNeeded, now)
	case p.Settings.ServerLifetime == 0:
		p.closeServer(s, "server lifetime over", now)
	case p.aged(s, now):
		p.lastAged, p.agedOnce = now, true
		p.closeServer(s, "server lifetime over", now)
	default:
		return false
	}
	p.freed(now)
	return true
}

// aged tells that a server is older than it may be. Servers opened together are
// not closed together: one at most in each lifetime/pool_size.
func (p *Pool) aged(s *Server, now Time) bool {
	life := p.Settings.ServerLifetime
	if now-s.created < life {
		return false
	}
	return !p.agedOnce || now-p.lastAged >= life/time.Duration(max(1, p.Settings.PoolSize))
}

// Tested tells that the reset or check query of a server is through.
func (p *Pool) Tested(s *Server, now Time) {
	if s.state != ServerTested {
		return
	}
	p.toIdle(s, false, now)
}

// ClientGone tells that a client has left; clean says that its server, if it has
// one, is outside a transaction with nothing outstanding.
func (p *Pool) ClientGone(c *Client, clean bool, now Time) {
	if c.state == ClientGone {
		return
	}
	s := c.server
	if s == nil {
		p.setClient(c, ClientGone, now)
		return
	}
	unlink(c, s)
	p.setClient(c, ClientGone, now)
	if !clean {
		p.closeServer(s, "client disconnect while server was not ready", now)
		p.freed(now)
		return
	}
	p.retire(s, now)
}

// CancelQuery begins a cancel request for the query of an active client. It
// returns nil when there is nothing to cancel or too many are on their way.
func (p *Pool) CancelQuery(c *Client) *Cancel {
	s := c.server
	if s == nil || s.state != ServerActive {
		return nil
	}
	if size := p.Settings.PoolSize; size > 0 && p.cancels >= 2*size {
		return nil
	}
	p.cancels++
	s.cancels++
	return &Cancel{Server: s, epoch: s.epoch}
}

// CancelDone tells that a cancel request has arrived, or will never be sent.
func (p *Pool) CancelDone(k *Cancel, now Time) {
	p.cancels--
	s := k.Server
	s.cancels--
	if s.cancels == 0 && s.state == ServerCanceled {
		if !p.closeIfDue(s, now) {
			p.resetOrIdle(s, now)
		}
	}
}

// Pause stops linking: clients queue, free servers are closed, active ones when
// they are released. The pool is at rest when Busy says no.
func (p *Pool) Pause(now Time) {
	p.paused = true
	p.closeFree("pause mode", now)
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

// Busy tells whether servers are linked or on the way from or to that.
func (p *Pool) Busy() bool { return p.TotalServers() > 0 }

// Resume ends Pause.
func (p *Pool) Resume(now Time) {
	p.paused = false
	p.serve(now)
}

// Reconnect has each server closed as soon as it is free.
func (p *Pool) Reconnect(reason string, now Time) {
	p.EachServer(func(s *Server) { s.closeNeeded = reason })
	p.closeFree(reason, now)
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

// Sweep does what time brings; call it some times a second.
func (m *Manager) Sweep(now Time) {
	// A pool cannot disappear meanwhile: RemovePool is the caller's.
	for _, p := range m.pools {
		p.sweep(now)
	}
}

func (p *Pool) sweep(now Time) {
	set, servers := p.Settings, p.TotalServers()
	for s := p.servers[ServerLogin].first; s != nil; {
		next := s.link.next
		if set.ConnectTimeout > 0 && now-s.created >= set.ConnectTimeout {
			p.closeServer(s, "connect timeout", now)
			p.loginFailed(Failure{Message: "connect timeout"}, false, now)
		}
		s = next
	}
	for set.QueryWait > 0 && p.MaxWait(now) >= set.QueryWait {
		p.dropClient(p.clients[ClientWaiting].first, Failure{Message: "query_wait_timeout"}, now)
	}
	for _, state := range [...]ServerState{ServerIdle, ServerUsed} {
		for s := p.servers[state].first; s != nil; {
			next := s.link.next
			switch {
			case s.closeNeeded != "":
				p.closeServer(s, s.closeNeeded, now)
			case p.aged(s, now):
				p.lastAged, p.agedOnce = now, true
				p.closeServer(s, "server lifetime over", now)
			case set.ServerIdle > 0 && now-s.lastUsed >= set.ServerIdle && p.TotalServers() > set.MinPoolSize:
				p.closeServer(s, "server idle timeout", now)
			case state == ServerIdle && set.Check && now-s.lastUsed >= set.CheckDelay:
				p.setServer(s, ServerUsed, now)
			}
			s = next
		}
	}
	// What was closed may have held up a pool that has been swept already.
	if p.TotalServers() < servers {
		p.freed(now)
	} else {
		p.serve(now)
	}
}
