package pool

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestManagerAsksForAPlaceThatAnotherKeepsIdle(t *testing.T) {
	g, set := &Group{Max: 1}, Settings{PoolSize: 5}
	r, o := newSharedRig(t, set, g), newSharedRig(t, set, g)
	a, b := r.client("a"), o.client("b")
	s := r.serve(a)
	o.p.Request(b, 0)
	o.want("full of the other's", "evict")
	if r.m.EvictFor(g, 0) {
		t.Fatal("a server in use was closed")
	}
	o.m.Freed(g, 0)
	o.p.Request(o.client("c"), 0)
	o.want("asked for once in a sweep", "")
	r.p.Release(s, 0)
	r.want("nobody has asked since", "")
	o.m.Sweep(0)
	o.want("again", "evict")
	if !r.m.EvictFor(g, 0) {
		t.Fatal("an idle server was not closed")
	}
	r.want("evicted", "group freed, close s1 (evicted)")
	r.p.Request(a, 0)
	r.want("the place is the other's", "")
	o.m.Freed(g, 0)
	o.want("which takes it", "connect s1")
	if r.m.EvictFor(g, 0) || g.Servers() != 1 {
		t.Fatal("the group counts differently")
	}
}

func TestGroupOfOneManagerAsksNobody(t *testing.T) {
	g, set := &Group{Max: 1}, Settings{PoolSize: 5}
	r := newSharedRig(t, set, g)
	q := r.pool(set, g)
	s := r.serve(r.client("a"))
	q.Request(r.clientOf(q, "b"), 0)
	r.want("full", "")
	r.p.ServerLost(s, Failure{Message: "gone"}, 0)
	r.want("lost", "drop a (gone), connect s2")
	o := newSharedRig(t, set, g)
	o.p.Request(o.client("c"), 0)
	o.want("with a second manager", "evict")
	if !o.m.RemovePool(o.pool(set, g)) || g.managers.Load() != 2 {
		t.Fatal("managers are counted by pools")
	}
	r.m.Sweep(0)
	r.want("servers elsewhere are none", "")
}

func TestFreedPlaceReachesTheOtherManager(t *testing.T) {
	g, set := &Group{Max: 1}, Settings{PoolSize: 5}
	r, o := newSharedRig(t, set, g), newSharedRig(t, set, g)
	s := r.serve(r.client("a"))
	c := o.client("c")
	o.p.Request(c, 0)
	o.want("full", "evict")
	r.p.ServerLost(s, Failure{Message: "gone"}, 0)
	r.want("lost", "group freed, drop a (gone)")
	o.m.Freed(g, 0)
	o.want("told", "connect s1")
	o.p.ClientGone(c, true, 0)
	r.p.Request(r.client("b"), 0)
	r.want("now here", "evict")
	o.p.LoginFailed(o.servers[0], Failure{Message: "no"}, 0)
	o.want("told, too", "group freed")
	r.m.Freed(g, 0)
	r.want("told", "connect s2")
}

