package pool

import (
	"fmt"
	"testing"
	"time"
)

func TestServersLogInInParallelOnceOneHasSucceeded(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 5, ParallelConnects: 3})
	for _, n := range []string{"a", "b", "c", "d", "e", "f"} {
		r.p.Request(r.client(n), r.now)
	}
	r.want("the first is a trial", "connect s1")
	r.ready()
	r.want("now three", "link a s1, connect s2, connect s3, connect s4")
	r.p.LoginFailed(r.servers[1], Failure{Message: "no"}, r.now)
	r.want("a failure", "")
	r.p.ServerReady(r.servers[2], r.now)
	r.want("well again, up to the pool's size", "link b s3, connect s5, connect s6")
	r.p.ServerReady(r.servers[3], r.now)
	r.want("full", "link c s4")
}

func TestNoMoreServersLogInThanAreNeeded(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 9, ParallelConnects: 5})
	r.serve(r.client("a"))
	r.p.Request(r.client("b"), r.now)
	r.p.Request(r.client("c"), r.now)
	r.want("two wait", "connect s2, connect s3")
	r.p.Release(r.servers[0], r.now)
	r.want("one is served otherwise", "link b s1")
	r.p.Request(r.client("d"), r.now)
	r.want("for d a server comes already", "")
	r.p.ForgetWelcome()
	r.p.Request(r.client("e"), r.now)
	r.want("a trial again", "")
}

func TestMinPoolSizeIsFilledInParallel(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 9, MinPoolSize: 4, ParallelConnects: 2, ServerIdle: time.Second})
	a := r.client("a")
	r.m.Sweep(r.now)
	r.want("a trial", "connect s1")
	r.ready()
	r.want("two", "connect s2, connect s3")
	r.p.Request(a, r.now)
	r.ready()
	r.want("enough", "connect s4")
	r.ready()
	r.p.ServerReady(r.servers[1], r.now)
	r.run()
	r.p.Release(a.Server(), r.now)
	r.m.Sweep(r.now + time.Hour - time.Second)
	r.want("idle ones are kept", "")
	r.p.ClientGone(a, true, r.now)
	r.p.Reconnect("again", r.now)
	r.run()
	r.m.Sweep(r.now)
	r.want("nobody is there", "")
}

func TestDeferredLoginDropsNobody(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 3, LoginRetry: 3 * time.Second})
	r.p.Request(r.client("a"), r.now)
	w := &Client{Owner: "w"}
	r.p.AwaitWelcome(w, r.now)
	r.run()
	r.p.LoginDeferred(r.servers[0], r.now)
	r.want("deferred", "")
	r.p.Request(r.client("b"), r.now)
	r.want("newcomers wait", "")
	r.m.Sweep(2 * time.Second)
	r.want("the pause lasts", "")
	r.now = 3 * time.Second
	r.m.Sweep(r.now)
	r.want("next attempt", "connect s2")
	r.ready()
	r.want("well", "welcome w, link a s2, connect s3")
	r.p.LoginDeferred(r.servers[2], r.now)
	r.p.LoginDeferred(r.servers[2], r.now)
	if r.p.TotalServers() != 1 {
		t.Fatal("a login has two ends")
	}
}

