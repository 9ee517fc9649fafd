package pool

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// rig carries the actions out for the table tests: it notes them in words.
type rig struct {
	t   *testing.T
	m   Manager
	p   *Pool
	now Time
	// servers in the order of their Connect
	servers []*Server
}

func newRig(t *testing.T, s Settings) *rig { return newSharedRig(t, s, nil) }

// newSharedRig is a rig whose pool is in a group.
func newSharedRig(t *testing.T, s Settings, g *Group) *rig {
	r := &rig{t: t}
	r.p = r.pool(s, g)
	return r
}

func (r *rig) pool(s Settings, g *Group) *Pool {
	if s.ServerLifetime == 0 {
		s.ServerLifetime = time.Hour
	}
	return r.m.AddPool(&s, g, nil, nil)
}

func (r *rig) client(name string) *Client { return r.clientOf(r.p, name) }

func (r *rig) clientOf(p *Pool, name string) *Client {
	c := &Client{Owner: name}
	p.AddClient(c, r.now)
	return c
}

// ready lets the last server that was opened log in.
func (r *rig) ready() *Server {
	s := r.servers[len(r.servers)-1]
	s.pool.ServerReady(s, r.now)
	return s
}

// serve has the pool link its only client to a new server.
func (r *rig) serve(c *Client) *Server {
	r.t.Helper()
	c.pool.Request(c, r.now)
	r.run()
	s := r.ready()
	r.run()
	if c.Server() != s {
		r.t.Fatalf("%v is not served", c.Owner)
	}
	return s
}

// run carries out what is to be done and returns it in words.
func (r *rig) run() string {
	var out []string
	name := func(s *Server) string {
		for i, k := range r.servers {
			if k == s {
				return "s" + strconv.Itoa(i+1)
			}
		}
		return "?"
	}
	for a, ok := r.m.Next(); ok; a, ok = r.m.Next() {
		switch a.Kind {
		case Connect:
			r.servers = append(r.servers, a.Server)
			out = append(out, "connect "+name(a.Server))
		case Link:
			out = append(out, "link "+a.Client.Owner.(string)+" "+name(a.Server))
		case Reset:
			out = append(out, "reset "+name(a.Server))
		case Check:
			out = append(out, "check "+name(a.Server))
		case CloseServer:
			out = append(out, "close "+name(a.Server)+" ("+a.Reason.Message+")")
		case DropClient:
			out = append(out, "drop "+a.Client.Owner.(string)+" ("+a.Reason.Message+")")
		case Welcome:
			out = append(out, "welcome "+a.Client.Owner.(string))
		case ReserveTaken:
			out = append(out, "reserve")
		case Rescue:
			out = append(out, "rescue "+name(a.Server))
		case Evict:
			out = append(out, "evict")
		case GroupFreed:
			out = append(out, "group freed")
		}
	}
	return strings.Join(out, ", ")
}

func (r *rig) want(what, want string) {
	r.t.Helper()
	if got := r.run(); got != want {
		r.t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	a, b, c := r.client("a"), r.client("b"), r.client("c")
	r.p.Request(a, r.now)
	r.p.Request(b, r.now)
	r.p.Request(c, r.now)
	r.want("three requests", "connect s1")
	r.p.ServerReady(r.servers[0], r.now)
	r.want("login", "link a s1")
	r.p.Release(r.servers[0], r.now)
	r.want("release", "link b s1")
	r.p.ClientGone(c, true, r.now)
	r.p.Release(r.servers[0], r.now)
	r.want("nobody waits", "")
	if s := r.p.Request(a, r.now); s != r.servers[0] {
		t.Fatal("an idle server is not taken at once")
	}
}

func TestOneServerLogsInAtATime(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 3})
	for _, n := range []string{"a", "b", "c", "d"} {
		r.p.Request(r.client(n), r.now)
	}
	r.want("requests", "connect s1")
	r.p.ServerReady(r.servers[0], r.now)
	r.want("first", "link a s1, connect s2")
	r.p.ServerReady(r.servers[1], r.now)
	r.want("second", "link b s2, connect s3")
	r.p.ServerReady(r.servers[2], r.now)
	r.want("third and last", "link c s3")
}

