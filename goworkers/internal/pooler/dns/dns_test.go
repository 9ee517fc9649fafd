package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nameserver is a server that speaks DNS on UDP and TCP, with records that can change.
type nameserver struct {
	ip   string
	port int

	mu      sync.Mutex
	records map[string][]string // "name. TYPE" to records in a zone file's format
	rcodes  map[string]int      // by "name. TYPE" or "name."; a silent one is -1
	asked   map[string]int      // by "network name. TYPE"
	gate    chan struct{}       // answers wait for it
	arrived chan string         // told of each question, when there is room
	bend    func(w dns.ResponseWriter, m *dns.Msg)
}

// serve starts a nameserver on a loopback address; port 0 chooses one.
func serve(t *testing.T, ip string, port int) *nameserver {
	t.Helper()
	n := &nameserver{ip: ip, records: map[string][]string{}, rcodes: map[string]int{}, asked: map[string]int{}, arrived: make(chan string, 1000)}
	var udp net.PacketConn
	var tcp net.Listener
	for try := 0; ; try++ {
		var err error
		if udp, err = net.ListenPacket("udp", net.JoinHostPort(ip, strconv.Itoa(port))); err == nil {
			n.port = udp.LocalAddr().(*net.UDPAddr).Port
			if tcp, err = net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(n.port))); err == nil {
				break
			}
			udp.Close()
		}
		if port != 0 || try > 50 {
			t.Fatal(err)
		}
	}
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: n}, {Listener: tcp, Handler: n}} {
		up, down := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { defer close(down); s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { s.Shutdown(); <-down })
	}
	return n
}

func (n *nameserver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	name := q.Question[0].Name
	what := name + " " + dns.TypeToString[q.Question[0].Qtype]
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	n.mu.Lock()
	n.asked[w.RemoteAddr().Network()+" "+what]++
	code, ok := n.rcodes[what]
	if !ok {
		code = n.rcodes[name]
	}
	exists := false
	for key, list := range n.records {
		if owner, _, _ := strings.Cut(key, " "); !strings.EqualFold(owner, name) {
			continue
		}
		exists = true
		if !strings.EqualFold(key, what) {
			continue
		}
		for _, text := range list {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			if rr.Header().Rrtype == dns.TypeSOA && !strings.EqualFold(rr.Header().Name, name) {
				m.Ns = append(m.Ns, rr)
				continue
			}
			m.Answer = append(m.Answer, rr)
		}
	}
	gate, bend := n.gate, n.bend
	n.mu.Unlock()
	select {
	case n.arrived <- what:
	default:
	}
	if gate != nil {
		<-gate
	}
	switch {
	case code == -1:
		return
	case code != 0:
		m.Rcode, m.Answer = code, nil
	case !exists:
		m.Rcode = dns.RcodeNameError
	}
	if bend != nil {
		bend(w, m)
	}
	if w.RemoteAddr().Network() == "udp" {
		m.Truncate(512)
	}
	w.WriteMsg(m)
}

// put replaces the records of one name and type.
func (n *nameserver) put(name, kind string, records ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records[name+" "+kind] = records
}

// a gives a name IPv4 addresses.
func (n *nameserver) a(name string, ttl int, ips ...string) {
	var list []string
	for _, ip := range ips {
		list = append(list, fmt.Sprintf("%s %d IN A %s", name, ttl, ip))
	}
	n.put(name, "A", list...)
}

func (n *nameserver) soa(name, zone string, serial int) {
	n.put(name, "SOA", fmt.Sprintf("%s 60 IN SOA ns.%s root.%s %d 60 60 60 60", zone, zone, zone, serial))
}

func (n *nameserver) answer(what string, rcode int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rcodes[what] = rcode
}

// bendWith has each answer changed before it is sent.
func (n *nameserver) bendWith(bend func(w dns.ResponseWriter, m *dns.Msg)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bend = bend
}

// hold keeps the answers to questions that come from now on until the gate is closed.
func (n *nameserver) hold(gate chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gate = gate
}

func (n *nameserver) count(what string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[what]
}

// bundle is what a test has beside its resolver.
type bundle struct {
	*nameserver
	mu      sync.Mutex
	now     time.Time
	changes chan string
	conf    string // path of resolv.conf
	hosts   string
}

