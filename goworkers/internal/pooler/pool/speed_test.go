package pool

import (
	"fmt"
	"testing"
	"time"
)

// TestHotPathDoesNotAllocate: a transaction costs no memory, whoever else is there.
func TestHotPathDoesNotAllocate(t *testing.T) {
	set := Settings{PoolSize: 1}
	groups := map[string]func() *rig{
		"alone":                  func() *rig { return newRig(t, set) },
		"in a group":             func() *rig { return newSharedRig(t, set, &Group{Max: 1}) },
		"in a group without end": func() *rig { return newSharedRig(t, set, &Group{}) },
	}
	for name, make := range groups {
		t.Run(name, func(t *testing.T) {
			r := make()
			a := r.client("a")
			s := r.serve(a)
			if n := testing.AllocsPerRun(1000, func() {
				r.p.Release(s, r.now)
				if r.p.Request(a, r.now) != s {
					t.Fatal("not linked at once")
				}
			}); n != 0 {
				t.Fatalf("an idle server: %v allocations", n)
			}
			r.p.Request(r.client("b"), r.now)
			if n := testing.AllocsPerRun(1000, func() {
				c := s.Client()
				r.p.Release(s, r.now)
				for _, ok := r.m.Next(); ok; _, ok = r.m.Next() {
				}
				r.p.Request(c, r.now)
			}); n != 0 {
				t.Fatalf("a queue: %v allocations", n)
			}
			r.m.Sweep(r.now)
			if n := testing.AllocsPerRun(100, func() { r.m.Sweep(r.now) }); n != 0 {
				t.Fatalf("a sweep: %v allocations", n)
			}
		})
	}
}

// manyPools has each pool hold ten clients and some idle servers.
func manyPools(pools, servers int, g *Group) *Manager {
	m := &Manager{}
	set := &Settings{PoolSize: 20, ServerLifetime: time.Hour, ServerIdle: 10 * time.Minute, QueryWait: time.Minute, ConnectTimeout: time.Second}
	for range pools {
		p := m.AddPool(set, &Group{}, g, nil)
		for i := range 10 {
			c := &Client{}
			p.AddClient(c, 0)
			if i < servers {
				p.Request(c, 0)
				for a, ok := m.Next(); ok; a, ok = m.Next() {
					if a.Kind == Connect {
						p.ServerReady(a.Server, 0)
					}
				}
			}
		}
		for s := p.servers[ServerActive].first; s != nil; s = p.servers[ServerActive].first {
			p.Release(s, 0)
		}
	}
	for _, ok := m.Next(); ok; _, ok = m.Next() {
	}
	return m
}

func BenchmarkSweep(b *testing.B) {
	for _, servers := range []int{0, 2, 10} {
		b.Run(fmt.Sprintf("1000_pools_%d_idle", servers), func(b *testing.B) {
			m := manyPools(1000, servers, nil)
			b.ReportAllocs()
			for b.Loop() {
				m.Sweep(time.Second)
			}
		})
	}
}

// BenchmarkTransaction is Request and Release of an idle server.
func BenchmarkTransaction(b *testing.B) {
	for name, g := range map[string]*Group{"no_limit": nil, "user_limit": {Max: 100000}} {
		b.Run(name, func(b *testing.B) {
			m := manyPools(1000, 1, g)
			p := m.Pools()[500]
			var c *Client
			p.EachClient(func(k *Client) { c = k })
			b.ReportAllocs()
			for b.Loop() {
				p.Release(p.Request(c, time.Second), time.Second)
			}
		})
	}
}