func TestAbandonedServerIsRescued(t *testing.T) {
	for name, test := range map[string]struct {
		set  Settings
		prep func(*rig, *Server)
		want string
		then func(*rig, *Server)
		end  string
	}{
		"to idle": {want: "rescue s1", then: func(r *rig, s *Server) { r.p.Tested(s, r.now) }, end: "link b s1"},
		"to reset": {set: Settings{Reset: true}, want: "rescue s1",
			then: func(r *rig, s *Server) {
				r.p.Tested(s, r.now)
				r.want("rescued", "reset s1")
				r.p.Tested(s, r.now)
			}, end: "link b s1"},
		"reset that the server requires": {prep: func(r *rig, s *Server) { s.RequireReset() }, want: "rescue s1",
			then: func(r *rig, s *Server) { r.p.Tested(s, r.now) }, end: "reset s1"},
		"lost meanwhile": {want: "rescue s1",
			then: func(r *rig, s *Server) { r.p.ServerLost(s, Failure{Message: "gone"}, r.now) }, end: "connect s2"},
		"too slow": {set: Settings{RescueTimeout: 5 * time.Second}, want: "rescue s1",
			then: func(r *rig, s *Server) {
				r.m.Sweep(r.now + 4*time.Second)
				r.want("in time", "")
				r.m.Sweep(r.now + 5*time.Second)
			}, end: "close s1 (rescue timeout), connect s2"},
		"to be closed": {prep: func(r *rig, s *Server) { s.RequireClose("old") },
			want: "close s1 (client disconnect while server was not ready), connect s2"},
		"to be closed meanwhile": {want: "rescue s1",
			then: func(r *rig, s *Server) {
				s.RequireClose("old")
				r.p.Tested(s, r.now)
			}, end: "close s1 (old), connect s2"},
		"too old": {prep: func(r *rig, s *Server) { r.now = 2 * time.Hour },
			want: "close s1 (client disconnect while server was not ready), connect s2"},
		"paused": {prep: func(r *rig, s *Server) { r.p.Pause(r.now) }, want: "close s1 (client disconnect while server was not ready)"},
		"paused meanwhile": {want: "rescue s1",
			then: func(r *rig, s *Server) {
				r.p.Pause(r.now)
				r.p.Tested(s, r.now)
			}, end: "close s1 (pause mode)"},
		"a cancel on its way": {want: "rescue s1",
			then: func(r *rig, s *Server) {
				k := r.p.CancelRescue(s)
				if k == nil || k.Stale() {
					r.t.Fatal("what is rescued cannot be canceled")
				}
				r.p.Tested(s, r.now)
				r.want("rescued", "")
				if !k.Stale() || r.p.CancelRescue(s) != nil {
					r.t.Fatal("the rescue is told differently")
				}
				r.p.CancelDone(k, r.now)
			}, end: "link b s1"},
	} {
		t.Run(name, func(t *testing.T) {
			test.set.PoolSize = 1
			r := newRig(t, test.set)
			a, b := r.client("a"), r.client("b")
			s := r.serve(a)
			r.p.Request(b, r.now)
			if test.prep != nil {
				test.prep(r, s)
			}
			r.p.ClientGoneRescue(a, r.now)
			r.want("gone", test.want)
			if test.then != nil {
				test.then(r, s)
			}
			r.want("end", test.end)
		})
	}
}

func TestNobodyCountsOnARescue(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2})
	a := r.client("a")
	r.serve(a)
	r.p.ClientGoneRescue(a, r.now)
	r.want("gone", "rescue s1")
	r.p.Request(r.client("b"), r.now)
	r.want("b does not wait for it", "connect s2")
}

func TestResetThatAServerRequiresComesOnce(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	a := r.client("a")
	s := r.serve(a)
	s.RequireReset()
	r.p.Release(s, r.now)
	r.want("first release", "reset s1")
	r.p.Tested(s, r.now)
	r.p.Request(a, r.now)
	r.p.Release(s, r.now)
	r.want("second release", "")
}

func TestServerThatIsToBeClosedIsNotGivenAway(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2})
	a, b := r.client("a"), r.client("b")
	r.serve(a)
	r.serve(b)
	r.p.Release(r.servers[0], r.now)
	r.p.Release(r.servers[1], r.now)
	r.servers[1].RequireClose("old")
	if r.p.Request(a, r.now) != r.servers[0] {
		t.Fatal("the one that is to be closed comes first")
	}
	r.p.Request(b, r.now)
	r.want("no other is there", "close s2 (old), connect s3")
}

