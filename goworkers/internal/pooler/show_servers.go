// SHOW SERVERS.

package pooler

import (
	"encoding/binary"

	"goworkers/internal/pooler/pool"
)

var serverStates = map[pool.ServerState]string{
	pool.ServerLogin: "login", pool.ServerIdle: "idle", pool.ServerUsed: "used", pool.ServerTested: "tested",
	pool.ServerCanceled: "being_canceled", pool.ServerActive: "active",
}

func showServers(p *Pooler, t *table) {
	t.columns = columns(connColumns)
	p.eachPool(func(q *dbPool) {
		q.EachServer(func(ps *pool.Server) {
			s, ok := ps.Owner.(*server)
			if !ok {
				return
			}
			addr, port := "unix", s.pl.db.Port
			if s.addr.IsValid() {
				addr, port = s.addr.Addr().Unmap().String(), int(s.addr.Port())
			}
			localAddr, localPort := "unix", s.pl.db.Port
			if s.local.IsValid() {
				localAddr, localPort = s.local.Addr().Unmap().String(), int(s.local.Port())
			}
			link, pid := "", 0
			if s.cl != nil {
				link = pointer(s.cl.id)
			}
			if len(s.key) >= 4 {
				pid = int(binary.BigEndian.Uint32(s.key))
			}
			app := s.vars.Value()[p.tracked.index("application_name")]
			t.add("S", s.pl.user, s.pl.db.name, "none", serverStates[ps.State()], addr, port, localAddr, localPort,
				p.began.Add(s.since), p.began.Add(ps.LastUsed()), 0, 0,
				ps.CloseNeeded(), pointer(s.id), link, pid, "", app, 0, s.id)
		})
	})
	t.sort(15)
}
