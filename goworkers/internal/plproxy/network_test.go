package plproxy

import (
	"slices"
	"testing"

	"goworkers/internal/pgtest"
)

// phase is when a fault strikes.
type phase struct {
	name  string
	warm  bool // the session is connected already
	fault pgtest.Fault
	idle  bool // between two calls, to what is open
	// what the caller reads, for a network that breaks and one that falls silent;
	// empty: all is well
	broken, silent string
}

var phases = []phase{
	{name: "connect", fault: pgtest.Fault{Way: pgtest.ToServer}, broken: "08001", silent: "08001"},
	{name: "startup", fault: pgtest.Fault{Way: pgtest.ToClient, After: 20}, broken: "08001", silent: "08001"},
	{name: "query", warm: true, fault: pgtest.Fault{Way: pgtest.ToServer, After: 20}, broken: "08006", silent: "57014"},
	{name: "answer", warm: true, fault: pgtest.Fault{Way: pgtest.ToClient}, broken: "08006", silent: "57014"},
	{name: "rows", warm: true, fault: pgtest.Fault{Way: pgtest.ToClient, After: 40000}, broken: "08006", silent: "57014"},
	{name: "idle", warm: true, idle: true, broken: "", silent: "57014"},
}

// A network that fails at any time gives the caller the right error in bounded
// time, costs no other connection, and is forgotten when it is well again.
func TestNetworkFault(t *testing.T) {
	r := newRig(t)
	for _, ph := range phases {
		for _, do := range []pgtest.Action{pgtest.Close, pgtest.Reset, pgtest.Stall} {
			for _, function := range []string{"lines_one", "lines_all"} {
				t.Run(ph.name+" "+do.String()+" "+function, func(t *testing.T) {
					t.Parallel()
					c := r.cluster(t)
					var before []string
					if ph.warm {
						before = c.call(t, "pids")
					}
					link := c.links[1]
					if ph.idle {
						link.Break(do)
					} else {
						fault := ph.fault
						fault.Do = do
						link.Set(fault)
					}

					a := c.try(t, function, 2000)
					want := ph.broken
					if do == pgtest.Stall {
						want = ph.silent
					}
					if want != "" {
						a.fails(t, want)
					} else if a.err != nil {
						t.Fatal(a.err)
					}

					link.Heal()
					after := c.call(t, "pids")
					if len(after) != 4 {
						t.Fatalf("%d partitions answer, want 4", len(after))
					}
					if ph.warm {
						if after[1] == before[1] {
							t.Errorf("the broken connection is used again")
						}
						if before, after := slices.Delete(before, 1, 2), slices.Delete(after, 1, 2); !slices.Equal(before, after) {
							t.Errorf("good connections were not kept: %v became %v", before, after)
						}
					}
				})
			}
		}
	}
}

// Nobody listens: the error comes at once, and names the partition.
func TestConnectionRefused(t *testing.T) {
	r := newRig(t)
	c := r.cluster(t)
	c.links[1].Set(pgtest.Fault{Refuse: true})
	for _, function := range []string{"pid_one", "pids"} {
		a := c.try(t, function)
		a.fails(t, "08001")
		if want := `could not connect to partition 1 of cluster "` + c.name + `"`; a.err.Message != want {
			t.Errorf("message %q, want %q", a.err.Message, want)
		}
	}
	c.links[1].Heal()
	before := c.call(t, "pids")
	c.links[1].Set(pgtest.Fault{Refuse: true})
	if after := c.call(t, "pids"); !slices.Equal(before, after) {
		t.Errorf("open connections were not kept: %v became %v", before, after)
	}
}

// A slow network is only slow.
func TestNetworkDelay(t *testing.T) {
	r := newRig(t)
	c := r.cluster(t, "connect_timeout '30s'", "query_timeout '30s'")
	for _, link := range c.links {
		link.Set(pgtest.Fault{Delay: 20e6})
	}
	if rows := c.call(t, "lines_all", 1000); len(rows) != 4000 {
		t.Errorf("%d rows, want 4000", len(rows))
	}
}

// The caller's own cancel does not wait for a host that is silent, and reaches
// the others.
func TestCancelWithSilentHost(t *testing.T) {
	r := newRig(t)
	t.Run("connecting", func(t *testing.T) {
		c := r.cluster(t, "connect_timeout '0'", "query_timeout '0'")
		c.links[1].Set(pgtest.Fault{Do: pgtest.Stall})
		c.set(t, "set statement_timeout = '500ms'")
		c.try(t, "slow_all").fails(t, "57014")
		r.quiet(t)
		c.links[1].Heal()
		c.call(t, "pids")
	})
	t.Run("running", func(t *testing.T) {
		c := r.cluster(t, "connect_timeout '0'", "query_timeout '0'")
		before := c.call(t, "pids")
		// two of them, lest one be waited for after the other
		for _, i := range []int{0, 1} {
			c.links[i].Break(pgtest.Stall)
			c.links[i].Set(pgtest.Fault{Do: pgtest.Stall})
		}
		c.set(t, "set statement_timeout = '500ms'")
		a := c.try(t, "slow_all")
		a.fails(t, "57014")
		if a.took.Seconds() > 4.5 {
			t.Errorf("it took %s, want half a second and two for the cancel requests", a.took)
		}
		r.quiet(t, 0, 1)
		c.links[0].Heal()
		c.links[1].Heal()
		after := c.call(t, "pids")
		if !slices.Equal(before[2:], after[2:]) {
			t.Errorf("good connections were not kept: %v became %v", before[2:], after[2:])
		}
	})
}

// A partition that fails takes the queries of the others with it.
func TestSiblingsAreCancelled(t *testing.T) {
	r := newRig(t)
	c := r.cluster(t, "query_timeout '0'")
	before := c.call(t, "pids")
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.busy(t, 0, 1, 2, 3)
		c.links[1].Break(pgtest.Reset)
	}()
	a := c.try(t, "slow_all")
	<-done
	a.fails(t, "08006")
	r.quiet(t, 1)
	after := c.call(t, "pids")
	if before, after := slices.Delete(before, 1, 2), slices.Delete(after, 1, 2); !slices.Equal(before, after) {
		t.Errorf("good connections were not kept: %v became %v", before, after)
	}
}