func TestReconnectSlowlyTakesItsTime(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 20, ParallelConnects: 20})
	var cs []*Client
	for i := range 10 {
		cs = append(cs, r.client(fmt.Sprint(i)))
		r.serve(cs[i])
	}
	r.p.Release(cs[0].Server(), r.now)
	r.p.ReconnectSlowly("slowly", 3, r.now)
	r.want("free ones first, at once", "close s1 (slowly)")
	marked := func() int {
		n := 0
		for _, s := range r.servers {
			if s.CloseNeeded() {
				n++
			}
		}
		return n
	}
	for step := 1; step <= 12; step++ {
		r.now = time.Duration(step) * 333 * time.Millisecond
		r.m.Sweep(r.now)
		second := int(r.now / time.Second)
		if n := marked(); n > 3*(second+1) || n < min(10, 3*second) {
			t.Fatalf("%d are marked after %s", n, r.now)
		}
		if r.p.Reconnecting() != (marked() < 10) {
			t.Fatalf("after %s it is told differently", r.now)
		}
		if step == 4 {
			r.want("active ones stay", "")
			r.serve(cs[0])
		}
	}
	if cs[0].Server().CloseNeeded() {
		t.Fatal("a server opened later was touched")
	}
	r.p.Release(cs[9].Server(), r.now)
	r.want("release", "close s10 (slowly)")
	r.p.ReconnectSlowly("again", 1, r.now)
	r.p.Release(cs[0].Server(), r.now)
	r.want("none is left but the new one", "close s11 (again)")
	if r.p.Reconnecting() {
		t.Fatal("goes on")
	}
}

func TestReconnectSlowlyMakesUpForNothing(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 9})
	for i := range 9 {
		r.serve(r.client(fmt.Sprint(i)))
	}
	r.p.ReconnectSlowly("slowly", 2, r.now)
	r.m.Sweep(time.Minute)
	r.m.Sweep(time.Minute)
	n := 0
	r.p.EachServer(func(s *Server) {
		if s.CloseNeeded() {
			n++
		}
	})
	if n != 2 {
		t.Fatalf("%d are marked after one late sweep", n)
	}
	r.p.ServerLost(r.servers[0], Failure{Message: "gone"}, r.now)
	r.p.ServerLost(r.servers[8], Failure{Message: "gone"}, r.now)
	if r.p.obsolete != 6 {
		t.Fatalf("%d are to come, one of which is gone", r.p.obsolete)
	}
	r.p.Reconnect("all", r.now)
	if r.p.Reconnecting() {
		t.Fatal("RECONNECT does not end it")
	}
}

func TestSuspendedPoolKeepsWhatItHas(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 3, ServerIdle: time.Second, QueryWait: time.Second, Check: true, CheckDelay: time.Second})
	a, b := r.client("a"), r.client("b")
	r.serve(a)
	r.serve(b)
	r.p.Release(r.servers[1], r.now)
	r.p.Suspend(r.now)
	if r.p.Request(b, r.now) != nil {
		t.Fatal("linked")
	}
	r.p.Release(r.servers[0], r.now)
	r.now = time.Hour
	r.m.Sweep(r.now)
	r.want("suspended", "")
	if r.p.Servers(ServerIdle) != 2 || !r.p.Suspended() || r.p.Paused() {
		t.Fatal("not kept")
	}
	r.p.Unsuspend(r.now)
	r.want("resumed", "link b s1")
}

func TestSuspendedPoolIsNotEvicted(t *testing.T) {
	g := &Group{Max: 1}
	r := newSharedRig(t, Settings{PoolSize: 2}, g)
	q := r.pool(Settings{PoolSize: 2}, g)
	r.serve(r.client("a"))
	r.p.Suspend(r.now)
	r.p.Release(r.servers[0], r.now)
	q.Request(r.clientOf(q, "b"), r.now)
	if r.m.EvictFor(g, r.now) {
		t.Fatal("evicted for another manager")
	}
	r.want("suspended", "")
	r.p.Unsuspend(r.now)
	r.want("resumed", "close s1 (evicted), connect s2")
}

