package pool

import (
	"testing"
	"time"
)

func (r *rig) dedicated(name string) *Client {
	c := &Client{Owner: name}
	r.p.Dedicated(c, r.now)
	return c
}

func TestReplicationClientHasAServerOfItsOwn(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 3})
	a := r.client("a")
	s := r.serve(a)
	r.p.Release(s, r.now)
	d := r.dedicated("d")
	r.want("an idle server is of no use to it", "connect s2")
	if own := r.servers[1]; !own.Dedicated() || own.Client() != nil || d.Server() != nil || d.State() != ClientWaiting {
		t.Fatal("the login is told differently")
	}
	r.ready()
	r.want("login", "link d s2")
	if k := r.p.CancelQuery(d); k == nil || k.Stale() {
		t.Fatal("a query of its cannot be canceled")
	} else {
		r.p.CancelDone(k, r.now)
	}
	r.p.Request(a, r.now)
	r.p.Request(r.client("b"), r.now)
	r.want("it counts in the pool", "connect s3")
	r.p.ClientGone(d, true, r.now)
	r.want("it goes", "close s2 (client disconnect)")
	r.p.LoginFailed(r.servers[2], Failure{Message: "no"}, r.now)
	r.want("b tries again", "connect s4")
}

func TestDedicatedServerGoesWithItsClient(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(*rig, *Client)
		want string
	}{
		"left during the login": {func(r *rig, c *Client) { r.p.ClientGone(c, true, r.now) }, "close s1 (client disconnect)"},
		"left, linked": {func(r *rig, c *Client) {
			r.ready()
			r.run()
			r.p.ClientGone(c, true, r.now)
		}, "close s1 (client disconnect)"},
		"left in the middle, and nothing is rescued": {func(r *rig, c *Client) {
			r.ready()
			r.run()
			r.p.ClientGoneRescue(c, r.now)
		}, "close s1 (client disconnect)"},
		"released, which must not happen": {func(r *rig, c *Client) {
			r.p.Release(r.ready(), r.now)
		}, "link d s1, close s1 (dedicated server released), drop d (dedicated server released)"},
		"login failed":          {func(r *rig, c *Client) { r.p.LoginFailed(r.servers[0], Failure{Message: "no"}, r.now) }, "drop d (no)"},
		"lost during the login": {func(r *rig, c *Client) { r.p.ServerLost(r.servers[0], Failure{Message: "gone"}, r.now) }, "drop d (gone)"},
		"login takes too long": {func(r *rig, c *Client) {
			r.m.Sweep(r.now + 9*time.Second)
			r.want("too long", "close s1 (connect timeout)")
			r.m.Sweep(r.now + 10*time.Second)
		}, "connect s2"},
		"client waits too long": {func(r *rig, c *Client) {
			r.p.Settings.QueryWait = 5 * time.Second
			r.m.Sweep(r.now + 6*time.Second)
		}, "close s1 (query_wait_timeout), drop d (query_wait_timeout)"},
		"killed": {func(r *rig, c *Client) { r.p.Kill("bye", r.now) }, "close s1 (bye), drop d (bye)"},
		"login done again after a pause": {func(r *rig, c *Client) {
			r.p.Pause(r.now)
			r.ready()
			r.want("paused", "close s1 (pause mode)")
			r.p.Resume(r.now)
		}, "connect s2"},
		"login done again after SUSPEND": {func(r *rig, c *Client) {
			r.p.Suspend(r.now)
			r.ready()
			r.want("suspended", "close s1 (suspended)")
			r.p.Unsuspend(r.now)
		}, "connect s2"},
		"login done again after RECONNECT": {func(r *rig, c *Client) {
			r.p.Reconnect("RECONNECT", r.now)
			r.ready()
		}, "close s1 (RECONNECT), connect s2"},
		"login deferred": {func(r *rig, c *Client) {
			r.p.LoginDeferred(r.servers[0], r.now)
			r.want("deferred", "")
			r.m.Sweep(r.now + time.Second)
		}, "connect s2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, Settings{PoolSize: 3, ConnectTimeout: 8 * time.Second, LoginRetry: time.Second})
			d := r.dedicated("d")
			r.want("opened at once", "connect s1")
			test.end(r, d)
			r.want("end", test.want)
			if d.State() == ClientGone && r.p.TotalClients()+r.p.TotalServers() > 0 {
				t.Fatal("something is left")
			}
		})
	}
}

func TestFailedLoginOfADedicatedServerIsNoFailureOfThePool(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 3, LoginRetry: time.Hour})
	r.dedicated("d")
	r.run()
	r.p.LoginFailed(r.servers[0], Failure{Message: "no pg_hba.conf entry for replication"}, r.now)
	r.want("failure", "drop d (no pg_hba.conf entry for replication)")
	r.p.Request(r.client("a"), r.now)
	r.want("others are served", "connect s2")
}

func TestDedicatedServerTakesAPlaceInTurn(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2})
	a, b := r.client("a"), r.client("b")
	sa, sb := r.serve(a), r.serve(b)
	r.p.Request(r.client("c"), r.now)
	r.dedicated("d")
	r.p.Request(r.client("e"), r.now)
	r.want("full", "")
	r.p.Release(sa, r.now)
	r.want("c came first", "link c s1")
	r.p.Release(sb, r.now)
	r.want("then d", "close s2 (evicted), connect s3")
	r.p.Release(sa, r.now)
	r.want("e needs no place", "link e s1")
	r.p.Release(sa, r.now)
	r.dedicated("f")
	r.want("one login at a time", "")
	r.ready()
	r.want("f takes the idle server's place", "link d s3, close s1 (evicted), connect s4")
}

func TestDedicatedServerTakesAPlaceInAGroup(t *testing.T) {
	g := &Group{Max: 1}
	r := newSharedRig(t, Settings{PoolSize: 2}, g)
	q := r.pool(Settings{PoolSize: 2}, g)
	b := r.clientOf(q, "b")
	s := r.serve(b)
	r.dedicated("d")
	r.want("full", "")
	q.Release(s, r.now)
	r.want("an idle server of another pool goes", "close s1 (evicted), connect s2")
	if g.Servers() != 1 {
		t.Fatalf("%d servers", g.Servers())
	}
}

func TestWaitersAreTheQueueInOrder(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	r.p.Request(r.client("a"), r.now)
	r.run()
	r.now += time.Second
	r.dedicated("b")
	r.now += time.Second
	r.p.Request(r.client("c"), r.now)
	order := ""
	r.p.EachWaiter(func(c *Client) bool {
		order += c.Owner.(string)
		return true
	})
	if order != "abc" || r.p.Clients(ClientWaiting) != 3 || r.p.MaxWait(r.now) != 2*time.Second {
		t.Fatalf("%q, %d wait, for %s", order, r.p.Clients(ClientWaiting), r.p.MaxWait(r.now))
	}
}
