package pool

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model plays clients and servers at random and keeps books of its own, in which
// it looks up, after each step, whether what the state machine did was right.
type model struct {
	rng  *rand.Rand
	m    Manager
	now  Time
	dbs  []*Group
	step int

	clients  []*Client
	queue    map[*Pool][]*Client // who waits, in order
	linked   map[*Server]*Client // by Link and Request
	logins   map[*Server]bool
	tests    map[*Server]bool
	live     map[*Server]bool // opened and not closed
	serial   map[*Server]int  // in the order of their Connect
	cancels  []*Cancel
	welcomed map[*Client]bool
}

func newModel(seed uint64) *model {
	md := &model{
		rng:   rand.New(rand.NewPCG(seed, 7)),
		queue: map[*Pool][]*Client{}, linked: map[*Server]*Client{}, logins: map[*Server]bool{},
		tests: map[*Server]bool{}, live: map[*Server]bool{}, serial: map[*Server]int{}, welcomed: map[*Client]bool{},
	}
	for range 2 {
		md.dbs = append(md.dbs, &Group{Max: md.rng.IntN(5)})
	}
	user := &Group{Max: md.rng.IntN(6)}
	for i := range 4 {
		s := &Settings{
			PoolSize: 1 + md.rng.IntN(4), ReserveSize: md.rng.IntN(2), ReserveTimeout: 5 * time.Second,
			MinPoolSize: md.rng.IntN(2), LoginRetry: 3 * time.Second, ConnectTimeout: 20 * time.Second,
			ServerIdle: 60 * time.Second, ServerLifetime: time.Duration(md.rng.IntN(3)) * 50 * time.Second,
			Check: md.rng.IntN(2) == 0, CheckDelay: time.Duration(md.rng.IntN(2)) * 10 * time.Second,
			Reset: md.rng.IntN(2) == 0, RoundRobin: md.rng.IntN(2) == 0,
		}
		if md.rng.IntN(2) == 0 {
			s.QueryWait = 40 * time.Second
		}
		md.m.AddPool(s, md.dbs[i%2], user, nil)
	}
	return md
}

func (md *model) fail(format string, args ...any) {
	panic(fmt.Sprintf("step %d: ", md.step) + fmt.Sprintf(format, args...))
}

func (md *model) forgetWaiter(p *Pool, c *Client) {
	for i, w := range md.queue[p] {
		if w == c {
			md.queue[p] = append(md.queue[p][:i:i], md.queue[p][i+1:]...)
			return
		}
	}
}

func (md *model) dropFromBooks(c *Client) {
	for i, k := range md.clients {
		if k == c {
			md.clients = append(md.clients[:i], md.clients[i+1:]...)
			break
		}
	}
	md.forgetWaiter(c.pool, c)
	for s, k := range md.linked {
		if k == c {
			delete(md.linked, s)
		}
	}
	delete(md.welcomed, c)
}

