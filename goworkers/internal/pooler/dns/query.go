// Questions and answers of the DNS protocol (RFC 1034, 1035), as a stub resolver.

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
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// found is what asking for a name has brought.
type found struct {
	addrs        []netip.Addr
	ttl          time.Duration
	name         string // the whole name that the nameservers know; "": they were not asked
	exists       bool   // the name does, with addresses or without
	lost4, lost6 bool   // that kind of addresses could not be asked for
	err          error
}

// trouble is why a question has no answer.
type trouble struct {
	server string // address and port
	text   string
	silent bool // there was no answer of any kind
}

func (t *trouble) Error() string { return "nameserver " + t.server + " " + t.text }

// resolve finds out what a name means now.
func (r *Resolver) resolve(host string) found {
	name := strings.TrimSuffix(strings.ToLower(host), ".")
	if addrs := r.hosts.get()[name]; len(addrs) > 0 {
		return found{addrs: slices.Clone(addrs), ttl: forever}
	}
	// RFC 6761: no nameserver has to know it.
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return found{addrs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, ttl: forever}
	}
	conf := r.conf.get()
	var problem error
	exists := false
	for _, candidate := range conf.NameList(host) {
		if _, ok := dns.IsDomainName(candidate); !ok {
			continue
		}
		f := r.addresses(conf, candidate)
		if f.err == nil && len(f.addrs) > 0 {
			return f
		}
		exists = exists || f.exists
		if f.err == nil {
			continue
		}
		if problem == nil {
			problem = f.err
		}
		if t, ok := f.err.(*trouble); !ok || t.silent {
			// The name may well exist; the rest of the list might name another host.
			break
		}
	}
	switch {
	case problem != nil:
		return found{err: fmt.Errorf("host %q: %w", host, problem)}
	case exists:
		return found{err: fmt.Errorf("host %q has no address", host)}
	}
	return found{err: fmt.Errorf("host %q does not exist", host)}
}

// addresses asks for both kinds of addresses of a whole name; there may be none.
func (r *Resolver) addresses(conf *resolvConf, name string) found {
	type part struct {
		addrs  []netip.Addr
		ttl    time.Duration
		exists bool
		err    error
	}
	first := r.first(conf)
	ask := func(kind uint16) part {
		m, err := r.exchange(conf, first, name, kind)
		if err != nil {
			return part{ttl: forever, err: err}
		}
		addrs, ttl := addressesIn(m, name, kind)
		return part{addrs, ttl, m.Rcode == dns.RcodeSuccess, nil}
	}
	six := make(chan part)
	go func() { six <- ask(dns.TypeAAAA) }()
	p4 := ask(dns.TypeA)
	p6 := <-six
	f := found{addrs: append(p4.addrs, p6.addrs...), ttl: min(p4.ttl, p6.ttl), name: name, exists: p4.exists || p6.exists}
	if len(f.addrs) > 0 {
		f.lost4, f.lost6 = p4.err != nil, p6.err != nil
	} else if f.err = p4.err; f.err == nil {
		f.err = p6.err
	}
	return f
}

// addressesIn takes the addresses of a name out of an answer, following its aliases. The
// TTL is the shortest on the way; without addresses it is forever.
func addressesIn(m *dns.Msg, name string, kind uint16) (addrs []netip.Addr, ttl time.Duration) {
	seconds := uint32(math.MaxUint32)
	owner := name
	// Each step uses up a record, so aliases in a circle come to an end.
	for range len(m.Answer) + 1 {
		alias := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, owner) {
				continue
			}
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				if kind == dns.TypeA {
					ip = rr.A.To4()
				}
			case *dns.AAAA:
				if kind == dns.TypeAAAA {
					ip = rr.AAAA.To16()
				}
			case *dns.CNAME:
				alias = rr.Target
				seconds = min(seconds, h.Ttl)
			}
			if a, ok := netip.AddrFromSlice(ip); ok {
				addrs = append(addrs, a.Unmap())
				seconds = min(seconds, h.Ttl)
			}
		}
		if len(addrs) > 0 || alias == "" {
			break
		}
		owner = alias
	}
	if len(addrs) == 0 {
		return nil, forever
	}
	return addrs, time.Duration(seconds) * time.Second
}

