// Package dns finds the addresses of hosts for the pooler, and notices when they change.
//
// The model: a Resolver keeps what it has found out about each name. A fresh answer is
// given at once; otherwise one goroutine asks, and all who want that name wait for it.
// Who is right: /etc/hosts first, then the nameservers of resolv.conf, with its search
// list and options; both files are read again when they have changed. How long an answer
// is fresh is said by the nameserver and bounded by dns_max_ttl.
//
// A name's last known addresses outlive their freshness: when a later answer differs,
// Changed tells both sets. No answer, or that the name does not exist, is no change, so
// that a broken nameserver costs no server connection which works. With
// dns_zone_check_period the serial numbers of the names' zones are watched, and a new
// one has the names of the zone asked for anew, whether somebody wants them or not.
//
// There are no timers but those of queries under way: Sweep, called often, does what is
// due. A crash loses only what can be asked for again.
package dns

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Settings are what can change while the resolver runs.
type Settings struct {
	// MaxTTL bounds how long addresses are fresh; 0: they are asked for each time.
	MaxTTL time.Duration
	// FailureTTL is how long an error is kept; 0: not at all.
	FailureTTL time.Duration
	// ZoneCheckPeriod is the time between two looks at a zone's serial number; 0: none.
	ZoneCheckPeriod time.Duration
}

// Config is what a Resolver is made of.
type Config struct {
	Settings
	// ResolvConf is the path of a file like resolv.conf(5). Default: /etc/resolv.conf.
	ResolvConf string
	// HostsFile is the path of a file like hosts(5). Default: /etc/hosts.
	HostsFile string
	// Port is where the nameservers listen, which resolv.conf cannot say. Default: 53.
	Port int
	// Changed is told when a name has other addresses than it had. It is called in a
	// goroutine of the resolver, before those who wait for the new ones; calls for one
	// name come one after the other. Default: nobody is told.
	Changed func(host string, old, new []netip.Addr)
	// Routed tells whether packets to an address can leave this machine. Addresses of
	// which that is not so are left out as long as there are others. Default: the kernel
	// is asked.
	Routed func(netip.Addr) bool
	// Now is the clock that freshness goes by. Default: time.Now.
	Now func() time.Time
}

// Answer is what a name means: addresses, at least one, or an error that says who could
// not be asked or that the name does not exist. Nobody may change Addrs.
type Answer struct {
	Addrs []netip.Addr
	Err   error
}

// ErrStopped is the error of answers after Stop.
var ErrStopped = errors.New("the resolver is stopped")

// Resolver finds addresses. All its methods may be called by any goroutine.
type Resolver struct {
	cfg     Config
	hosts   *watched[map[string][]netip.Addr]
	conf    *watched[*resolvConf]
	next    atomic.Uint32 // nameserver to begin with, for option rotate
	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu      sync.Mutex
	set     Settings
	entries map[string]*entry
	zones   map[string]*zone
	stopped bool
}

// entry is what is known about a name. Its goroutine has it while asking; the rest is
// guarded by the resolver's lock.
type entry struct {
	host string
	zone string // without a dot at its end; "": none is known

	all    []netip.Addr // the last known, sorted
	answer Answer       // all of them that can be reached, or why there is none
	known  bool         // there is an answer, since at, for at most ttl
	at     time.Time
	ttl    time.Duration

	asking  bool
	again   bool // something has changed since it was asked
	waiters []func(Answer)
}

// forever is the TTL of what has none.
const forever = time.Duration(math.MaxInt64)

