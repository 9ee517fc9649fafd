package pool

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// model plays the clients and servers of two managers at random and keeps books of its
// own, in which it looks up, after each step, whether what the state machine did was
// right. The managers' messages to each other arrive late, as those of threads do.
type model struct {
	rng    *rand.Rand
	ms     [2]*Manager
	pools  []*Pool
	groups []*Group
	now    Time
	step   int

	clients  []*Client
	order    map[*Client]int     // in which clients came into a queue
	queue    map[*Pool][]*Client // who waits for a server, in order
	apart    map[*Pool][]*Client // who waits for the Connect of its own, in order
	own      map[*Server]*Client // for whom a dedicated server is
	linked   map[*Server]*Client // by Link and Request
	logins   map[*Server]bool    // to answer: ServerReady, LoginFailed, LoginDeferred
	tests    map[*Server]bool    // to answer: Tested
	live     map[*Server]bool    // opened and not closed
	serial   map[*Server]int     // in the order of their Connect
	reset    map[*Server]bool    // a reset must come before the next client
	banned   map[*Server]bool    // no client may get it
	pause    map[*Pool]Time      // no login before
	proven   map[*Pool]bool      // the last login succeeded
	slots    map[*Pool]int       // logins that were allowed when the call came
	gaveWay  map[*share]bool     // since the last sweep
	evicts   map[evict]int       // since the last sweep
	over     bool                // adoption or a lowered limit may exceed the limits
	cancels  []*Cancel
	mail     []message
	mayDrop  func(*Client) bool // in this call; nil = all
	sweeping bool               // in this call
	came     int
}

type evict struct {
	p *Pool
	g *Group
}

// message is what one manager asks of another.
type message struct {
	kind Kind
	g    *Group
	from int
}

func newModel(seed uint64) *model {
	md := &model{
		rng: rand.New(rand.NewPCG(seed, 7)), order: map[*Client]int{},
		queue: map[*Pool][]*Client{}, apart: map[*Pool][]*Client{}, own: map[*Server]*Client{},
		linked: map[*Server]*Client{}, logins: map[*Server]bool{}, tests: map[*Server]bool{}, live: map[*Server]bool{},
		serial: map[*Server]int{}, reset: map[*Server]bool{}, banned: map[*Server]bool{}, proven: map[*Pool]bool{},
		slots: map[*Pool]int{}, pause: map[*Pool]Time{}, evicts: map[evict]int{}, gaveWay: map[*share]bool{},
	}
	for range 3 {
		md.groups = append(md.groups, &Group{Max: md.rng.IntN(6)})
	}
	for i := range md.ms {
		md.ms[i] = &Manager{}
	}
	for i := range 5 {
		s := &Settings{
			PoolSize: 1 + md.rng.IntN(4), ReserveSize: md.rng.IntN(2), ReserveTimeout: 5 * time.Second,
			ParallelConnects: md.rng.IntN(4),
			MinPoolSize:      md.rng.IntN(3), LoginRetry: 3 * time.Second, ConnectTimeout: 20 * time.Second,
			RescueTimeout: time.Duration(md.rng.IntN(2)) * 15 * time.Second,
			ServerIdle:    60 * time.Second, ServerLifetime: time.Duration(md.rng.IntN(3)) * 50 * time.Second,
			Check: md.rng.IntN(2) == 0, CheckDelay: time.Duration(md.rng.IntN(2)) * 10 * time.Second,
			Reset: md.rng.IntN(2) == 0, RoundRobin: md.rng.IntN(2) == 0, FillAlways: md.rng.IntN(4) == 0,
		}
		if md.rng.IntN(2) == 0 {
			s.QueryWait = 40 * time.Second
		}
		var user *Group
		if i < 4 {
			user = md.groups[2]
		}
		md.pools = append(md.pools, md.ms[i*2/5].AddPool(s, md.groups[i%2], user, nil))
	}
	return md
}

