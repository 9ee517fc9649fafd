// The system's files: hosts(5) and resolv.conf(5).

package dns

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// watched is a file that is read again when it has changed. One that cannot be read is
// an empty one at first, and later what it was.
type watched[T any] struct {
	path  string
	parse func(text string) T

	mu    sync.Mutex
	read  bool
	time  time.Time
	size  int64
	value T
}

func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	info, err := os.Stat(w.path)
	if err == nil && (!w.read || info.Size() != w.size || !info.ModTime().Equal(w.time)) {
		var text []byte
		if text, err = os.ReadFile(w.path); err == nil {
			w.value, w.read, w.time, w.size = w.parse(string(text)), true, info.ModTime(), info.Size()
		}
	}
	if err != nil && !w.read {
		return w.parse("")
	}
	return w.value
}

// parseHosts reads the lines ADDRESS NAME..., names in small letters.
func parseHosts(text string) map[string][]netip.Addr {
	hosts := map[string][]netip.Addr{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.TrimSuffix(strings.ToLower(name), ".")
			if !slices.Contains(hosts[name], ip.Unmap()) {
				hosts[name] = append(hosts[name], ip.Unmap())
			}
		}
	}
	return hosts
}

// resolvConf is whom to ask for what, and how.
type resolvConf struct {
	dns.ClientConfig
	timeout time.Duration // for one question to one nameserver
	rotate  bool          // begin with another nameserver each time
	tcp     bool
	edns0   bool
}

func parseResolvConf(text string) *resolvConf {
	c := &resolvConf{}
	parsed, err := dns.ClientConfigFromReader(strings.NewReader(text))
	if err != nil {
		// A line too long for it.
		parsed, _ = dns.ClientConfigFromReader(strings.NewReader(""))
	}
	c.ClientConfig = *parsed
	c.Servers = slices.DeleteFunc(c.Servers, func(s string) bool {
		_, err := netip.ParseAddr(s)
		return err != nil
	})
	if len(c.Servers) == 0 {
		c.Servers = []string{"127.0.0.1", "::1"}
	}
	// A dot stands for no suffix, which is tried anyhow.
	c.Search = slices.DeleteFunc(c.Search, func(s string) bool { return strings.Trim(s, ".") == "" })
	// The bounds of resolv.conf(5).
	c.timeout = time.Duration(min(c.Timeout, 30)) * time.Second
	c.Attempts = min(c.Attempts, 5)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "options" {
			continue
		}
		c.rotate = c.rotate || slices.Contains(fields, "rotate")
		c.tcp = c.tcp || slices.Contains(fields, "use-vc")
		c.edns0 = c.edns0 || slices.Contains(fields, "edns0")
	}
	return c
}