func TestReserveServesWhoWaitedLong(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1, ReserveSize: 1, ReserveTimeout: 5 * time.Second})
	r.p.Request(r.client("a"), r.now)
	r.p.Request(r.client("b"), r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.want("login", "link a s1")
	r.now = 4 * time.Second
	r.m.Sweep(r.now)
	r.want("too early", "")
	r.now = 5 * time.Second
	r.m.Sweep(r.now)
	r.want("in time", "reserve, connect s2")
}

func TestIdleServerOfAnotherPoolIsEvicted(t *testing.T) {
	db, set := &Group{Max: 1}, Settings{PoolSize: 5}
	r := newSharedRig(t, set, db)
	p, q := r.p, r.pool(set, db)
	a, b := r.client("a"), r.clientOf(q, "b")
	p.Request(a, 0)
	r.want("a", "connect s1")
	p.ServerReady(r.servers[0], 0)
	r.want("a", "link a s1")
	q.Request(b, 0)
	r.want("b waits for a", "")
	p.Release(r.servers[0], 0)
	r.want("b takes a's place", "close s1 (evicted), connect s2")
}

func TestPlaceOfAServerThatDoesNotAnswerIsGivenOn(t *testing.T) {
	db, set := &Group{Max: 1}, Settings{PoolSize: 5, ConnectTimeout: 15 * time.Second, LoginRetry: 15 * time.Second}
	r := newSharedRig(t, set, db)
	p, q := r.p, r.pool(set, db)
	a, b := r.client("a"), r.clientOf(q, "b")
	q.Request(b, 0)
	r.want("b", "connect s1")
	p.Request(a, 0)
	r.want("a waits for b", "")
	r.m.Sweep(15 * time.Second)
	r.want("the pool that was swept first goes on in the same sweep",
		"close s1 (connect timeout), connect s2")
}

// standingQueue has two pools share one server. Three clients of each ask for a
// transaction of 100 ms as soon as they have had one; it returns the longest wait of each.
func standingQueue(t *testing.T, set Settings, twoUsers bool) (longest [2]time.Duration, logins int) {
	t.Helper()
	var m Manager
	set.PoolSize = 5
	if set.ServerLifetime == 0 {
		set.ServerLifetime = time.Hour
	}
	database, user := &Group{Max: 1}, &Group{}
	if !twoUsers {
		database, user = user, database
	}
	var now Time
	pools := [2]*Pool{m.AddPool(&set, database, user, 0), m.AddPool(&set, database, user, 1)}
	busy := map[*Server]Time{}
	link := func(c *Client, s *Server, since Time) {
		i := c.pool.Owner.(int)
		longest[i] = max(longest[i], now-since)
		busy[s] = now + 100*time.Millisecond
	}
	var clients []*Client
	for i := range 6 {
		c := &Client{Owner: new(Time)}
		pools[i/3].AddClient(c, now)
		clients = append(clients, c)
	}
	for ; now < 2*time.Minute; now += 20 * time.Millisecond {
		for s, until := range busy {
			if now >= until {
				delete(busy, s)
				s.pool.Release(s, now)
			}
		}
		for _, c := range clients {
			if c.state == ClientIdle {
				*c.Owner.(*Time) = now
				if s := c.pool.Request(c, now); s != nil {
					link(c, s, now)
				}
			}
		}
		if now%(340*time.Millisecond) == 0 {
			m.Sweep(now)
		}
		for a, ok := m.Next(); ok; a, ok = m.Next() {
			switch a.Kind {
			case Connect:
				logins++
				a.Pool.ServerReady(a.Server, now)
			case Reset, Check:
				a.Pool.Tested(a.Server, now)
			case Link:
				link(a.Client, a.Server, *a.Client.Owner.(*Time))
			}
		}
	}
	for i, p := range pools {
		longest[i] = max(longest[i], p.MaxWait(now))
	}
	return longest, logins
}

func TestStandingQueueDoesNotKeepASharedServerForItself(t *testing.T) {
	for name, set := range map[string]Settings{
		"plain": {}, "reset after use": {Reset: true}, "checked before use": {Check: true}, "used once": {ServerLifetime: 1},
	} {
		for _, twoUsers := range []bool{true, false} {
			longest, logins := standingQueue(t, set, twoUsers)
			for i, wait := range longest {
				if wait > 4*time.Second {
					t.Errorf("%s: a client of pool %d waits for %s", name, i, wait)
				}
			}
			if set.ServerLifetime == 0 && logins > 130 {
				t.Errorf("%s: %d logins in two minutes", name, logins)
			}
		}
	}
}