func (md *model) fail(format string, args ...any) {
	panic(fmt.Sprintf("step %d: ", md.step) + fmt.Sprintf(format, args...))
}

func (md *model) number(p *Pool) int { return slices.Index(md.pools, p) }

func remove[T comparable](list []T, e T) []T {
	if i := slices.Index(list, e); i >= 0 {
		return slices.Delete(slices.Clone(list), i, i+1)
	}
	return list
}

func (md *model) dropFromBooks(c *Client) {
	if !slices.Contains(md.clients, c) {
		md.fail("a client was dropped twice")
	}
	md.clients = remove(md.clients, c)
	md.queue[c.pool] = remove(md.queue[c.pool], c)
	md.apart[c.pool] = remove(md.apart[c.pool], c)
	maps.DeleteFunc(md.linked, func(_ *Server, k *Client) bool { return k == c })
}

// closed takes a server out of the books.
func (md *model) closed(s *Server) {
	if !md.live[s] {
		md.fail("closed twice")
	}
	for _, set := range []map[*Server]bool{md.live, md.logins, md.tests, md.reset, md.banned} {
		delete(set, s)
	}
	delete(md.linked, s)
	if c := md.own[s]; c != nil {
		delete(md.own, s)
		if slices.Contains(md.clients, c) && (c.state == clientApart || c.state == clientOwn) {
			// It waits for another one, in its old turn.
			q := append(slices.Clone(md.apart[c.pool]), c)
			slices.SortFunc(q, func(a, b *Client) int { return md.order[a] - md.order[b] })
			md.apart[c.pool] = q
		}
	}
}

func (md *model) link(c *Client, s *Server) {
	if !md.live[s] || md.logins[s] || md.tests[s] || md.linked[s] != nil {
		md.fail("link to a server that is not free")
	}
	if md.reset[s] {
		md.fail("link to a server that should have been reset")
	}
	if md.banned[s] {
		md.fail("link to a server that is to be closed")
	}
	if s.dedicated != (md.own[s] != nil) || s.dedicated && md.own[s] != c {
		md.fail("link to the own server of another client")
	}
	for _, k := range md.linked {
		if k == c {
			md.fail("second server for one client")
		}
	}
	for _, k := range md.cancels {
		if k.Server == s {
			md.fail("a cancel request on its way could hit the next client")
		}
	}
	md.linked[s] = c
}

// linkedInTurn looks at a client that the queue has got a server for.
func (md *model) linkedInTurn(c *Client) {
	p := c.pool
	if q := md.queue[p]; len(q) == 0 || q[0] != c {
		md.fail("linked out of order")
	}
	md.queue[p] = md.queue[p][1:]
	for _, sh := range p.shares {
		if sh != nil && (sh.g.Limit() > 0 && sh.g.Servers() > sh.g.Limit() || md.gaveWay[sh] || sh.givesWay) {
			return
		}
	}
	if q := md.apart[p]; len(q) > 0 && md.order[q[0]] < md.order[c] && p.mayConnect(md.now) && !md.over {
		md.fail("pool %d: linked before a client that waits for a place of its own", md.number(p))
	}
}

func (md *model) connect(s *Server, news map[*Pool]int) {
	p := s.pool
	if p.atRest() {
		md.fail("pool %d is at rest and opens a server", md.number(p))
	}
	if md.now < md.pause[p] || p.inRetry(md.now) && !md.sweeping {
		md.fail("pool %d opens a server in the pause", md.number(p))
	}
	md.logins[s], md.live[s] = true, true
	md.serial[s] = len(md.serial)
	if !s.dedicated {
		news[p]++
		return
	}
	q := md.apart[p]
	if len(q) == 0 || s.client != nil && q[0] != s.client {
		md.fail("an own server out of order")
	}
	md.own[s] = q[0]
	md.apart[p] = q[1:]
}

