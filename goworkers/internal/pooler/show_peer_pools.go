// SHOW PEER_POOLS.

package pooler

func showPeerPools(p *Pooler, t *table) {
	t.columns = columns("peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i")
	for id, q := range p.peers {
		waiting, opening, sent := q.cancels()
		t.add(id, sent, waiting+opening, sent, opening)
	}
	t.sortByNumber(0)
}
