// SHOW DATABASES.

package pooler

import "goworkers/internal/pooler/ini"

func showDatabases(p *Pooler, t *table) {
	t.columns = columns("name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i " +
		"server_lifetime:i pool_mode load_balance_hosts max_connections:i current_connections:i " +
		"max_client_connections:i current_client_connections:i paused:i disabled:i")
	for _, db := range p.databases {
		var host, user, mode any
		if db.Host != "" {
			host = db.Host
		}
		if db.User != "" {
			user = db.User
		}
		if db.PoolMode.Set {
			mode = db.PoolMode.Value.String()
		}
		set := p.set
		t.add(db.name, host, db.Port, db.serverName(), user, db.PoolSize.Or(set.DefaultPoolSize), db.MinPoolSize.Or(set.MinPoolSize),
			db.ReservePoolSize.Or(set.ReservePoolSize), int(db.ServerLifetime.Or(set.ServerLifetime).Seconds()), mode, db.shownBalance(),
			db.group.Limit(), db.group.Servers(), db.maxClients(), db.clients.Load(), db.paused, db.disabled)
	}
	t.add(consoleName, nil, p.set.ListenPort, consoleName, consoleName, 2, 0, 0, int(p.set.ServerLifetime.Seconds()), ini.PoolStatement.String(), nil,
		0, 0, 0, len(p.consoles), false, false)
	t.sort(1)
}

// shownBalance is the column load_balance_hosts, which one host leaves NULL.
func (db *database) shownBalance() any {
	if len(db.Hosts) < 2 {
		return nil
	}
	return db.LoadBalanceHosts.Value.String()
}