// drain carries out what the managers ask for, and checks.
func (md *model) drain() {
	news := map[*Pool]int{}   // servers for all
	served := map[*Pool]int{} // clients that were linked or dropped
	opened := map[*Pool]bool{}
	for i, m := range md.ms {
		for a, ok := m.Next(); ok; a, ok = m.Next() {
			switch a.Kind {
			case Connect:
				opened[a.Pool] = true
				md.connect(a.Server, news)
			case Link:
				served[a.Pool]++
				if a.Pool.atRest() {
					md.fail("a pool at rest links")
				}
				if a.Server.dedicated {
					delete(md.logins, a.Server)
				} else {
					md.linkedInTurn(a.Client)
				}
				md.link(a.Client, a.Server)
			case Reset, Check, Rescue:
				if md.linked[a.Server] != nil || md.tests[a.Server] || !md.live[a.Server] || a.Server.dedicated {
					md.fail("test of a server that is not free")
				}
				if a.Kind == Rescue && (md.banned[a.Server] || a.Pool.paused) {
					md.fail("rescue of a server that is to be closed")
				}
				if a.Kind == Reset {
					delete(md.reset, a.Server)
				}
				md.tests[a.Server] = true
			case CloseServer:
				why := a.Reason.Message
				if a.Pool.suspended && (why == "evicted" || strings.HasPrefix(why, "server ")) {
					md.fail("a suspended pool loses a server: %s", why)
				}
				md.closed(a.Server)
			case DropClient:
				served[a.Pool]++
				if a.Reason.Message == "" || md.mayDrop != nil && !md.mayDrop(a.Client) {
					md.fail("a client is dropped for nothing")
				}
				md.dropFromBooks(a.Client)
			case Welcome:
				served[a.Pool]++
			case Evict:
				if md.evicts[evict{a.Pool, a.Group}]++; md.evicts[evict{a.Pool, a.Group}] > 1 {
					md.fail("asks for a place twice in a sweep")
				}
				md.mail = append(md.mail, message{Evict, a.Group, i})
			case GroupFreed:
				md.mail = append(md.mail, message{GroupFreed, a.Group, i})
			}
		}
	}
	md.mayDrop, md.sweeping = nil, false
	md.check(opened)
	for p, n := range news {
		md.checkNeed(p, n, served[p])
	}
	for _, p := range md.pools {
		md.slots[p] = md.slotsNow(p)
	}
}

// slotsNow is how many servers of a pool may log in at a time.
func (md *model) slotsNow(p *Pool) int {
	if md.proven[p] {
		return max(1, p.Settings.ParallelConnects)
	}
	return 1
}

// checkNeed: no more servers log in than somebody needs.
func (md *model) checkNeed(p *Pool, n, served int) {
	logins := p.Servers(ServerLogin) - p.clients[clientOwn].n
	shared := p.TotalServers() - p.nDedicated
	need := len(md.queue[p]) + served + max(0, p.Settings.MinPoolSize-(shared-logins))
	if p.Clients(ClientWelcome) > 0 {
		need++
	}
	if logins > need {
		md.fail("pool %d: %d servers log in, %d of them new, %d needed", md.number(p), logins, n, need)
	}
}

