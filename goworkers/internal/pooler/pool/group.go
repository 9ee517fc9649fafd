// Groups: limits that pools share, in one thread or in several.

package pool

import (
	"sync/atomic"
	"time"
)

// Group is a limit that several pools share: a database's or a user's. The pools may
// belong to managers of several threads.
type Group struct {
	// Max is how many servers the pools may have together; 0 = unlimited. It may be
	// set as long as only one thread works with the group; then SetMax must be used.
	Max int

	changed  atomic.Int64  // 1 + what SetMax has set; 0 = Max holds
	n        atomic.Int64  // servers
	grants   atomic.Uint64 // places ever given
	managers atomic.Int32  // that have pools in the group
	waiters  atomic.Int32  // pools that wait for a place
	starving atomic.Int32  // of these, pools that have no server and wait for nothing else
}

// SetMax changes the limit; 0 = unlimited. Any thread may call it. Who waits for a
// place that a higher limit gives learns it by the next Sweep.
func (g *Group) SetMax(n int) { g.changed.Store(int64(max(0, n)) + 1) }

// Limit is how many servers the pools may have together; 0 = unlimited.
func (g *Group) Limit() int {
	if n := g.changed.Load(); n > 0 {
		return int(n - 1)
	}
	return g.Max
}

// Servers is the number of server connections that count against the limit.
func (g *Group) Servers() int { return int(g.n.Load()) }

func (g *Group) full() bool {
	limit := g.Limit()
	return limit > 0 && g.Servers() >= limit
}

// acquire takes a place if there is one.
func (g *Group) acquire() bool {
	for {
		n, limit := g.n.Load(), int64(g.Limit())
		if limit > 0 && n >= limit {
			return false
		}
		if g.n.CompareAndSwap(n, n+1) {
			g.grants.Add(1)
			return true
		}
	}
}

// share is a manager's part of a group.
type share struct {
	g        *Group
	pools    []*Pool
	hungry   list[hunger, *hunger] // pools with clients that lack a server, longest first
	n        int                   // servers
	free     int                   // of these, idle or used
	waiters  int                   // of the group's
	starving int                   // of the group's
	told     bool                  // GroupFreed is among the actions to come

	theirTurn bool   // the next place goes to another manager rather than to a pool here
	givesWay  bool   // a place has been given up for another manager
	giveUntil Time   // for which it is kept so long
	giveGrant uint64 // and until somebody has taken one: the group's grants then
}

// hunger has a pool in a share's list.
type hunger struct {
	pool *Pool
	link links[hunger]
}

// turn is how long a server stays with its pool at least while another pool that
// shares a limit has none (a login for each transaction would serve nobody), and how
// long a place that was given up for another manager is left to it.
const turn = time.Second

func (m *Manager) share(g *Group) *share {
	sh := m.shares[g]
	if sh == nil {
		sh = &share{g: g}
		if m.shares == nil {
			m.shares = map[*Group]*share{}
		}
		m.shares[g] = sh
		g.managers.Add(1)
	}
	return sh
}

func (m *Manager) unshare(sh *share, p *Pool) {
	sh.pools = without(sh.pools, p)
	if len(sh.pools) == 0 && m.shares[sh.g] == sh {
		delete(m.shares, sh.g)
		sh.g.managers.Add(-1)
	}
}

// noteHunger keeps the pool in its groups' lists while one of its clients lacks a server.
func (p *Pool) noteHunger() {
	hungry := p.clients[ClientWaiting].n+p.clients[ClientWelcome].n+p.clients[clientApart].n > 0
	if hungry == p.hungry {
		return
	}
	p.hungry = hungry
	for i, sh := range p.shares {
		if sh != nil && hungry {
			sh.hungry.pushBack(&p.hunger[i])
		} else if sh != nil {
			sh.hungry.remove(&p.hunger[i])
		}
	}
	if !hungry {
		p.unhold()
	}
}

// hold notes for the other managers that the pool waits for a place in a group; only
// says that nothing else is in its way.
func (p *Pool) hold(i int, only bool) {
	if p.held[i] {
		return
	}
	sh := p.shares[i]
	p.held[i] = true
	sh.waiters++
	sh.g.waiters.Add(1)
	if only && p.nServers == 0 {
		p.starves[i] = true
		sh.starving++
		sh.g.starving.Add(1)
	}
}

