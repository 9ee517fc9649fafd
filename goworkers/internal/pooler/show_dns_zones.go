// SHOW DNS_ZONES.

package pooler

func showDNSZones(p *Pooler, t *table) {
	t.columns = columns("zonename serial:q count:i")
	for _, z := range p.dns.Zones() {
		t.add(z.Name, z.Serial, z.Hosts)
	}
	t.sort(1)
}