func (md *model) check(opened map[*Pool]bool) {
	groups := map[*Group]int{}
	fresh := map[*Group]bool{}
	clients, servers := 0, 0
	for i, p := range md.pools {
		n := 0
		for s := range p.servers {
			n += p.servers[s].n
		}
		if n != p.TotalServers() {
			md.fail("pool %d has %d servers and counts %d", i, n, p.TotalServers())
		}
		servers += n
		k := 0
		for c := range p.clients {
			k += p.clients[c].n
		}
		if k != p.TotalClients() {
			md.fail("pool %d has %d clients and counts %d", i, k, p.TotalClients())
		}
		clients += k
		for _, sh := range p.shares {
			if sh != nil {
				md.gaveWay[sh] = md.gaveWay[sh] || sh.givesWay
				groups[sh.g] += n
				fresh[sh.g] = fresh[sh.g] || opened[p]
			}
		}
		if n > p.Settings.PoolSize+p.Settings.ReserveSize && (opened[p] || !md.over) {
			md.fail("pool %d has %d servers", i, n)
		}
		if l := p.Servers(ServerLogin); opened[p] && l > max(md.slots[p], md.slotsNow(p)) {
			md.fail("pool %d: %d logins at a time", i, l)
		}
		if p.Cancels() > 2*p.Settings.PoolSize || p.CancelsSent() > p.Cancels() {
			md.fail("pool %d: %d cancel requests, %d sent", i, p.Cancels(), p.CancelsSent())
		}
		if p.paused && p.Servers(ServerIdle) > 0 && !p.suspended {
			md.fail("pool %d is paused and has idle servers", i)
		}
		if !p.atRest() && p.clients[ClientWaiting].n > 0 && p.Servers(ServerIdle) > 0 {
			md.fail("pool %d: idle server and waiting client", i)
		}
		if k := p.clients[ClientWaiting].n; k != len(md.queue[p]) {
			md.fail("pool %d: %d wait, books say %d", i, k, len(md.queue[p]))
		}
		if k := p.clients[clientApart].n; k != len(md.apart[p]) {
			md.fail("pool %d: %d wait for a place of their own, books say %d", i, k, len(md.apart[p]))
		}
		md.checkReason(i, p)
		md.checkServers(i, p)
		if p.nServers > 0 && (p.starves[0] || p.starves[1]) || !p.hungry && (p.held[0] || p.held[1]) {
			md.fail("pool %d is said to wait for a place and does not", i)
		}
	}
	if clients != len(md.clients) || servers != len(md.live) {
		md.fail("%d clients, %d servers; books say %d and %d", clients, servers, len(md.clients), len(md.live))
	}
	for g, n := range groups {
		if g.Servers() != n {
			md.fail("group counts %d servers of %d", g.Servers(), n)
		}
		if limit := g.Limit(); limit > 0 && n > limit && (fresh[g] || !md.over) {
			md.fail("%d servers, allowed %d", n, limit)
		}
	}
}

func (md *model) checkServers(i int, p *Pool) {
	p.EachServer(func(s *Server) {
		if !md.live[s] {
			md.fail("pool %d has a closed server", i)
		}
		if (s.state == ServerActive) != (md.linked[s] != nil) || s.Client() != md.linked[s] {
			md.fail("pool %d: who has the server is told differently", i)
		}
		if c := s.Client(); c != nil && (c.Server() != s || c.State() != ClientActive) {
			md.fail("pool %d: a client does not know its server", i)
		}
		if s.dedicated && s.state != ServerLogin && s.state != ServerActive {
			md.fail("pool %d: a dedicated server is in state %d", i, s.state)
		}
	})
}

// checkReason: who waits has a reason that will pass. That other managers did not take
// a place that was left to them is found by the next sweep.
func (md *model) checkReason(i int, p *Pool) {
	if p.atRest() || len(md.mail) > 0 || p.inRetry(md.now) {
		return
	}
	for _, sh := range p.shares {
		if sh != nil && (sh.g.full() || md.gaveWay[sh]) {
			return
		}
	}
	if len(md.queue[p]) > 0 && p.TotalServers() == 0 {
		md.fail("pool %d: %d clients wait for nothing", i, len(md.queue[p]))
	}
	if len(md.apart[p]) > 0 && p.Servers(ServerLogin) == 0 && p.TotalServers() < p.Settings.PoolSize {
		md.fail("pool %d: %d clients wait for a place of their own, and there is one", i, len(md.apart[p]))
	}
	first := func(q []*Client) int {
		if len(q) == 0 {
			return math.MaxInt
		}
		return md.order[q[0]]
	}
	if p.Servers(ServerIdle)+p.Servers(ServerUsed) > 0 && p.Servers(ServerLogin) == 0 && first(md.apart[p]) < first(md.queue[p]) {
		md.fail("pool %d: a client waits for a place of its own, and an idle server has one", i)
	}
}