func (p *Pool) unhold() {
	for i, sh := range p.shares {
		if !p.held[i] {
			continue
		}
		p.held[i] = false
		sh.waiters--
		sh.g.waiters.Add(-1)
		if p.starves[i] {
			p.starves[i] = false
			sh.starving--
			sh.g.starving.Add(-1)
		}
	}
}

// starvesElsewhere tells that a pool of another manager has no server for want of a
// place in the group alone.
func (sh *share) starvesElsewhere() bool { return int(sh.g.starving.Load()) > sh.starving }

// giveWay leaves the next place to the other managers for a while.
func (sh *share) giveWay(now Time) {
	sh.givesWay, sh.giveUntil, sh.giveGrant = true, now+turn, sh.g.grants.Load()
}

// polite tells that a place, if there is one, is left to another manager.
func (sh *share) polite(now Time) bool {
	sh.givesWay = sh.givesWay && now < sh.giveUntil && sh.g.grants.Load() == sh.giveGrant &&
		int(sh.g.waiters.Load()) > sh.waiters
	return sh.givesWay
}

// enter takes a place in each group, or in none; lacking is the group that has none.
func (p *Pool) enter() (lacking int, ok bool) {
	for i, sh := range p.shares {
		if sh == nil {
			continue
		}
		if !sh.g.acquire() {
			if i == 1 {
				p.leave(0)
			}
			return i, false
		}
		sh.n++
	}
	return 0, true
}

// leave gives a place back, and tells the other managers if they wait for one.
func (p *Pool) leave(i int) {
	sh := p.shares[i]
	if sh == nil {
		return
	}
	sh.n--
	sh.g.n.Add(-1)
	// The mark of a waiter comes before its last look for a place: one of us sees the other.
	if !sh.told && sh.g.Limit() > 0 && int(sh.g.waiters.Load()) > sh.waiters {
		sh.told = true
		p.m.emit(Action{Kind: GroupFreed, Pool: p, Group: sh.g})
	}
}

// place takes a place in the pool's groups. For a client that waits a free server of
// another pool, or of this one too if that does not help it, is closed when a group
// is full.
func (p *Pool) place(why purpose, now Time) bool {
	var victims [2]*Server
	var lacks [2]bool
	for i, sh := range p.shares {
		if sh == nil {
			continue
		}
		polite := sh.polite(now)
		if why == forStock && sh.g.Limit() > 0 && sh.g.waiters.Load() > 0 {
			return false // clients come before what is kept in stock
		}
		if !polite && !sh.g.full() {
			continue
		}
		if why != forStock && !polite {
			except := p
			if why == forLogin {
				except = nil
			}
			victims[i] = sh.idlest(except)
		}
		lacks[i] = victims[i] == nil
	}
	if lacks == [2]bool{} {
		for _, s := range victims {
			if s != nil && s.state != ServerGone {
				s.pool.closeServer(s, "evicted", now)
			}
		}
		i, ok := p.enter()
		if ok {
			p.unhold()
			return true
		}
		lacks[i] = true // another thread was faster
	}
	return why != forStock && p.await(lacks, now)
}

// await notes which groups lack a place for a waiting client, and asks for one. It
// reports true when a place has been taken after all.
func (p *Pool) await(lacks [2]bool, now Time) bool {
	again := true
	for i, sh := range p.shares {
		if lacks[i] {
			p.hold(i, !lacks[1-i])
		}
		again = again && (sh == nil || !sh.polite(now) && !sh.g.full())
	}
	// Who freed a place before the mark was there has not told us.
	if again {
		if _, ok := p.enter(); ok {
			p.unhold()
			return true
		}
	}
	for i, sh := range p.shares {
		if lacks[i] && !sh.polite(now) && sh.g.managers.Load() > 1 && sh.g.Servers() > sh.n && p.asked[i] != p.m.sweeps+1 {
			p.asked[i] = p.m.sweeps + 1
			p.m.emit(Action{Kind: Evict, Pool: p, Group: sh.g})
		}
	}
	return false
}

// idlest is the server that has been free longest in the share's pools but one.
func (sh *share) idlest(except *Pool) *Server {
	var oldest *Server
	if sh.free == 0 {
		return nil
	}
	for _, p := range sh.pools {
		if p != except && !p.suspended {
			oldest = p.idlest(oldest)
		}
	}
	return oldest
}

// idlest is the pool's server that has been free longest, if longer than that.
func (p *Pool) idlest(oldest *Server) *Server {
	for _, state := range [...]ServerState{ServerIdle, ServerUsed} {
		for s := p.servers[state].first; s != nil; s = s.link.next {
			if oldest == nil || s.lastUsed < oldest.lastUsed {
				oldest = s
			}
		}
	}
	return oldest
}

