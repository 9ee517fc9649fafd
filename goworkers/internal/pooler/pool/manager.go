// All pools of a thread, and the actions that wait to be carried out.

package pool

// Manager is all pools of one thread. It is not safe for concurrent use; what
// managers share are Groups alone.
type Manager struct {
	pools   []*Pool
	shares  map[*Group]*share
	actions []Action
	next    int
	sweeps  uint64
}

// Next gives the next action to carry out. Actions that carrying one out brings
// about come after those that were there.
func (m *Manager) Next() (Action, bool) {
	if m.next == len(m.actions) {
		clear(m.actions)
		m.actions, m.next = m.actions[:0], 0
		return Action{}, false
	}
	m.next++
	a := m.actions[m.next-1]
	if a.Kind == GroupFreed {
		if sh := m.shares[a.Group]; sh != nil {
			sh.told = false
		}
	}
	return a, true
}

func (m *Manager) emit(a Action) { m.actions = append(m.actions, a) }

// Pools are all pools, in the order of their making.
func (m *Manager) Pools() []*Pool { return m.pools }

// AddPool makes a pool. Either group may be nil.
func (m *Manager) AddPool(s *Settings, database, user *Group, owner any) *Pool {
	p := &Pool{Settings: s, Owner: owner, m: m}
	for i, g := range [...]*Group{database, user} {
		p.hunger[i].pool = p
		if g != nil {
			p.shares[i] = m.share(g)
			p.shares[i].pools = append(p.shares[i].pools, p)
		}
	}
	m.pools = append(m.pools, p)
	return p
}

// RemovePool forgets a pool that has neither clients nor servers; it reports
// false when it has.
func (m *Manager) RemovePool(p *Pool) bool {
	if p.nClients > 0 || p.nServers > 0 || p.cancels > 0 {
		return false
	}
	p.unhold()
	m.pools = without(m.pools, p)
	for _, sh := range p.shares {
		if sh != nil {
			m.unshare(sh, p)
		}
	}
	p.shares = [2]*share{}
	return true
}

func without(pools []*Pool, p *Pool) []*Pool {
	for i, q := range pools {
		if q == p {
			copy(pools[i:], pools[i+1:])
			pools[len(pools)-1] = nil
			return pools[:len(pools)-1]
		}
	}
	return pools
}
