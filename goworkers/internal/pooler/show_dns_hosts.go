// SHOW DNS_HOSTS.

package pooler

import (
	"strings"
	"time"
)

func showDNSHosts(p *Pooler, t *table) {
	t.columns = columns("hostname ttl:q addrs")
	for name, e := range p.dns {
		var addrs []string
		for _, a := range e.addrs {
			addrs = append(addrs, a.String())
		}
		t.add(name, int64(max(0, e.until-p.now())/time.Second), strings.Join(addrs, ","))
	}
	t.sort(1)
}