// inOrder gives a set's servers in the order of their Connect: a map's own order
// would make another run of each seed.
func inOrder[V any](md *model, set map[*Server]V) []*Server {
	return slices.SortedFunc(maps.Keys(set), func(a, b *Server) int {
		return cmp.Compare(md.serial[a], md.serial[b])
	})
}

func (md *model) pick(set map[*Server]bool) (*Server, bool) {
	if len(set) == 0 {
		return nil, false
	}
	return inOrder(md, set)[md.rng.IntN(len(set))], true
}

// deliver hands the oldest message to the other manager.
func (md *model) deliver() {
	msg := md.mail[0]
	md.mail = md.mail[1:]
	here, there := md.ms[msg.from], md.ms[1-msg.from]
	if msg.kind == GroupFreed {
		there.Freed(msg.g, md.now)
		return
	}
	before := msg.g.Servers()
	if there.EvictFor(msg.g, md.now) != (msg.g.Servers() < before) {
		md.fail("EvictFor does not say what it did")
	}
	md.drain()
	here.Freed(msg.g, md.now)
}

func (md *model) act() {
	p := md.pools[md.rng.IntN(len(md.pools))]
	var c *Client
	if len(md.clients) > 0 {
		c = md.clients[md.rng.IntN(len(md.clients))]
	}
	switch op := md.rng.IntN(30); {
	case op < 3:
		md.newClient(p)
	case op < 9 && c != nil && c.state == ClientIdle:
		md.request(c)
	case op < 13 && c != nil && c.state == ClientActive && !c.server.dedicated:
		delete(md.linked, c.server)
		c.pool.Release(c.server, md.now)
	case op == 13 && c != nil:
		md.clientGone(c)
	case op < 17:
		if s, ok := md.pick(md.logins); ok {
			md.endLogin(s)
		}
	case op < 19:
		if s, ok := md.pick(md.tests); ok {
			delete(md.tests, s)
			s.pool.Tested(s, md.now)
		}
	case op == 19:
		if s, ok := md.pick(md.live); ok {
			md.lose(s)
		}
	case op == 20 && c != nil:
		if k := c.pool.CancelQuery(c); k != nil {
			md.cancels = append(md.cancels, k)
		}
		if s, ok := md.pick(md.tests); ok {
			if k := s.pool.CancelRescue(s); k != nil {
				md.cancels = append(md.cancels, k)
			}
		}
	case op == 21 && len(md.cancels) > 0:
		k := md.cancels[0]
		if md.rng.IntN(2) == 0 {
			k.MarkSent()
		}
		md.cancels = md.cancels[1:]
		k.Server.pool.CancelDone(k, md.now)
	case op == 22:
		md.command(p)
	case op == 23 && c != nil && c.state == ClientActive:
		c.pool.KillLink(c.server, Failure{Message: "query timeout"}, md.now)
	case op == 24:
		if s, ok := md.pick(md.live); ok {
			if md.rng.IntN(2) == 0 {
				s.RequireClose("close")
				md.banned[s] = true
			} else if s.state == ServerActive && !s.dedicated {
				s.RequireReset()
				md.reset[s] = true
			}
		}
	case op < 27 && len(md.mail) > 0:
		md.deliver()
	default:
		md.sweep(time.Duration(md.rng.IntN(4000)) * time.Millisecond)
	}
	md.drain()
}

func (md *model) newClient(p *Pool) {
	k := &Client{}
	md.clients = append(md.clients, k)
	switch md.rng.IntN(6) {
	case 0, 1:
		p.AwaitWelcome(k, md.now)
	case 2:
		md.order[k] = md.nextOrder()
		md.apart[p] = append(md.apart[p], k)
		p.Dedicated(k, md.now)
	default:
		p.AddClient(k, md.now)
	}
}

func (md *model) request(c *Client) {
	p := c.pool
	md.order[c] = md.nextOrder()
	md.queue[p] = append(md.queue[p], c)
	if s := p.Request(c, md.now); s != nil {
		if p.atRest() {
			md.fail("a pool at rest links")
		}
		// What the call closed on its way must be in the books before the link.
		md.linkedInTurn(c)
		md.link(c, s)
	}
}