func (b *bundle) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// setup makes a nameserver and a resolver that asks it. The lines replace the usual
// resolv.conf.
func setup(t *testing.T, s Settings, lines ...string) (*Resolver, *bundle) {
	t.Helper()
	b := &bundle{nameserver: serve(t, "127.0.0.1", 0), now: time.Unix(1e9, 0), changes: make(chan string, 100)}
	dir := t.TempDir()
	b.conf, b.hosts = filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
	if lines == nil {
		lines = []string{"nameserver 127.0.0.1", "options timeout:1 attempts:1"}
	}
	write(t, b.conf, lines...)
	write(t, b.hosts)
	r, err := New(Config{
		Settings: s, ResolvConf: b.conf, HostsFile: b.hosts, Port: b.port,
		Changed: func(host string, old, new []netip.Addr) { b.changes <- fmt.Sprint(host, " ", old, " ", new) },
		Routed:  func(netip.Addr) bool { return true },
		Now:     func() time.Time { b.mu.Lock(); defer b.mu.Unlock(); return b.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r, b
}

func write(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lookup waits for the answer, and tells whether it was there at once.
func lookup(t *testing.T, r *Resolver, host string) (string, bool) {
	t.Helper()
	ch := make(chan Answer, 2)
	a, known := r.Lookup(host, func(a Answer) { ch <- a })
	if !known {
		select {
		case a = <-ch:
		case <-time.After(20 * time.Second):
			t.Fatalf("no answer for %s", host)
		}
	}
	if a.Err != nil {
		if len(a.Addrs) != 0 {
			t.Errorf("%s has addresses and an error: %v", host, a)
		}
		return a.Err.Error(), known
	}
	return strings.Trim(fmt.Sprint(a.Addrs), "[]"), known
}

// want looks a host up and compares; asked says whether the nameserver was to be asked.
func want(t *testing.T, r *Resolver, host, answer string, asked bool) {
	t.Helper()
	got, known := lookup(t, r, host)
	if got != answer {
		t.Errorf("%s is %q, want %q", host, got, answer)
	}
	if known == asked {
		t.Errorf("%s was known at once: %v", host, known)
	}
}

var usual = Settings{MaxTTL: 15 * time.Second, FailureTTL: 5 * time.Second}

func TestAnswersAreKeptForTheirTTL(t *testing.T) {
	r, b := setup(t, usual)
	b.a("short.example.", 3, "192.0.2.1")
	b.a("long.example.", 3600, "192.0.2.2")
	b.a("never.example.", 0, "192.0.2.3")
	for name, ttl := range map[string]time.Duration{"short.example": 3 * time.Second, "long.example": 15 * time.Second} {
		addr, _ := lookup(t, r, name)
		want(t, r, name, addr, false)
		b.pass(ttl - time.Millisecond)
		want(t, r, name, addr, false)
		b.pass(time.Millisecond)
		want(t, r, name, addr, true)
	}
	want(t, r, "never.example", "192.0.2.3", true)
	want(t, r, "never.example", "192.0.2.3", true)
	if n := b.count("udp never.example. A"); n != 2 {
		t.Errorf("a name without TTL was asked for %d times, want 2", n)
	}
}

func TestSettingsCountForWhatIsKnown(t *testing.T) {
	r, b := setup(t, usual)
	b.a("db.example.", 3600, "192.0.2.1")
	want(t, r, "db.example", "192.0.2.1", true)
	b.pass(10 * time.Second)
	r.Configure(Settings{MaxTTL: 10 * time.Second})
	want(t, r, "db.example", "192.0.2.1", true)
	b.pass(15 * time.Second)
	r.Configure(Settings{MaxTTL: time.Hour})
	want(t, r, "db.example", "192.0.2.1", false)
	if h := r.Hosts(); len(h) != 1 || h[0].TTL != time.Hour-15*time.Second {
		t.Errorf("hosts are %v", h)
	}
}

func TestErrorsSayWhatIsWrongAndAreKept(t *testing.T) {
	r, b := setup(t, usual)
	at := fmt.Sprintf("nameserver 127.0.0.1:%d", b.port)
	b.put("empty.example.", "TXT", `empty.example. 60 IN TXT "x"`)
	b.answer("broken.example.", dns.RcodeServerFailure)
	b.answer("private.example.", dns.RcodeRefused)
	b.answer("lost.example.", -1)
	for _, tc := range []struct{ host, want string }{
		{"gone.example", `host "gone.example" does not exist`},
		{"empty.example", `host "empty.example" has no address`},
		{"broken.example", `host "broken.example": ` + at + ` answers SERVFAIL`},
		{"private.example", `host "private.example": ` + at + ` answers REFUSED`},
		{"lost.example", `host "lost.example": ` + at + ` gives no answer: none within 1s`},
	} {
		t.Run(tc.host, func(t *testing.T) {
			want(t, r, tc.host, tc.want, true)
			b.pass(5*time.Second - 1)
			want(t, r, tc.host, tc.want, false)
			b.pass(1)
			b.answer(tc.host+".", 0)
			b.a(tc.host+".", 60, "192.0.2.9")
			want(t, r, tc.host, "192.0.2.9", true)
		})
	}
}

func TestWhatIsNoNameIsNotAskedFor(t *testing.T) {
	r, b := setup(t, usual)
	want(t, r, "192.0.2.1", "192.0.2.1", false)
	want(t, r, "2001:db8::1", "2001:db8::1", false)
	for _, host := range []string{"", ".", "a..b", "a b", `a\.b`, strings.Repeat("a", 64), strings.Repeat("a.", 128) + "a"} {
		want(t, r, host, fmt.Sprintf("%q is not the name of a host", host), false)
	}
	if c := r.Counts(); c != (Counts{}) || len(b.asked) != 0 {
		t.Errorf("left behind: %+v, asked %v", c, b.asked)
	}
}

func TestBothKindsOfAddresses(t *testing.T) {
	r, b := setup(t, usual)
	b.a("db.example.", 60, "192.0.2.2", "192.0.2.1", "192.0.2.2")
	b.put("db.example.", "AAAA", "db.example. 4 IN AAAA 2001:db8::1")
	b.put("six.example.", "AAAA", "six.example. 4 IN AAAA 2001:db8::2")
	want(t, r, "db.example", "192.0.2.1 192.0.2.2 2001:db8::1", true)
	want(t, r, "six.example", "2001:db8::2", true)
	b.pass(4 * time.Second) // the shorter TTL counts
	want(t, r, "db.example", "192.0.2.1 192.0.2.2 2001:db8::1", true)
}

func TestAddressesWithoutARouteAreLeftOut(t *testing.T) {
	r, b := setup(t, usual)
	r.cfg.Routed = netip.Addr.Is4
	b.a("db.example.", 60, "192.0.2.1")
	b.put("db.example.", "AAAA", "db.example. 60 IN AAAA 2001:db8::1")
	b.put("six.example.", "AAAA", "six.example. 60 IN AAAA 2001:db8::2", "six.example. 60 IN AAAA 2001:db8::3")
	want(t, r, "db.example", "192.0.2.1", true)
	want(t, r, "six.example", "2001:db8::2 2001:db8::3", true) // better than nothing
	if !routed(netip.MustParseAddr("127.0.0.1")) {
		t.Error("the kernel knows no way to 127.0.0.1")
	}
}

func TestOneKindThatCannotBeAskedForStays(t *testing.T) {
	r, b := setup(t, usual)
	b.a("db.example.", 60, "192.0.2.1")
	b.put("db.example.", "AAAA", "db.example. 60 IN AAAA 2001:db8::1")
	want(t, r, "db.example", "192.0.2.1 2001:db8::1", true)
	b.answer("db.example. AAAA", dns.RcodeServerFailure)
	b.pass(time.Minute)
	want(t, r, "db.example", "192.0.2.1 2001:db8::1", true)
	b.a("db.example.", 60, "192.0.2.7")
	b.pass(time.Minute)
	want(t, r, "db.example", "192.0.2.7 2001:db8::1", true)
	if got := <-b.changes; got != "db.example [192.0.2.1 2001:db8::1] [192.0.2.7 2001:db8::1]" {
		t.Errorf("changed: %s", got)
	}
	b.answer("db.example. AAAA", 0)
	b.put("db.example.", "AAAA")
	b.pass(time.Minute)
	want(t, r, "db.example", "192.0.2.7", true)
}

func TestAliasesAreFollowed(t *testing.T) {
	r, b := setup(t, usual)
	b.put("db.example.", "A",
		"b.example. 7 IN CNAME C.example.", // in no order
		"db.example. 60 IN CNAME b.example.",
		"other.example. 60 IN A 192.0.2.66", // nobody leads there
		"c.example. 60 IN A 192.0.2.5")
	b.put("loop.example.", "A", "loop.example. 60 IN CNAME pool.example.", "pool.example. 60 IN CNAME loop.example.")
	b.put("open.example.", "A", "open.example. 60 IN CNAME nowhere.example.")
	want(t, r, "db.example", "192.0.2.5", true)
	b.pass(6 * time.Second)
	want(t, r, "db.example", "192.0.2.5", false)
	b.pass(time.Second)
	want(t, r, "db.example", "192.0.2.5", true)
	want(t, r, "loop.example", `host "loop.example" has no address`, true)
	want(t, r, "open.example", `host "open.example" has no address`, true)
}

func TestLongAnswersComeByTCP(t *testing.T) {
	r, b := setup(t, usual)
	var ips, sorted []string
	for i := range 200 {
		ips = append(ips, fmt.Sprintf("192.0.2.%d", 200-i))
		sorted = append(sorted, fmt.Sprintf("192.0.2.%d", i+1))
	}
	b.a("many.example.", 60, ips...)
	want(t, r, "many.example", strings.Join(sorted, " "), true)
	if u, c := b.count("udp many.example. A"), b.count("tcp many.example. A"); u != 1 || c != 1 {
		t.Errorf("asked %d times by UDP and %d by TCP, want once each", u, c)
	}
}

func TestTCPWhenTheOptionSaysSo(t *testing.T) {
	r, b := setup(t, usual, "nameserver 127.0.0.1", "options use-vc edns0")
	b.a("db.example.", 60, "192.0.2.1")
	want(t, r, "db.example", "192.0.2.1", true)
	if u, c := b.count("udp db.example. A"), b.count("tcp db.example. A"); u != 0 || c != 1 {
		t.Errorf("asked %d times by UDP and %d by TCP", u, c)
	}
}

func TestNameserversTakeTurns(t *testing.T) {
	r, b := setup(t, usual, "nameserver 127.0.0.1", "nameserver 127.0.0.2", "options timeout:1 attempts:2")
	second := serve(t, "127.0.0.2", b.port)
	second.a("db.example.", 60, "192.0.2.2")
	second.a("mute.example.", 60, "192.0.2.3")
	b.answer("db.example.", dns.RcodeServerFailure)
	b.answer("mute.example.", -1)
	want(t, r, "db.example", "192.0.2.2", true)
	want(t, r, "mute.example", "192.0.2.3", true)
	b.answer("both.example.", -1)
	second.answer("both.example.", dns.RcodeServerFailure)
	got, _ := lookup(t, r, "both.example")
	if got != fmt.Sprintf(`host "both.example": nameserver 127.0.0.2:%d answers SERVFAIL`, b.port) {
		t.Errorf("both.example: %s", got)
	}
	for _, n := range []*nameserver{b.nameserver, second} {
		if c := n.count("udp both.example. A"); c != 2 {
			t.Errorf("%s was asked %d times, want 2", n.ip, c)
		}
	}
	// That there is no such name is an answer.
	want(t, r, "gone.example", `host "gone.example" does not exist`, true)
	if n := second.count("udp gone.example. A"); n != 0 {
		t.Errorf("the second nameserver was asked %d times for a name that the first knows not to exist", n)
	}
}

func TestRotateBeginsWithEachNameserver(t *testing.T) {
	r, b := setup(t, usual, "nameserver 127.0.0.1", "nameserver 127.0.0.2", "options rotate")
	second := serve(t, "127.0.0.2", b.port)
	first, other := 0, 0
	for i := range 10 {
		name := fmt.Sprintf("db%d.example.", i)
		b.a(name, 60, "192.0.2.1")
		second.a(name, 60, "192.0.2.1")
		want(t, r, name, "192.0.2.1", true)
		first += b.count("udp " + name + " A")
		other += second.count("udp " + name + " A")
	}
	if first+other != 10 || first == 0 || other == 0 {
		t.Errorf("the nameservers were asked %d and %d times", first, other)
	}
}

func TestAnswersToOtherQuestionsDoNotCount(t *testing.T) {
	for name, bend := range map[string]func(w dns.ResponseWriter, m *dns.Msg){
		"another name":    func(_ dns.ResponseWriter, m *dns.Msg) { m.Question[0].Name = "evil.example." },
		"another type":    func(_ dns.ResponseWriter, m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT },
		"no question":     func(_ dns.ResponseWriter, m *dns.Msg) { m.Question = nil },
		"a question back": func(_ dns.ResponseWriter, m *dns.Msg) { m.Response = false },
	} {
		t.Run(name, func(t *testing.T) {
			r, b := setup(t, usual)
			b.a("db.example.", 60, "192.0.2.66")
			b.bendWith(bend)
			want(t, r, "db.example", fmt.Sprintf(`host "db.example": nameserver 127.0.0.1:%d answers something else`, b.port), true)
		})
	}
	t.Run("another number", func(t *testing.T) {
		// A forged answer does not even stop the wait for the true one.
		r, b := setup(t, usual)
		b.a("db.example.", 60, "192.0.2.1")
		b.bendWith(func(w dns.ResponseWriter, m *dns.Msg) {
			forged := m.Copy()
			forged.Id++
			for _, rr := range forged.Answer {
				rr.(*dns.A).A = net.IPv4(192, 0, 2, 66)
			}
			w.WriteMsg(forged)
		})
		want(t, r, "db.example", "192.0.2.1", true)
	})
	t.Run("who knows nothing", func(t *testing.T) {
		r, b := setup(t, usual)
		b.put("db.example.", "TXT", `db.example. 60 IN TXT "x"`)
		b.bendWith(func(_ dns.ResponseWriter, m *dns.Msg) { m.RecursionAvailable = false })
		want(t, r, "db.example", fmt.Sprintf(`host "db.example": nameserver 127.0.0.1:%d does not resolve names of others`, b.port), true)
	})
}

func TestSearchList(t *testing.T) {
	r, b := setup(t, usual, "nameserver 127.0.0.1", "search a.example b.example .", "options ndots:2 timeout:1 attempts:1")
	b.a("db.b.example.", 60, "192.0.2.2")
	b.a("db.", 60, "192.0.2.9")
	b.a("one.dot.", 60, "192.0.2.3")
	b.a("two.dots.here.", 60, "192.0.2.4")
	b.a("two.dots.here.a.example.", 60, "192.0.2.66")
	b.answer("sick.a.example.", dns.RcodeServerFailure)
	b.a("sick.b.example.", 60, "192.0.2.5")
	b.answer("mute.a.example.", -1)
	b.a("mute.b.example.", 60, "192.0.2.66")
	b.put("bare.b.example.", "TXT", `bare.b.example. 60 IN TXT "x"`)
	want(t, r, "db", "192.0.2.2", true)
	want(t, r, "db.", "192.0.2.9", true)
	want(t, r, "one.dot", "192.0.2.3", true)
	want(t, r, "two.dots.here", "192.0.2.4", true)
	want(t, r, "sick", "192.0.2.5", true)
	// What stands further down the list might be another host.
	want(t, r, "mute", fmt.Sprintf(`host "mute": nameserver 127.0.0.1:%d gives no answer: none within 1s`, b.port), true)
	want(t, r, "bare", `host "bare" has no address`, true)
	want(t, r, "none", `host "none" does not exist`, true)
	if n := b.count("udp one.dot.a.example. A"); n != 1 {
		t.Errorf("a name with too few dots was tried %d times with the list, want 1", n)
	}
	if n := b.count("udp two.dots.here.a.example. A"); n != 0 {
		t.Errorf("a name with enough dots was tried with the list")
	}
}

func TestHostsFileComesFirst(t *testing.T) {
	r, b := setup(t, usual)
	b.a("db.example.", 60, "192.0.2.66")
	write(t, b.hosts, "# 192.0.2.1 db.example", "192.0.2.5\tother DB.Example db.example # db", "2001:db8::5 db.example.", "bad db.example", "127.0.0.1")
	want(t, r, "db.example", "192.0.2.5 2001:db8::5", true)
	want(t, r, "other", "192.0.2.5", true)
	want(t, r, "localhost", "127.0.0.1 ::1", true)
	want(t, r, "Sub.Localhost.", "127.0.0.1 ::1", true)
	b.pass(15*time.Second - 1)
	want(t, r, "db.example", "192.0.2.5 2001:db8::5", false)
	// The file is read again.
	write(t, b.hosts, "192.0.2.6 db.example")
	b.pass(1)
	want(t, r, "db.example", "192.0.2.6", true)
	if got := <-b.changes; got != "db.example [192.0.2.5 2001:db8::5] [192.0.2.6]" {
		t.Errorf("changed: %s", got)
	}
	want(t, r, "other", `host "other" does not exist`, true)
	if n := b.count("udp db.example. A"); n != 0 {
		t.Errorf("the nameserver was asked %d times", n)
	}
}

func TestResolvConfIsReadAgain(t *testing.T) {
	r, b := setup(t, usual)
	second := serve(t, "127.0.0.2", b.port)
	b.a("one.example.", 60, "192.0.2.1")
	second.a("two.example.", 60, "192.0.2.2")
	want(t, r, "one.example", "192.0.2.1", true)
	write(t, b.conf, "nameserver 127.0.0.2", "options attempts:1")
	want(t, r, "two.example", "192.0.2.2", true)
	// A file that is gone for a moment changes nothing.
	if err := os.Remove(b.conf); err != nil {
		t.Fatal(err)
	}
	second.a("three.example.", 60, "192.0.2.3")
	want(t, r, "three.example", "192.0.2.3", true)
}

func TestFilesThatAreNamedMustBeThere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "x")
	if _, err := New(Config{ResolvConf: missing}); err == nil || err.Error() != "resolv_conf: open "+missing+": no such file or directory" {
		t.Errorf("no resolv.conf: %v", err)
	}
	if _, err := New(Config{HostsFile: missing}); err == nil {
		t.Error("no file of hosts, and no error")
	}
}

func TestManyWaitersOneQuestion(t *testing.T) {
	r, b := setup(t, usual)
	b.a("db.example.", 60, "192.0.2.1")
	gate := make(chan struct{})
	b.hold(gate)
	const waiters = 500
	answers := make(chan Answer, 2*waiters)
	for range waiters {
		if _, known := r.Lookup("db.example", func(a Answer) { answers <- a }); known {
			t.Fatal("known before it was answered")
		}
	}
	<-b.arrived
	if c := r.Counts(); c != (Counts{Names: 1, Queries: 1, Pending: waiters}) {
		t.Errorf("counts are %+v", c)
	}
	close(gate)
	for range waiters {
		if a := <-answers; a.Err != nil || !slices.Equal(a.Addrs, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) {
			t.Fatalf("a waiter got %v", a)
		}
	}
	r.Stop()
	if len(answers) != 0 {
		t.Errorf("%d waiters heard more than once", len(answers))
	}
	if a, aaaa := b.count("udp db.example. A"), b.count("udp db.example. AAAA"); a != 1 || aaaa != 1 {
		t.Errorf("asked %d times for A and %d for AAAA", a, aaaa)
	}
	if c := r.Counts(); c != (Counts{Names: 1}) {
		t.Errorf("counts are %+v at the end", c)
	}
}

func TestChangedAddressesAreTold(t *testing.T) {
	r, b := setup(t, usual)
	b.a("db.example.", 1, "192.0.2.1", "192.0.2.2")
	want(t, r, "db.example", "192.0.2.1 192.0.2.2", true)
	b.a("db.example.", 1, "192.0.2.2", "192.0.2.1") // no change
	b.pass(time.Second)
	want(t, r, "db.example", "192.0.2.1 192.0.2.2", true)
	b.a("db.example.", 1, "192.0.2.2", "192.0.2.3")
	b.pass(time.Second)
	want(t, r, "db.example", "192.0.2.2 192.0.2.3", true)
	// Neither a failure nor that the name is gone says that connections are bad.
	b.answer("db.example.", dns.RcodeServerFailure)
	b.pass(time.Second)
	lookup(t, r, "db.example")
	b.answer("db.example.", dns.RcodeNameError)
	b.pass(time.Minute)
	want(t, r, "db.example", `host "db.example" does not exist`, true)
	b.answer("db.example.", 0)
	b.pass(time.Minute)
	want(t, r, "db.example", "192.0.2.2 192.0.2.3", true)
	// The set before the failure is remembered.
	b.answer("db.example.", dns.RcodeNameError)
	b.pass(time.Minute)
	lookup(t, r, "db.example")
	b.answer("db.example.", 0)
	b.a("db.example.", 1, "192.0.2.4")
	b.pass(time.Minute)
	want(t, r, "db.example", "192.0.2.4", true)
	r.Stop()
	close(b.changes)
	var got []string
	for c := range b.changes {
		got = append(got, c)
	}
	if !reflect.DeepEqual(got, []string{"db.example [192.0.2.1 192.0.2.2] [192.0.2.2 192.0.2.3]", "db.example [192.0.2.2 192.0.2.3] [192.0.2.4]"}) {
		t.Errorf("changes were %q", got)
	}
}

// settle waits until nothing is under way.
func settle(t *testing.T, r *Resolver) {
	t.Helper()
	r.workers.Wait()
	if c := r.Counts(); c.Queries != 0 || c.Pending != 0 {
		t.Fatalf("nobody works, but %+v", c)
	}
}

func TestNewSerialAsksForTheNamesOfItsZone(t *testing.T) {
	s := Settings{MaxTTL: time.Hour, FailureTTL: time.Hour, ZoneCheckPeriod: 10 * time.Second}
	r, b := setup(t, s, "nameserver 127.0.0.1", "search corp.example", "options timeout:1 attempts:1")
	b.a("db1.corp.example.", 3600, "192.0.2.1")
	b.a("db2.corp.example.", 3600, "192.0.2.2")
	b.a("db.other.example.", 3600, "192.0.2.3")
	b.a("x.sub.corp.example.", 3600, "192.0.2.5")
	b.soa("corp.example.", "corp.example.", 1)
	b.soa("sub.corp.example.", "corp.example.", 1) // no zone of its own
	b.soa("other.example.", "other.example.", 7)
	write(t, b.hosts, "192.0.2.9 static.corp.example")
	want(t, r, "db1.corp.example", "192.0.2.1", true)
	want(t, r, "db2", "192.0.2.2", true) // by the search list
	want(t, r, "gone.corp.example", `host "gone.corp.example" does not exist`, true)
	want(t, r, "db.Other.example", "192.0.2.3", true)
	want(t, r, "x.sub.corp.example", "192.0.2.5", true)
	want(t, r, "static.corp.example", "192.0.2.9", true) // the nameserver has no say
	r.Sweep()
	settle(t, r)
	zones := []Zone{{"corp.example", 1, 3}, {"other.example", 7, 1}, {"sub.corp.example", 1, 1}}
	if got := r.Zones(); !reflect.DeepEqual(got, zones) {
		t.Errorf("zones are %v, want %v", got, zones)
	}
	if c := r.Counts(); c != (Counts{Names: 6, Zones: 3}) {
		t.Errorf("counts are %+v", c)
	}

	b.a("db1.corp.example.", 3600, "192.0.2.11")
	b.a("gone.corp.example.", 3600, "192.0.2.12")
	b.a("db.other.example.", 3600, "192.0.2.13")
	b.a("x.sub.corp.example.", 3600, "192.0.2.15")
	b.soa("corp.example.", "corp.example.", 0) // not larger, but another
	b.soa("sub.corp.example.", "corp.example.", 0)
	b.pass(10*time.Second - 1)
	r.Sweep()
	settle(t, r)
	want(t, r, "db1.corp.example", "192.0.2.1", false)
	b.pass(1)
	r.Sweep()
	settle(t, r)
	want(t, r, "db1.corp.example", "192.0.2.11", false)
	want(t, r, "db2", "192.0.2.2", false)
	want(t, r, "gone.corp.example", "192.0.2.12", false)
	want(t, r, "x.sub.corp.example", "192.0.2.15", false)
	want(t, r, "db.Other.example", "192.0.2.3", false) // its serial is what it was
	got := []string{<-b.changes, <-b.changes}
	slices.Sort(got)
	if !reflect.DeepEqual(got, []string{"db1.corp.example [192.0.2.1] [192.0.2.11]", "x.sub.corp.example [192.0.2.5] [192.0.2.15]"}) {
		t.Errorf("changes were %q", got)
	}

	// A serial without answers: what is fresh stays.
	b.answer("db1.corp.example.", dns.RcodeServerFailure)
	b.soa("corp.example.", "corp.example.", 2)
	b.pass(10 * time.Second)
	r.Sweep()
	settle(t, r)
	want(t, r, "db1.corp.example", "192.0.2.11", false)
	if n := b.count("udp db1.corp.example. A"); n != 3 {
		t.Errorf("db1 was asked for %d times, want 3", n)
	}

	// No answer about the zone: the serial stays, and so a later one is compared with it.
	b.answer("corp.example.", dns.RcodeServerFailure)
	b.pass(10 * time.Second)
	r.Sweep()
	settle(t, r)
	b.answer("corp.example.", 0)
	b.pass(10 * time.Second)
	r.Sweep()
	settle(t, r)
	if n := b.count("udp db1.corp.example. A"); n != 3 {
		t.Errorf("db1 was asked for %d times, want 3", n)
	}

	r.Retain(func(host string) bool { return host == "db2" })
	r.Sweep()
	if c := r.Counts(); c != (Counts{Names: 1, Zones: 1}) {
		t.Errorf("after most names are gone: %+v", c)
	}
	r.Configure(Settings{MaxTTL: time.Hour})
	r.Sweep()
	if z := r.Zones(); len(z) != 0 {
		t.Errorf("zones are %v with the check turned off", z)
	}
}

func TestSerialThatChangesWhileItsNamesAreAskedFor(t *testing.T) {
	r, b := setup(t, Settings{MaxTTL: time.Hour, ZoneCheckPeriod: time.Second})
	b.a("db.example.org.", 3600, "192.0.2.1")
	b.soa("example.org.", "example.org.", 1)
	want(t, r, "db.example.org", "192.0.2.1", true)
	r.Sweep()
	settle(t, r)
	b.pass(time.Hour)
	gate := make(chan struct{})
	b.hold(gate)
	for len(b.arrived) > 0 {
		<-b.arrived
	}
	answer := make(chan Answer, 1)
	r.Lookup("db.example.org", func(a Answer) { answer <- a })
	<-b.arrived
	<-b.arrived
	// Both questions have their answers, which are held back; the zone changes now.
	b.hold(nil)
	b.a("db.example.org.", 3600, "192.0.2.2")
	b.soa("example.org.", "example.org.", 2)
	r.Sweep()
	for end := time.Now().Add(20 * time.Second); r.Counts().Queries > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the zone is asked for without end")
		}
	}
	close(gate)
	if a := <-answer; a.Err != nil || a.Addrs[0] != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("who waited got %v", a)
	}
	settle(t, r)
	want(t, r, "db.example.org", "192.0.2.2", false)
	if got := <-b.changes; got != "db.example.org [192.0.2.1] [192.0.2.2]" {
		t.Errorf("changed: %s", got)
	}
}

