// SHOW USERS.

package pooler

import "strconv"

func showUsers(p *Pooler, t *table) {
	t.columns = columns("name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i " +
		"max_user_client_connections:i current_client_connections:i")
	onConsole := p.onConsole()
	for _, u := range p.users {
		var mode any
		size, reserve := "", ""
		if u.PoolSize.Set {
			size = strconv.Itoa(u.PoolSize.Value)
		}
		if u.ReservePoolSize.Set {
			reserve = strconv.Itoa(u.ReservePoolSize.Value)
		}
		if u.PoolMode.Set {
			mode = u.PoolMode.Value.String()
		}
		t.add(u.name, size, reserve, mode, u.group.Limit(), u.group.Servers(), u.maxClients(p.set), int(u.clients.Load())+onConsole[u.name])
	}
	if p.users[consoleName] == nil {
		t.add(consoleName, "", "", nil, 0, 0, 0, onConsole[consoleName])
	}
	t.sort(1)
}

// countUsers counts the lines of SHOW USERS.
func (p *Pooler) countUsers() int {
	if p.users[consoleName] == nil {
		return len(p.users) + 1
	}
	return len(p.users)
}