// TestStandingQueuesOfTwoManagersTakeTurns: the promise that holds within a manager
// holds between two.
func TestStandingQueuesOfTwoManagersTakeTurns(t *testing.T) {
	g := &Group{Max: 1}
	set := Settings{PoolSize: 5}
	rigs := [2]*rig{newSharedRig(t, set, g), newSharedRig(t, set, g)}
	since := map[*Client]Time{}
	busy := map[*Server]Time{}
	var longest [2]time.Duration
	var clients [2][]*Client
	for i, r := range rigs {
		for range 3 {
			clients[i] = append(clients[i], r.client("c"))
		}
	}
	var now Time
	logins := 0
	link := func(i int, c *Client, s *Server) {
		longest[i] = max(longest[i], now-since[c])
		busy[s] = now + 100*time.Millisecond
	}
	for ; now < 2*time.Minute; now += 20 * time.Millisecond {
		for s, until := range busy {
			if now >= until {
				delete(busy, s)
				s.pool.Release(s, now)
			}
		}
		for i, r := range rigs {
			for _, c := range clients[i] {
				if c.state == ClientIdle {
					since[c] = now
					if s := r.p.Request(c, now); s != nil {
						link(i, c, s)
					}
				}
			}
			if now%(340*time.Millisecond) == 0 {
				r.m.Sweep(now)
			}
		}
		for range 3 {
			for i, r := range rigs {
				o := rigs[1-i]
				for a, ok := r.m.Next(); ok; a, ok = r.m.Next() {
					switch a.Kind {
					case Connect:
						logins++
						a.Pool.ServerReady(a.Server, now)
					case Link:
						link(i, a.Client, a.Server)
					case Evict:
						o.m.EvictFor(g, now)
						r.m.Freed(g, now)
					case GroupFreed:
						o.m.Freed(g, now)
					}
				}
			}
		}
	}
	for i, wait := range longest {
		if wait = max(wait, rigs[i].p.MaxWait(now)); wait > 4*time.Second {
			t.Errorf("a client of manager %d waits for %s", i, wait)
		}
	}
	if logins > 130 || logins < 20 {
		t.Errorf("%d logins in two minutes", logins)
	}
}

func TestStockIsNotFilledAtTheCostOfOtherPools(t *testing.T) {
	g, set := &Group{Max: 1}, Settings{PoolSize: 5, MinPoolSize: 1}
	r := newSharedRig(t, set, g)
	q := r.pool(set, g)
	r.serve(r.client("a"))
	r.clientOf(q, "b")
	r.p.Release(r.servers[0], 0)
	for range 3 {
		r.m.Sweep(0)
	}
	r.want("both want one in stock", "")
}

func TestClientsOfOtherManagersComeBeforeStock(t *testing.T) {
	g := &Group{Max: 2}
	r, o := newSharedRig(t, Settings{PoolSize: 5, MinPoolSize: 1}, g), newSharedRig(t, Settings{PoolSize: 5}, g)
	r.client("a")
	r.m.Sweep(0)
	r.want("stock", "connect s1")
	o.serve(o.client("b"))
	o.p.Request(o.client("c"), 0)
	o.want("full", "evict")
	r.p.ServerLost(r.ready(), Failure{Message: "gone"}, 0)
	r.m.Sweep(0)
	r.want("not filled again", "group freed")
	o.m.Freed(g, 0)
	o.want("told", "connect s2")
}

func TestPlaceThatIsOfferedBackIsTaken(t *testing.T) {
	g := &Group{Max: 1}
	r, o := newSharedRig(t, Settings{PoolSize: 5}, g), newSharedRig(t, Settings{PoolSize: 5}, g)
	a := r.client("a")
	r.p.Release(r.serve(a), 0)
	o.p.Request(o.client("b"), 0)
	r.m.EvictFor(g, 0)
	r.run()
	r.p.Request(a, 0)
	r.want("left to the other", "")
	r.m.Freed(g, 0)
	r.want("offered back", "connect s2")
}

func TestPlaceThatIsNotTakenIsNotLost(t *testing.T) {
	g := &Group{Max: 1}
	r, o := newSharedRig(t, Settings{PoolSize: 5}, g), newSharedRig(t, Settings{PoolSize: 5}, g)
	a := r.client("a")
	r.p.Release(r.serve(a), 0)
	o.p.Request(o.client("b"), 0)
	r.m.EvictFor(g, 0)
	r.run()
	r.p.Request(a, 0)
	r.m.Sweep(999 * time.Millisecond)
	r.want("left to the other", "")
	r.m.Sweep(time.Second)
	r.want("for a second", "connect s2")
}

func TestLimitIsRaisedAndLowered(t *testing.T) {
	g := &Group{Max: 1}
	r := newSharedRig(t, Settings{PoolSize: 5}, g)
	r.serve(r.client("a"))
	r.p.Request(r.client("b"), 0)
	r.want("full", "")
	g.SetMax(2)
	r.m.Sweep(0)
	r.want("raised", "connect s2")
	g.SetMax(1)
	if g.Limit() != 1 || g.Servers() != 2 {
		t.Fatal("a lowered limit cuts")
	}
	g.SetMax(0)
	r.ready()
	r.p.Request(r.client("c"), 0)
	r.want("none", "link b s2, connect s3")
}

