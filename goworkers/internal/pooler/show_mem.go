// SHOW MEM: what the objects take that there are many of.

package pooler

import (
	"unsafe"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/pool"
)

func showMem(p *Pooler, t *table) {
	t.columns = columns("name size:i used:i free:i memtotal:i")
	add := func(name string, size uintptr, used int) { t.add(name, size, used, 0, int(size)*used) }
	var clients, servers, pools, prepared, texts, buffers, unused int
	var textBytes, bufferBytes, unusedBytes int
	count := func(c *conn) {
		for _, b := range [...]*evloop.Buffer{c.held, c.out} {
			if b != nil {
				buffers++
				bufferBytes += b.Size()
			}
		}
	}
	for _, w := range p.workers {
		clients += len(w.clients)
		for c := range w.clients {
			count(&c.conn)
		}
		n, bytes := w.buffers.Free()
		unused += n
		unusedBytes += bytes
		buffers++
		bufferBytes += len(w.loop.Buffer())
		for _, st := range w.statements.byBody {
			texts++
			textBytes += int(unsafe.Sizeof(*st)) + len(st.name) + len(st.body)
		}
	}
	p.eachPool(func(pl *dbPool) {
		pools++
		pl.EachServer(func(ps *pool.Server) {
			if s, ok := ps.Owner.(*server); ok {
				servers++
				prepared += s.prepared.len()
				count(&s.conn)
			}
		})
	})
	add("user_cache", unsafe.Sizeof(user{}), len(p.users))
	add("db_cache", unsafe.Sizeof(database{}), len(p.databases))
	add("peer_cache", unsafe.Sizeof(peer{}), len(p.peers))
	add("pool_cache", unsafe.Sizeof(dbPool{})+unsafe.Sizeof(pool.Pool{}), pools)
	add("server_cache", unsafe.Sizeof(server{})+unsafe.Sizeof(pool.Server{}), servers)
	add("client_cache", unsafe.Sizeof(client{}), clients)
	t.add("iobuf_cache", evloop.BufferSize, buffers, unused, bufferBytes+unusedBytes)
	add("server_prepared_statement_cache", unsafe.Sizeof(preparedEntry{}), prepared)
	t.add("prepared_statement_cache", unsafe.Sizeof(statement{}), texts, 0, textBytes)
}