func TestStopEndsWhatIsUnderWay(t *testing.T) {
	r, b := setup(t, Settings{MaxTTL: time.Hour, ZoneCheckPeriod: time.Second}, "nameserver 127.0.0.1", "options timeout:30 attempts:5")
	b.a("ok.example.org.", 60, "192.0.2.1")
	b.answer("mute.example.org.", -1)
	b.answer("example.org.", -1)
	want(t, r, "ok.example.org", "192.0.2.1", true)
	for len(b.arrived) > 0 {
		<-b.arrived
	}
	answers := make(chan Answer, 2)
	r.Lookup("mute.example.org", func(a Answer) { answers <- a })
	r.Sweep()
	for range 3 {
		<-b.arrived
	}
	start := time.Now()
	r.Stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Stop took %v", took)
	}
	if a := <-answers; !errors.Is(a.Err, ErrStopped) {
		t.Errorf("who waited got %v", a)
	}
	want(t, r, "ok.example.org", ErrStopped.Error(), false)
	r.Sweep()
	r.Stop()
}

func TestLookupsFromManyGoroutines(t *testing.T) {
	r, b := setup(t, Settings{MaxTTL: 0, FailureTTL: 0, ZoneCheckPeriod: time.Nanosecond})
	for i := range 5 {
		b.a(fmt.Sprintf("db%d.example.org.", i), 0, fmt.Sprintf("192.0.2.%d", i))
	}
	var wg sync.WaitGroup
	for g := range 20 {
		wg.Go(func() {
			for i := range 20 {
				host := fmt.Sprintf("db%d.example.org", (g+i)%6)
				addr := fmt.Sprintf("192.0.2.%d", (g+i)%6)
				if (g+i)%6 == 5 {
					addr = fmt.Sprintf("host %q does not exist", host)
				}
				if got, _ := lookup(t, r, host); got != addr {
					t.Errorf("%s is %s, want %s", host, got, addr)
				}
				b.soa("example.org.", "example.org.", g*100+i)
				b.pass(1)
				r.Sweep()
				r.Hosts()
				r.Zones()
				r.Counts()
				r.Configure(Settings{ZoneCheckPeriod: time.Nanosecond})
			}
		})
	}
	wg.Wait()
}