// New makes a resolver. It fails when a file that Config names cannot be read.
func New(cfg Config) (*Resolver, error) {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	} else if _, err := os.ReadFile(cfg.ResolvConf); err != nil {
		return nil, fmt.Errorf("resolv_conf: %w", err)
	}
	if cfg.HostsFile == "" {
		cfg.HostsFile = "/etc/hosts"
	} else if _, err := os.ReadFile(cfg.HostsFile); err != nil {
		return nil, fmt.Errorf("file of hosts: %w", err)
	}
	if cfg.Port == 0 {
		cfg.Port = 53
	}
	if cfg.Routed == nil {
		cfg.Routed = routed
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Resolver{
		cfg: cfg, set: cfg.Settings, entries: map[string]*entry{}, zones: map[string]*zone{},
		hosts: &watched[map[string][]netip.Addr]{path: cfg.HostsFile, parse: parseHosts},
		conf:  &watched[*resolvConf]{path: cfg.ResolvConf, parse: parseResolvConf},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// Configure changes the settings; they count for what is known already, too.
func (r *Resolver) Configure(s Settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = s
	for _, z := range r.zones {
		if due := r.cfg.Now().Add(s.ZoneCheckPeriod); due.Before(z.due) {
			z.due = due
		}
	}
}

// Lookup finds the addresses of a host. When the answer is known it is returned with
// true, and done is never called. Otherwise done gets it, once, in a goroutine of the
// resolver: it must not wait for Stop. An address in place of a name is its own answer.
func (r *Resolver) Lookup(host string, done func(Answer)) (Answer, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return Answer{Addrs: []netip.Addr{ip}}, true
	}
	if _, ok := dns.IsDomainName(host); !ok || host == "." || strings.ContainsAny(host, " \t\r\n\\") {
		return Answer{Err: fmt.Errorf("%q is not the name of a host", host)}, true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return Answer{Err: ErrStopped}, true
	}
	e := r.entries[host]
	if e == nil {
		e = &entry{host: host, zone: zoneOf(host)}
		r.entries[host] = e
	}
	if r.left(e) > 0 {
		return e.answer, true
	}
	e.waiters = append(e.waiters, done)
	r.ask(e)
	return Answer{}, false
}

// left tells how long the answer stays fresh.
func (r *Resolver) left(e *entry) time.Duration {
	if !e.known {
		return 0
	}
	ttl := min(e.ttl, r.set.MaxTTL)
	if e.answer.Err != nil {
		ttl = r.set.FailureTTL
	}
	return max(0, ttl-r.cfg.Now().Sub(e.at))
}

// ask sends a goroutine to find out what is known about a name now. It wants the lock.
func (r *Resolver) ask(e *entry) {
	if e.asking {
		return
	}
	e.asking = true
	r.workers.Go(func() {
		for {
			r.refresh(e)
			r.mu.Lock()
			// With a TTL of 0 somebody may be waiting again.
			if len(e.waiters) == 0 && !e.again {
				e.asking = false
				r.mu.Unlock()
				return
			}
			e.again = false
			r.mu.Unlock()
		}
	})
}

// refresh asks once, keeps the answer and tells it.
func (r *Resolver) refresh(e *entry) {
	f := r.resolve(e.host)
	if f.err == nil {
		// Of a kind of addresses that could not be asked for, the old ones stay.
		for _, a := range e.all {
			if a.Is4() && f.lost4 || a.Is6() && f.lost6 {
				f.addrs = append(f.addrs, a)
			}
		}
		slices.SortFunc(f.addrs, netip.Addr.Compare)
		f.addrs = slices.Compact(f.addrs)
	}
	usable := r.usable(f.addrs)

	r.mu.Lock()
	var old []netip.Addr
	answer := Answer{Addrs: usable, Err: f.err}
	switch {
	case r.stopped:
		answer = Answer{Err: ErrStopped}
	case f.err != nil && e.answer.Err == nil && r.left(e) > 0:
		// It was asked before its time, and what is known still holds.
		answer = e.answer
	default:
		e.answer, e.known, e.at, e.ttl = answer, true, r.cfg.Now(), f.ttl
		if f.err == nil {
			if !slices.Equal(e.all, f.addrs) {
				old = e.all
			}
			e.all, e.zone = f.addrs, zoneOf(f.name)
		}
	}
	waiters := e.waiters
	e.waiters = nil
	r.mu.Unlock()

	if old != nil && r.cfg.Changed != nil {
		r.cfg.Changed(e.host, old, f.addrs)
	}
	for _, done := range waiters {
		done(answer)
	}
}

// usable leaves out addresses that no packet can reach from here.
func (r *Resolver) usable(addrs []netip.Addr) []netip.Addr {
	if len(addrs) < 2 {
		return addrs
	}
	var list []netip.Addr
	for _, a := range addrs {
		if r.cfg.Routed(a) {
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return addrs
	}
	return list
}

// routed asks the kernel for a way to an address; nothing is sent.
func routed(a netip.Addr) bool {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// Retain forgets the names of which used says no: those that the configuration does not
// have any more.
func (r *Resolver) Retain(used func(host string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for host := range r.entries {
		if !used(host) {
			delete(r.entries, host)
		}
	}
}

// Stop ends all goroutines and waits for them. Who still waits for an answer gets
// ErrStopped before it returns.
func (r *Resolver) Stop() {
	r.mu.Lock()
	r.stopped = true
	r.mu.Unlock()
	r.cancel()
	r.workers.Wait()
}

// Host is a line of SHOW DNS_HOSTS.
type Host struct {
	Name string
	// TTL is how long the answer is fresh yet; 0: the next Lookup asks.
	TTL time.Duration
	// Answer is the last one; neither addresses nor an error: there was none yet.
	Answer
}

// Hosts lists the names that are known, sorted.
func (r *Resolver) Hosts() []Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Host, 0, len(r.entries))
	for _, e := range r.entries {
		list = append(list, Host{e.host, r.left(e), e.answer})
	}
	slices.SortFunc(list, func(a, b Host) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Counts are lines of SHOW LISTS.
type Counts struct {
	Names, Zones int
	Queries      int // names and zones that are being asked for
	Pending      int // lookups that wait for an answer
}

// Counts counts.
func (r *Resolver) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := Counts{Names: len(r.entries), Zones: len(r.zones)}
	for _, e := range r.entries {
		if e.asking {
			c.Queries++
		}
		c.Pending += len(e.waiters)
	}
	for _, z := range r.zones {
		if z.asking {
			c.Queries++
		}
	}
	return c
}
