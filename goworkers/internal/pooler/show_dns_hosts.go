// SHOW DNS_HOSTS.

package pooler

import (
	"strings"
	"time"
)

func showDNSHosts(p *Pooler, t *table) {
	t.columns = columns("hostname ttl:q addrs")
	for _, h := range p.dns.Hosts() {
		var addrs []string
		for _, a := range h.Addrs {
			addrs = append(addrs, a.String())
		}
		t.add(h.Name, int64(h.TTL/time.Second), strings.Join(addrs, ","))
	}
	t.sort(1)
}