func TestResolvConfOptions(t *testing.T) {
	c := parseResolvConf("nameserver bogus\nnameserver fe80::1%lo\nsearch . a.example\noptions ndots:3 timeout:99 attempts:99 rotate\noptions use-vc edns0\n")
	if !slices.Equal(c.Servers, []string{"fe80::1%lo"}) || !slices.Equal(c.Search, []string{"a.example"}) || c.Ndots != 3 ||
		c.timeout != 30*time.Second || c.Attempts != 5 || !c.rotate || !c.tcp || !c.edns0 {
		t.Errorf("%+v", c)
	}
	c = parseResolvConf("; nothing\n#options rotate\n")
	if !slices.Equal(c.Servers, []string{"127.0.0.1", "::1"}) || c.Ndots != 1 || c.timeout != 5*time.Second || c.Attempts != 2 || c.rotate || c.tcp || c.edns0 {
		t.Errorf("the defaults are %+v", c)
	}
}

func FuzzFiles(f *testing.F) {
	f.Add("127.0.0.1 localhost db # x\n::1 ip6\n")
	f.Add("nameserver 1.2.3.4\nsearch a b\noptions ndots:1 rotate\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name, addrs := range parseHosts(text) {
			if len(addrs) == 0 || name != strings.ToLower(name) {
				t.Errorf("%q is %v", name, addrs)
			}
		}
		c := parseResolvConf(text)
		if len(c.Servers) == 0 || c.Attempts < 1 || c.timeout < time.Second {
			t.Errorf("%+v", c)
		}
		for _, s := range c.Servers {
			if _, err := netip.ParseAddr(s); err != nil {
				t.Error(err)
			}
		}
	})
}

func FuzzAnswers(f *testing.F) {
	m := new(dns.Msg)
	m.SetQuestion("db.example.", dns.TypeA)
	for _, text := range []string{"db.example. 60 IN CNAME b.example.", "b.example. 60 IN A 192.0.2.1", "b.example. 60 IN AAAA 2001:db8::1"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			addrs, ttl := addressesIn(m, "db.example.", kind)
			if ttl < 0 || len(addrs) > len(m.Answer) {
				t.Errorf("%v for %v", addrs, ttl)
			}
		}
	})
}