func TestLoginFailureReachesEverybodyAndIsRemembered(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2, LoginRetry: 15 * time.Second})
	a, b := r.client("a"), r.client("b")
	r.p.Request(a, r.now)
	w := &Client{Owner: "w"}
	r.p.AwaitWelcome(w, r.now)
	r.run()
	r.p.LoginFailed(r.servers[0], Failure{"28P01", "no"}, r.now)
	r.want("failure", "drop w (no), drop a (no)")
	r.p.Request(b, r.now+time.Second)
	r.want("newcomer", "drop b (server login has been failing, cached error: no (server_login_retry))")
	c := r.client("c")
	r.p.Request(c, r.now+15*time.Second)
	r.want("after the pause", "connect s2")
	r.p.ServerReady(r.servers[1], r.now)
	r.want("again well", "link c s2")
}

func TestServerThatIsNotThereKeepsClientsWaiting(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2, LoginRetry: time.Second})
	r.p.Request(r.client("a"), r.now)
	r.run()
	r.p.LoginDeferred(r.servers[0], r.now)
	r.p.Request(r.client("newcomer"), r.now)
	r.want("failure", "")
	r.m.Sweep(r.now + 500*time.Millisecond)
	r.want("pause", "")
	r.m.Sweep(r.now + time.Second)
	r.want("next try", "connect s2")
}

func TestConnectTimeout(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2, ConnectTimeout: 3 * time.Second, LoginRetry: time.Second})
	r.p.Request(r.client("a"), r.now)
	r.run()
	r.m.Sweep(3 * time.Second)
	r.want("timeout", "close s1 (connect timeout)")
	r.m.Sweep(4 * time.Second)
	r.want("again", "connect s2")
}

func TestResetComesBeforeTheNextClient(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1, Reset: true})
	a, b := r.client("a"), r.client("b")
	r.p.Request(a, r.now)
	r.p.Request(b, r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.want("login", "link a s1")
	r.p.ClientGone(a, true, r.now)
	r.want("a leaves", "reset s1")
	r.p.Tested(r.servers[0], r.now)
	r.want("reset", "link b s1")
	r.p.ClientGone(b, false, r.now)
	r.want("b leaves in a transaction", "close s1 (client disconnect while server was not ready)")
}

func TestLongIdleServerIsCheckedFirst(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1, Check: true, CheckDelay: 30 * time.Second})
	a := r.client("a")
	r.p.Request(a, r.now)
	r.run()
	s := func() *Server { return r.servers[0] }
	r.p.ServerReady(s(), r.now)
	r.run()
	r.p.Release(s(), r.now)
	r.now = 30 * time.Second
	r.m.Sweep(r.now)
	r.want("gets used", "")
	if r.p.Servers(ServerUsed) != 1 {
		t.Fatal("not used")
	}
	r.p.Request(a, r.now)
	r.want("request", "check s1")
	r.p.Tested(s(), r.now)
	r.want("check is well", "link a s1")
}

func TestCheckDelayZeroChecksBeforeEachUse(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1, Check: true})
	a := r.client("a")
	r.p.Request(a, r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.want("a fresh server needs none", "link a s1")
	r.p.Release(r.servers[0], r.now)
	r.p.Request(a, r.now)
	r.want("again", "check s1")
}