func TestAdoptedClientsAndServersGoOn(t *testing.T) {
	g := &Group{Max: 1}
	r := newSharedRig(t, Settings{PoolSize: 1, ServerLifetime: time.Hour}, g)
	r.p.SetWelcome()
	r.p.Suspend(r.now)
	r.now = time.Minute
	a, b, c, d := &Client{Owner: "a"}, &Client{Owner: "b"}, &Client{Owner: "c"}, &Client{Owner: "d"}
	idle := r.p.AdoptServer(ServerIdle, 0, r.now, "idle")
	used := r.p.AdoptServer(ServerTested, 0, r.now, "used")
	linked := r.p.AdoptServer(ServerIdle, 0, r.now, "linked")
	r.servers = []*Server{idle, used, linked}
	r.p.AdoptLink(a, linked, r.now)
	own := r.p.AdoptDedicated(d, 0, r.now, "own")
	r.servers = append(r.servers, own)
	r.p.AdoptWaiting(b, r.now)
	r.p.AdoptWaiting(c, r.now)
	w := &Client{Owner: "w"}
	r.p.AwaitWelcome(w, r.now)
	r.want("adopted", "welcome w")
	if g.Servers() != 4 || r.p.TotalServers() != 4 || used.State() != ServerUsed || idle.Created() != 0 || idle.Owner != "idle" ||
		a.Server() != linked || d.Server() != own || !own.Dedicated() {
		t.Fatal("not as told")
	}
	r.p.Unsuspend(r.now)
	r.want("the queue is served in order", "link b s1, check s2")
	r.p.Tested(used, r.now)
	r.want("checked", "link c s2")
	r.p.Release(linked, r.now)
	r.p.ClientGone(d, true, r.now)
	r.want("the own one goes", "close s4 (client disconnect)")
	r.now = time.Hour
	r.m.Sweep(r.now)
	r.want("its age counts from its making", "close s3 (server lifetime over)")
}

func TestWelcomeThatIsKnownLetsWaitersIn(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	w := &Client{Owner: "w"}
	r.p.AwaitWelcome(w, r.now)
	r.run()
	r.p.SetWelcome()
	r.want("known", "welcome w")
}

func TestForgottenWelcomeIsLearntFromANewServer(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	s := r.serve(r.client("a"))
	r.p.ForgetWelcome()
	r.p.AwaitWelcome(&Client{Owner: "w"}, r.now)
	r.want("full", "")
	r.p.Release(s, r.now)
	r.want("an idle server cannot tell", "close s1 (evicted), connect s2")
	r.ready()
	r.want("login", "welcome w")
}

func TestServerThatServesOnceIsNotClosedUnused(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 2, MinPoolSize: 1})
	r.p.Settings.ServerLifetime = 0
	a := r.client("a")
	r.m.Sweep(r.now)
	r.run()
	r.ready()
	r.now = time.Minute
	r.m.Sweep(r.now)
	r.want("unused", "")
	r.p.Release(r.p.Request(a, r.now), r.now)
	r.want("used", "close s1 (server lifetime over), connect s2")
}

func TestCancelsAreCounted(t *testing.T) {
	r := newRig(t, Settings{PoolSize: 1})
	a := r.client("a")
	s := r.serve(a)
	k := r.p.CancelQuery(a)
	l := r.p.CancelQuery(a)
	if k == nil || l == nil || r.p.CancelQuery(a) != nil {
		t.Fatal("the limit is twice the pool's size")
	}
	k.MarkSent()
	k.MarkSent()
	if r.p.Cancels() != 2 || r.p.CancelsSent() != 1 {
		t.Fatalf("%d, %d sent", r.p.Cancels(), r.p.CancelsSent())
	}
	r.p.CancelDone(k, r.now)
	r.p.CancelDone(k, r.now)
	r.p.ServerLost(s, Failure{Message: "gone"}, r.now)
	r.p.CancelDone(l, r.now)
	if r.p.Cancels() != 0 || r.p.CancelsSent() != 0 {
		t.Fatalf("%d, %d sent", r.p.Cancels(), r.p.CancelsSent())
	}
}
