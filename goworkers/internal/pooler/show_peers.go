// SHOW PEERS.

package pooler

func showPeers(p *Pooler, t *table) {
	t.columns = columns("peer_id:i host port:i pool_size:i")
	for id, peer := range p.cfg.Peers {
		t.add(id, peer.Host, peer.Port, peer.PoolSize.Or(p.set.DefaultPoolSize))
	}
	t.sortByNumber(0)
}