func (md *model) nextOrder() int {
	md.came++
	return md.came
}

func (md *model) clientGone(c *Client) {
	how := md.rng.IntN(3)
	md.dropFromBooks(c)
	if how == 2 {
		c.pool.ClientGoneRescue(c, md.now)
	} else {
		c.pool.ClientGone(c, how == 0, md.now)
	}
}

func (md *model) endLogin(s *Server) {
	delete(md.logins, s)
	p := s.pool
	switch how := md.rng.IntN(8); {
	case how < 5:
		md.proven[p] = true
		if s.dedicated {
			md.logins[s] = true // until Link
		} else {
			md.pause[p] = 0
		}
		p.ServerReady(s, md.now)
	case how == 5:
		md.proven[p] = false
		md.mayDrop = func(*Client) bool { return false }
		md.pause[p] = md.now + p.Settings.LoginRetry
		c := md.own[s]
		p.LoginDeferred(s, md.now)
		md.closed(s)
		if c != nil && c.state == ClientGone {
			md.fail("a deferred login drops its client")
		}
	default:
		md.proven[p] = false
		if c := md.own[s]; c != nil {
			md.mayDrop = func(k *Client) bool { return k == c }
		}
		if !s.dedicated {
			md.pause[p] = md.now + p.Settings.LoginRetry
		}
		p.LoginFailed(s, Failure{Message: "no"}, md.now)
		md.closed(s)
	}
}

func (md *model) lose(s *Server) {
	if s.state == ServerLogin {
		md.proven[s.pool] = false
	}
	s.pool.ServerLost(s, Failure{Message: "lost"}, md.now)
	md.closed(s)
}

// sweep lets time pass.
func (md *model) sweep(d time.Duration) {
	md.now += d
	md.sweeping = true
	clear(md.evicts)
	clear(md.gaveWay)
	for _, p := range md.pools {
		// A sweep may end a login.
		for s := p.servers[ServerLogin].first; s != nil; s = s.link.next {
			if limit := p.Settings.ConnectTimeout; md.now-s.created >= limit {
				md.proven[p] = false
			}
		}
	}
	for _, m := range md.ms {
		m.Sweep(md.now)
	}
}

func (md *model) command(p *Pool) {
	switch md.rng.IntN(12) {
	case 0:
		p.Pause(md.now)
	case 1, 2, 3:
		p.Resume(md.now)
	case 4:
		p.Reconnect("again", md.now)
	case 5:
		if md.rng.IntN(4) == 0 {
			p.Kill("killed", md.now)
		}
	case 6:
		p.ReconnectSlowly("slowly", md.rng.IntN(3), md.now)
	case 7:
		p.Suspend(md.now)
		md.drain()
		if md.rng.IntN(2) == 0 && !p.paused {
			md.adopt(p)
		}
	case 8, 9:
		p.Unsuspend(md.now)
	case 10:
		md.proven[p] = false
		p.ForgetWelcome()
		if md.rng.IntN(2) == 0 {
			p.SetWelcome()
		}
	case 11:
		md.over = true
		md.groups[md.rng.IntN(len(md.groups))].SetMax(md.rng.IntN(6))
		md.sweep(0)
	}
}