func TestCancelKeepsTheServerFromTheNextClient(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	a, b := r.client("a"), r.client("b")
	r.p.Request(a, r.now)
	r.p.Request(b, r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.run()
	k := r.p.CancelQuery(a)
	if k == nil || k.Stale() {
		t.Fatal("a running query cannot be canceled")
	}
	r.p.Release(r.servers[0], r.now)
	r.want("the query ended first", "")
	if !k.Stale() {
		t.Fatal("the cancel request would still be sent")
	}
	r.p.CancelDone(k, r.now)
	r.want("the request has arrived", "link b s1")
	if k := r.p.CancelQuery(a); k != nil {
		t.Fatal("an idle client has something to cancel")
	}
}

func TestPauseEmptiesThePoolAndResumeFillsIt(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2})
	a, b := r.client("a"), r.client("b")
	r.p.Request(a, r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.run()
	r.p.Pause(r.now)
	r.p.Request(b, r.now)
	r.want("pause", "")
	if !r.p.Busy() {
		t.Fatal("at rest with an active server")
	}
	r.p.Release(r.servers[0], r.now)
	r.want("release", "close s1 (pause mode)")
	if r.p.Busy() {
		t.Fatal("busy without a server")
	}
	r.p.Resume(r.now)
	r.want("resume", "connect s2")
}

func TestTimeLimitsOfIdleServersAndQueue(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2, ServerIdle: 10 * time.Second, QueryWait: 3 * time.Second})
	a, b := r.client("a"), r.client("b")
	r.p.Request(a, r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.run()
	r.p.Release(r.servers[0], r.now)
	r.m.Sweep(9 * time.Second)
	r.want("young", "")
	r.m.Sweep(10 * time.Second)
	r.want("idle too long", "close s1 (server idle timeout)")
	r.p.Pause(10 * time.Second)
	r.p.Request(b, 10*time.Second)
	r.m.Sweep(13 * time.Second)
	r.want("waited too long", "drop b (query_wait_timeout)")
	r.p.ForgetWelcome()
	r.p.AwaitWelcome(&Client{Owner: "c"}, 14*time.Second)
	r.m.Sweep(16 * time.Second)
	r.want("a login", "")
	r.m.Sweep(17 * time.Second)
	r.want("waits no longer", "drop c (query_wait_timeout)")
}

func TestServersOfOneAgeAreNotClosedTogether(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2, ServerLifetime: time.Hour})
	a, b := r.client("a"), r.client("b")
	r.p.Request(a, r.now)
	r.p.Request(b, r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.run()
	r.p.ServerReady(r.servers[1], r.now)
	r.run()
	r.p.Release(r.servers[0], r.now)
	r.p.Release(r.servers[1], r.now)
	r.m.Sweep(time.Hour)
	r.want("first", "close s2 (server lifetime over)")
	r.m.Sweep(time.Hour + 29*time.Minute)
	r.want("not yet", "")
	r.m.Sweep(time.Hour + 30*time.Minute)
	r.want("second", "close s1 (server lifetime over)")
}

func TestMinPoolSizeIsFilledOneByOne(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 5, MinPoolSize: 2})
	r.m.Sweep(r.now)
	r.want("nobody there", "")
	r.client("a")
	r.m.Sweep(r.now)
	r.want("one", "connect s1")
	r.p.ServerReady(r.servers[0], r.now)
	r.want("two", "connect s2")
	r.p.ServerReady(r.servers[1], r.now)
	r.want("enough", "")
}

func TestReconnectAndKill(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2})
	a, b := r.client("a"), r.client("b")
	r.p.Request(a, r.now)
	r.p.Request(b, r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.run()
	r.p.ServerReady(r.servers[1], r.now)
	r.run()
	r.p.Release(r.servers[0], r.now)
	r.p.Reconnect("RECONNECT", r.now)
	r.want("the idle one at once", "close s1 (RECONNECT)")
	r.p.Release(r.servers[1], r.now)
	r.want("the active one at its release", "close s2 (RECONNECT)")
	r.p.Request(a, r.now)
	r.run()
	r.p.ServerReady(r.servers[2], r.now)
	r.run()
	r.p.Kill("admin forced disconnect", r.now)
	r.want("kill", "close s3 (admin forced disconnect), drop a (admin forced disconnect), drop b (admin forced disconnect)")
	if !r.m.RemovePool(r.p) {
		t.Fatal("an empty pool cannot be removed")
	}
}

func TestLostServerDropsItsClientOnly(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	r.p.Request(r.client("a"), r.now)
	r.p.Request(r.client("b"), r.now)
	r.run()
	r.p.ServerReady(r.servers[0], r.now)
	r.run()
	r.p.ServerLost(r.servers[0], Failure{Message: "server conn crashed?"}, r.now)
	r.want("lost", "drop a (server conn crashed?), connect s2")
}