// serial asks for the serial number of a zone; of a name inside of a zone it is that
// zone's.
func (r *Resolver) serial(zone string) (uint32, bool) {
	conf := r.conf.get()
	m, err := r.exchange(conf, r.first(conf), dns.Fqdn(zone), dns.TypeSOA)
	if err != nil {
		return 0, false
	}
	for _, rr := range append(m.Answer, m.Ns...) {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Serial, true
		}
	}
	return 0, false
}

// first chooses the nameserver to begin with.
func (r *Resolver) first(conf *resolvConf) int {
	if !conf.rotate {
		return 0
	}
	return int(r.next.Add(1) % uint32(len(conf.Servers)))
}

// exchange asks the nameservers in turn until one answers, be it that there is no such
// name. The error is a *trouble, or that of the resolver's end.
func (r *Resolver) exchange(conf *resolvConf, first int, name string, kind uint16) (*dns.Msg, error) {
	var last *trouble
	silent := true
	for range conf.Attempts {
		for i := range conf.Servers {
			server := net.JoinHostPort(conf.Servers[(first+i)%len(conf.Servers)], strconv.Itoa(r.cfg.Port))
			m, t := r.askServer(conf, server, name, kind)
			if r.ctx.Err() != nil {
				return nil, ErrStopped
			}
			if t == nil {
				return m, nil
			}
			silent = silent && t.silent
			// That a server has an objection tells more than that another is silent.
			if last == nil || !t.silent || last.silent {
				last = t
			}
		}
	}
	last.silent = silent
	return nil, last
}

// askServer asks one nameserver, by TCP when the answer is too long for UDP.
func (r *Resolver) askServer(conf *resolvConf, server, name string, kind uint16) (*dns.Msg, *trouble) {
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	if conf.edns0 {
		q.SetEdns0(1232, false)
	}
	network := "udp"
	if conf.tcp {
		network = "tcp"
	}
	m, err := r.roundTrip(conf, network, server, q)
	if network == "udp" && m != nil && m.Truncated {
		m, err = r.roundTrip(conf, "tcp", server, q)
	}
	if err != nil {
		return nil, &trouble{server, "gives no answer: " + err.Error(), true}
	}
	if !m.Response || len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, name) || m.Question[0].Qtype != kind {
		return nil, &trouble{server, "answers something else", false}
	}
	switch {
	case m.Rcode == dns.RcodeNameError:
		return m, nil
	case m.Rcode != dns.RcodeSuccess:
		return nil, &trouble{server, "answers " + rcode(m.Rcode), false}
	case len(m.Answer) == 0 && !m.Authoritative && !m.RecursionAvailable:
		// Neither knows the name nor asks others.
		return nil, &trouble{server, "does not resolve names of others", false}
	}
	return m, nil
}

func rcode(code int) string {
	if s, ok := dns.RcodeToString[code]; ok {
		return s
	}
	return "error " + strconv.Itoa(code)
}

// roundTrip sends a question and reads the answer; one that is cut off may come with an
// error.
func (r *Resolver) roundTrip(conf *resolvConf, network, server string, q *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(r.ctx, conf.timeout)
	defer cancel()
	late := func(err error) error {
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("none within %v", conf.timeout)
		}
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, late(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// Without EDNS0 an answer ought not to be larger than 512 bytes, which not all know.
	client := dns.Client{Net: network, UDPSize: 4096, Timeout: conf.timeout}
	m, _, err := client.ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn})
	if err != nil {
		return m, late(err)
	}
	return m, nil
}