// adopt takes over what another process had.
func (md *model) adopt(p *Pool) {
	md.over = true
	serve := func(s *Server) *Server {
		md.live[s] = true
		md.serial[s] = len(md.serial)
		return s
	}
	client := func() *Client {
		c := &Client{}
		md.clients = append(md.clients, c)
		return c
	}
	created := md.now - time.Duration(md.rng.IntN(30))*time.Second
	switch md.rng.IntN(4) {
	case 0:
		s := serve(p.AdoptServer([]ServerState{ServerIdle, ServerUsed, ServerTested}[md.rng.IntN(3)], created, md.now, nil))
		if s.state != ServerIdle && s.state != ServerUsed {
			md.fail("adopted in state %d", s.state)
		}
	case 1:
		c, s := client(), serve(p.AdoptServer(ServerIdle, created, md.now, nil))
		md.linked[s] = c
		p.AdoptLink(c, s, md.now)
	case 2:
		c := client()
		md.order[c] = md.nextOrder()
		md.queue[p] = append(md.queue[p], c)
		p.AdoptWaiting(c, md.now)
	case 3:
		c := client()
		s := serve(p.AdoptDedicated(c, created, md.now, nil))
		md.own[s], md.linked[s] = c, c
	}
}

// finish lets everything come to its end: nobody may be left waiting.
func (md *model) finish() {
	for md.step = range 2000 {
		waiting := 0
		for _, p := range md.pools {
			p.Resume(md.now)
			p.Unsuspend(md.now)
			md.drain()
			waiting += p.Clients(ClientWaiting) + p.Clients(ClientWelcome)
			if p.Reconnecting() {
				waiting++
			}
		}
		if waiting == 0 {
			md.empty()
			return
		}
		for _, s := range inOrder(md, md.logins) {
			if !md.logins[s] {
				continue
			}
			delete(md.logins, s)
			md.proven[s.pool] = true
			if s.dedicated {
				md.logins[s] = true
			} else {
				md.pause[s.pool] = 0
			}
			s.pool.ServerReady(s, md.now)
			md.drain()
		}
		for _, s := range inOrder(md, md.tests) {
			if md.tests[s] {
				delete(md.tests, s)
				s.pool.Tested(s, md.now)
				md.drain()
			}
		}
		for _, k := range md.cancels {
			k.Server.pool.CancelDone(k, md.now)
		}
		md.cancels = nil
		md.drain()
		for _, s := range inOrder(md, md.linked) {
			switch c := md.linked[s]; {
			case c == nil:
			case s.dedicated:
				md.dropFromBooks(c)
				s.pool.ClientGone(c, true, md.now)
			default:
				delete(md.linked, s)
				s.pool.Release(s, md.now)
			}
			md.drain()
		}
		for len(md.mail) > 0 {
			md.deliver()
			md.drain()
		}
		md.sweep(time.Second)
		md.drain()
	}
	for i, p := range md.pools {
		if p.Clients(ClientWaiting)+p.Clients(ClientWelcome) > 0 {
			md.fail("clients of pool %d are left waiting", i)
		}
	}
	md.fail("ReconnectSlowly does not end")
}

// empty ends all; nothing may be left in the books of the groups.
func (md *model) empty() {
	for _, k := range md.cancels {
		k.Server.pool.CancelDone(k, md.now)
	}
	md.cancels = nil
	for _, p := range md.pools {
		p.Pause(md.now)
		p.Kill("end", md.now)
	}
	md.drain()
	for i, p := range md.pools {
		if !p.m.RemovePool(p) {
			md.fail("pool %d cannot be removed", i)
		}
	}
	for i, g := range md.groups {
		if g.n.Load() != 0 || g.managers.Load() != 0 || g.waiters.Load() != 0 || g.starving.Load() != 0 {
			md.fail("group %d is not empty in the end", i)
		}
	}
}

var (
	firstSeed = flag.Uint64("seed", 0, "first seed of the property test")
	seedCount = flag.Uint64("seeds", 1000, "how many seeds")
)

func TestRandomClientsAndServersKeepTheInvariants(t *testing.T) {
	seeds := *seedCount
	if testing.Short() {
		seeds = min(seeds, 200)
	}
	for seed := *firstSeed; seed < *firstSeed+seeds; seed++ {
		func() {
			md := newModel(seed)
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("seed %d: %v", seed, r)
				}
			}()
			for md.step = range 500 {
				md.act()
			}
			md.finish()
		}()
	}
	t.Logf("seeds %d to %d", *firstSeed, *firstSeed+seeds-1)
}
