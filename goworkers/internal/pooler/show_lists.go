// SHOW LISTS.

package pooler

func showLists(p *Pooler, t *table) {
	t.columns = columns("list items:i")
	used, logins, servers, pools := 0, 0, 0, 1
	for _, w := range p.workers {
		used += len(w.clients) - len(w.logins)
		logins += len(w.logins)
	}
	p.eachPool(func(pl *dbPool) {
		pools++
		servers += pl.TotalServers()
	})
	names := p.dns.Counts()
	for _, row := range []struct {
		name  string
		items int
	}{
		{"databases", len(p.databases) + 1}, {"users", p.countUsers()}, {"peers", len(p.cfg.Peers)},
		{"pools", pools}, {"peer_pools", len(p.peers)},
		{"free_clients", 0}, {"used_clients", used}, {"login_clients", logins},
		{"free_servers", 0}, {"used_servers", servers},
		{"dns_names", names.Names}, {"dns_zones", names.Zones}, {"dns_queries", names.Queries}, {"dns_pending", names.Pending},
	} {
		t.add(row.name, row.items)
	}
}