func TestEachPlaceIsGivenOnce(t *testing.T) {
	g := &Group{Max: 2}
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200_000 {
				if !g.acquire() {
					continue
				}
				if n := taken.Add(1); n > 2 {
					t.Errorf("%d places are taken, there are 2", n)
				}
				taken.Add(-1)
				g.n.Add(-1)
			}
		})
	}
	wg.Wait()
	if g.Servers() != 0 {
		t.Errorf("%d places are taken in the end", g.Servers())
	}
}

// racer is a manager in a thread of its own. Each of its servers serves once.
type racer struct {
	t       *testing.T
	m       Manager
	p       *Pool
	others  []*racer
	mail    chan *Group // in which a place may be free
	open    *atomic.Int32
	limit   int32
	clients [3]*Client
	linked  []*Server
	served  int
	now     Time
}

func (r *racer) act() {
	for a, ok := r.m.Next(); ok; a, ok = r.m.Next() {
		switch a.Kind {
		case Connect:
			if n := r.open.Add(1); n > r.limit {
				r.t.Errorf("%d servers, allowed %d", n, r.limit)
			}
			r.p.ServerReady(a.Server, r.now)
		case Link:
			r.linked = append(r.linked, a.Server)
		case DropClient:
			r.p.AddClient(a.Client, r.now)
		case Evict, GroupFreed:
			for _, o := range r.others {
				select {
				case o.mail <- a.Group:
				default: // its next sweep finds it
				}
			}
		case CloseServer:
			r.t.Errorf("a server is closed: %s", a.Reason.Message)
		}
	}
}

// turn is one turn of the thread's loop; it asks for servers until it was served so often.
func (r *racer) turn(rounds int) {
	r.now += time.Millisecond
	select {
	case g := <-r.mail:
		r.m.Freed(g, r.now)
	default:
		r.m.Sweep(r.now)
	}
	r.act()
	for _, c := range r.clients {
		if c.state == ClientIdle && r.served < rounds {
			r.served++
			if s := r.p.Request(c, r.now); s != nil {
				r.linked = append(r.linked, s)
			}
			r.act()
		}
	}
	for len(r.linked) > 0 {
		s := r.linked[0]
		r.linked = r.linked[1:]
		r.open.Add(-1) // before its place is given to another
		r.p.ServerLost(s, Failure{Message: "end"}, r.now)
		r.act()
	}
}

func TestLimitIsExactAcrossThreads(t *testing.T) {
	const rounds = 3000
	database, user := &Group{Max: 3}, &Group{Max: 4}
	var open atomic.Int32
	racers := make([]*racer, 4)
	for i := range racers {
		r := &racer{t: t, mail: make(chan *Group, 64), open: &open, limit: 3}
		r.p = r.m.AddPool(&Settings{PoolSize: 2, ParallelConnects: 2, ServerLifetime: time.Hour}, database, user, nil)
		for k := range r.clients {
			r.clients[k] = &Client{}
			r.p.AddClient(r.clients[k], 0)
		}
		racers[i] = r
	}
	var wg sync.WaitGroup
	for i, r := range racers {
		for k, o := range racers {
			if k != i {
				r.others = append(r.others, o)
			}
		}
		wg.Go(func() {
			for r.served < rounds || r.p.Clients(ClientWaiting)+r.p.TotalServers() > 0 {
				r.turn(rounds)
			}
		})
	}
	wg.Wait()
	for _, g := range []*Group{database, user} {
		if g.Servers() != 0 || g.waiters.Load() != 0 || g.starving.Load() != 0 {
			t.Errorf("%d servers, %d wait, %d starve in the end", g.Servers(), g.waiters.Load(), g.starving.Load())
		}
	}
}