func (md *model) link(c *Client, s *Server) {
	if !md.live[s] || md.logins[s] || md.tests[s] || md.linked[s] != nil {
		md.fail("link to a server that is not free")
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

func (md *model) drain() {
	for a, ok := md.m.Next(); ok; a, ok = md.m.Next() {
		switch a.Kind {
		case Connect:
			md.logins[a.Server], md.live[a.Server] = true, true
			md.serial[a.Server] = len(md.serial)
		case Link:
			if q := md.queue[a.Pool]; len(q) == 0 || q[0] != a.Client {
				md.fail("linked out of order")
			}
			md.forgetWaiter(a.Pool, a.Client)
			md.link(a.Client, a.Server)
		case Reset, Check:
			if md.linked[a.Server] != nil || md.tests[a.Server] || !md.live[a.Server] {
				md.fail("test of a server that is not free")
			}
			md.tests[a.Server] = true
		case CloseServer:
			if !md.live[a.Server] {
				md.fail("closed twice")
			}
			delete(md.live, a.Server)
			delete(md.logins, a.Server)
			delete(md.tests, a.Server)
			delete(md.linked, a.Server)
		case DropClient:
			md.dropFromBooks(a.Client)
		case Welcome:
			delete(md.welcomed, a.Client)
		}
	}
	md.check()
}

func (md *model) check() {
	groups := map[*Group]int{}
	for i, p := range md.m.Pools() {
		n := p.TotalServers()
		for _, g := range p.groups {
			groups[g] += n
		}
		if n > p.Settings.PoolSize+p.Settings.ReserveSize {
			md.fail("pool %d has %d servers", i, n)
		}
		if p.Servers(ServerLogin) > 1 {
			md.fail("pool %d: %d logins at a time", i, p.Servers(ServerLogin))
		}
		if p.paused {
			if k := p.Servers(ServerIdle); k > 0 {
				md.fail("pool %d is paused and has %d idle servers", i, k)
			}
		} else if p.Clients(ClientWaiting) > 0 && p.Servers(ServerIdle) > 0 {
			md.fail("pool %d: idle server and waiting client", i)
		}
		if p.Clients(ClientWaiting) != len(md.queue[p]) {
			md.fail("pool %d: %d wait, books say %d", i, p.Clients(ClientWaiting), len(md.queue[p]))
		}
		md.checkReason(i, p)
		p.EachServer(func(s *Server) {
			if !md.live[s] {
				md.fail("pool %d has a closed server", i)
			}
			if (s.state == ServerActive) != (md.linked[s] != nil) || s.client != md.linked[s] {
				md.fail("pool %d: who has the server is told differently", i)
			}
		})
	}
	for g, n := range groups {
		if g.n != n {
			md.fail("group counts %d servers of %d", g.n, n)
		}
		if g.Max > 0 && n > g.Max {
			md.fail("%d servers, allowed %d", n, g.Max)
		}
	}
	if sum := 0; true {
		for _, p := range md.m.Pools() {
			sum += p.TotalServers()
		}
		if sum != len(md.live) {
			md.fail("%d servers, books say %d", sum, len(md.live))
		}
	}
}

// checkReason: who waits has a reason that will pass.
func (md *model) checkReason(i int, p *Pool) {
	if p.Clients(ClientWaiting) == 0 || p.paused {
		return
	}
	if p.Servers(ServerActive)+p.Servers(ServerLogin)+p.Servers(ServerTested)+p.Servers(ServerCanceled) > 0 {
		return
	}
	if p.failing && md.now < p.failedAt+p.Settings.LoginRetry {
		return
	}
	for _, g := range p.groups {
		if g.Max > 0 && g.n >= g.Max {
			return
		}
	}
	md.fail("pool %d: %d clients wait for nothing", i, p.Clients(ClientWaiting))
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

func (md *model) act() {
	pools := md.m.Pools()
	p := pools[md.rng.IntN(len(pools))]
	var c *Client
	if len(md.clients) > 0 {
		c = md.clients[md.rng.IntN(len(md.clients))]
	}
	switch op := md.rng.IntN(24); {
	case op < 3:
		k := &Client{}
		md.clients = append(md.clients, k)
		if md.rng.IntN(3) == 0 {
			md.welcomed[k] = true
			p.AwaitWelcome(k, md.now)
		} else {
			p.AddClient(k, md.now)
		}
	case op < 9 && c != nil && c.state == ClientIdle:
		md.queue[c.pool] = append(md.queue[c.pool], c)
		if s := c.pool.Request(c, md.now); s != nil {
			if len(md.queue[c.pool]) > 1 {
				md.fail("overtaken")
			}
			md.forgetWaiter(c.pool, c)
			md.link(c, s)
		}
	case op < 13 && c != nil && c.server != nil:
		delete(md.linked, c.server)
		c.pool.Release(c.server, md.now)
	case op == 13 && c != nil:
		s := c.server
		clean := md.rng.IntN(2) == 0
		md.dropFromBooks(c)
		_ = s
		c.pool.ClientGone(c, clean, md.now)
	case op < 16:
		if s, ok := md.pick(md.logins); ok {
			delete(md.logins, s)
			if md.rng.IntN(4) > 0 {
				s.pool.ServerReady(s, md.now)
			} else {
				delete(md.live, s)
				s.pool.LoginFailed(s, Failure{Message: "no"}, md.rng.IntN(2) == 0, md.now)
			}
		}
	case op < 18:
		if s, ok := md.pick(md.tests); ok {
			delete(md.tests, s)
			s.pool.Tested(s, md.now)
		}
	case op == 18:
		if s, ok := md.pick(md.live); ok {
			delete(md.live, s)
			delete(md.logins, s)
			delete(md.tests, s)
			delete(md.linked, s)
			s.pool.ServerLost(s, Failure{Message: "lost"}, md.now)
		}
	case op == 19 && c != nil:
		if k := c.pool.CancelQuery(c); k != nil {
			md.cancels = append(md.cancels, k)
		}
	case op == 20 && len(md.cancels) > 0:
		k := md.cancels[0]
		md.cancels = md.cancels[1:]
		k.Server.pool.CancelDone(k, md.now)
	case op == 21:
		switch md.rng.IntN(6) {
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
		}
	case op == 22 && c != nil && c.server != nil:
		c.pool.KillLink(c.server, Failure{Message: "query timeout"}, md.now)
	default:
		md.now += time.Duration(md.rng.IntN(4000)) * time.Millisecond
		md.m.Sweep(md.now)
	}
	md.drain()
}

// finish lets everything come to its end: nobody may be left waiting.
func (md *model) finish() {
	for range 2000 {
		waiting := 0
		for _, p := range md.m.Pools() {
			p.Resume(md.now)
			md.drain()
			waiting += p.Clients(ClientWaiting) + p.Clients(ClientWelcome)
		}
		if waiting == 0 {
			return
		}
		for _, s := range inOrder(md, md.logins) {
			delete(md.logins, s)
			s.pool.ServerReady(s, md.now)
			md.drain()
		}
		for _, s := range inOrder(md, md.tests) {
			delete(md.tests, s)
			s.pool.Tested(s, md.now)
			md.drain()
		}
		for _, k := range md.cancels {
			k.Server.pool.CancelDone(k, md.now)
		}
		md.cancels = nil
		md.drain()
		for _, s := range inOrder(md, md.linked) {
			delete(md.linked, s)
			s.pool.Release(s, md.now)
			md.drain()
		}
		md.now += time.Second
		md.m.Sweep(md.now)
		md.drain()
	}
	md.fail("clients are left waiting")
}

func TestRandomClientsAndServersKeepTheInvariants(t *testing.T) {
	seeds := uint64(1500)
	if testing.Short() {
		seeds = 200
	}
	for seed := range seeds {
		func() {
			md := newModel(seed)
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("seed %d: %v", seed, r)
				}
			}()
			for md.step = range 400 {
				md.act()
			}
			md.finish()
		}()
	}
}