// EvictFor closes the server that has been free longest in a group's pools here, for
// a client of another manager, which the caller then tells by Freed. It reports
// whether one was closed; none is when the group has a place.
func (m *Manager) EvictFor(g *Group, now Time) bool {
	sh := m.shares[g]
	if sh == nil || !g.full() {
		return false
	}
	s := sh.idlest(nil)
	if s == nil {
		return false
	}
	s.pool.closeServer(s, "evicted", now)
	sh.giveWay(now)
	return true
}

// Freed tells that a group may have a place: the pools that wait for it are served,
// those without a server first.
func (m *Manager) Freed(g *Group, now Time) {
	sh := m.shares[g]
	if sh == nil {
		return
	}
	sh.givesWay = false
	if q := sh.starved(nil, now); q != nil {
		q.serve(now)
	}
	sh.serve(nil, now)
}

// serve serves the hungry pools but one, as long as it is of use.
func (sh *share) serve(except *Pool, now Time) {
	for h := sh.hungry.first; h != nil && !(sh.free == 0 && sh.g.full()); {
		next := h.link.next
		if h.pool != except {
			h.pool.serve(now)
		}
		h = next
	}
}

// longestWait is since when the pool's first client lacks a server.
func (p *Pool) longestWait() (since Time, ok bool) {
	for _, state := range [...]ClientState{ClientWaiting, clientApart, ClientWelcome} {
		if c := p.clients[state].first; c != nil && (!ok || c.since < since) {
			since, ok = c.since, true
		}
	}
	return since, ok
}

func (p *Pool) waitsLonger(q *Pool) bool {
	a, _ := p.longestWait()
	b, _ := q.longestWait()
	return a < b
}

// starved finds the pool without any server that a place of p's would help, and whose
// client has waited longer than each of p's own; nil if none. p may be nil.
func (sh *share) starved(p *Pool, now Time) *Pool {
	var found *Pool
	var first Time
	waits := false
	if p != nil {
		first, waits = p.longestWait()
	}
	for h := sh.hungry.first; h != nil; h = h.link.next {
		q := h.pool
		if q == p || q.nServers > 0 || q.atRest() || !q.mayConnect(now) {
			continue
		}
		if since, ok := q.longestWait(); ok && (!waits || since < first) && (p == nil || q.fits(p)) {
			found, first, waits = q, since, true
		}
	}
	return found
}

// starved is that over both limits of the pool.
func (p *Pool) starved(now Time) *Pool {
	var found *Pool
	for _, sh := range p.shares {
		if sh == nil || sh.hungry.n == 0 || sh.g.Limit() == 0 {
			continue
		}
		if q := sh.starved(p, now); q != nil {
			if found == nil || q.waitsLonger(found) {
				found = q
			}
		}
	}
	return found
}

// fits tells whether a server of q fits the limits once one of p's is closed.
func (q *Pool) fits(p *Pool) bool {
	for _, sh := range q.shares {
		if sh != nil && sh != p.shares[0] && sh != p.shares[1] && sh.g.full() {
			return false
		}
	}
	return true
}

// abroad finds the limit of p's for whose places a pool of another manager starves.
func (p *Pool) abroad() *share {
	for _, sh := range p.shares {
		if sh != nil && sh.g.Limit() > 0 && sh.starvesElsewhere() {
			return sh
		}
	}
	return nil
}

// yield gives the place of a server that has just lost its client to a pool that a
// shared limit keeps without one, or a standing queue could keep it for ever.
func (p *Pool) yield(s *Server, now Time) bool {
	if now-s.created < turn || p.suspended {
		return false
	}
	full := false
	for _, sh := range p.shares {
		full = full || sh != nil && sh.g.full()
	}
	if !full || p.abroad() == nil && p.starved(now) == nil {
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
		q, sh := p.starved(now), p.abroad()
		switch {
		case sh != nil && (q == nil || sh.theirTurn):
			sh.theirTurn = false
			sh.giveWay(now)
		case q != nil:
			if sh != nil {
				sh.theirTurn = true
			}
			q.serve(now)
		}
	}
	p.serve(now)
	for _, sh := range p.shares {
		if sh != nil && sh.hungry.n > 0 && sh.g.Limit() > 0 {
			sh.serve(p, now)
		}
	}
}
