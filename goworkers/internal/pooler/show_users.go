// SHOW USERS.

package pooler

func showUsers(p *Pooler, t *table) {
	t.columns = columns("name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i " +
		"max_user_client_connections:i current_client_connections:i")
	for _, u := range p.users {
		var size, reserve, mode any
		if u.PoolSize.Set {
			size = u.PoolSize.Value
		}
		if u.ReservePoolSize.Set {
			reserve = u.ReservePoolSize.Value
		}
		if u.PoolMode.Set {
			mode = u.PoolMode.Value.String()
		}
		t.add(u.name, size, reserve, mode, u.group.Limit(), u.group.Servers(), u.maxClients(p.set), u.clients.Load())
	}
	t.sort(1)
}
