// Connections as SHOW CLIENTS, SERVERS and SOCKETS tell of them.

package pooler

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"goworkers/internal/pooler/pool"
)

// connColumns are the columns of SHOW CLIENTS and SHOW SERVERS.
const connColumns = "type user database replication state addr port:i local_addr local_port:i connect_time " +
	"request_time wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i"

// bufferColumns are those that SHOW SOCKETS adds. Of the bytes that were read, recv_pos
// and pkt_avail are not forwarded yet; pkt_remain of the message are still to come; the
// receiver has not taken send_remain (send_avail in all).
const bufferColumns = " recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i"

// socket is one connection with what is told of it.
type socket struct {
	*conn
	kind, user, database, replication, state string
	remote, local                            netip.AddrPort // invalid: a unix socket
	port                                     int            // of a unix socket
	since, request, wait                     time.Duration
	closeNeeded                              bool
	id, link                                 uint64 // link 0: none
	pid                                      int
	app                                      string
	statements                               int
}

// active tells whether bytes are on their way.
func (s *socket) active() bool { return s.held != nil || s.out != nil || s.remain > 0 }

// addSocket adds a connection, with what it holds if buffers is set.
func (t *table) addSocket(p *Pooler, s *socket, buffers bool) {
	side := func(a netip.AddrPort) (string, int) {
		if !a.IsValid() {
			return "unix", s.port
		}
		return a.Addr().Unmap().String(), int(a.Port())
	}
	addr, port := side(s.remote)
	localAddr, localPort := side(s.local)
	link, tls, state := "", "", s.state
	if s.link != 0 {
		link = pointer(s.link)
	}
	if s.tls != nil {
		tls = s.tls.State()
	}
	if buffers && s.kind == "S" {
		state = "sv_" + state
	} else if buffers {
		if state == "idle" {
			state = "active"
		}
		state = "cl_" + state
	}
	row := []any{
		s.kind, s.user, s.database, s.replication, state, addr, port, localAddr, localPort, p.began.Add(s.since),
		p.began.Add(max(s.since, s.request)), int(s.wait / time.Second), int(s.wait % time.Second / time.Microsecond),
		s.closeNeeded, pointer(s.id), link, s.pid, tls, s.app, s.statements, s.id,
	}
	if buffers {
		held, out := 0, 0
		if s.held != nil {
			held = s.held.Len()
		}
		if s.out != nil {
			out = s.out.Len()
		}
		row = append(row, held, 0, s.remain, 0, out, held, out)
	}
	t.add(row...)
}

// pointer names a connection where PgBouncer shows an address in its memory.
func pointer(id uint64) string { return fmt.Sprintf("0x%x", id) }

// eachClientSocket calls f for the clients, of which those that are not logged in are
// in state login; it is for use within alone.
func (p *Pooler) eachClientSocket(f func(*socket)) {
	type delivery struct {
		pl   *dbPool
		id   uint64
		sent bool
	}
	cancels := map[*client]delivery{}
	for _, w := range p.workers {
		for r := range w.carriers {
			cancels[r.client] = delivery{r.pl, r.id, r.sent}
		}
	}
	for _, q := range p.peers {
		for _, r := range q.waiting {
			cancels[r.client] = delivery{}
		}
		for _, r := range q.links {
			cancels[r.client] = delivery{nil, r.id, r.sent}
		}
	}
	name := p.tracked.index("application_name")
	p.eachClient(func(c *client) {
		s := &socket{
			conn: &c.conn, kind: "C", database: "(nodb)", user: "(nouser)", replication: c.replication.String(), state: "login",
			remote: c.addr, port: p.set.ListenPort, since: c.since, request: c.requestTime, id: c.id,
			app: c.vars.Value()[name], statements: len(c.names),
		}
		if c.login != nil {
			s.database, s.user = c.login.dbName, c.login.user
		}
		if c.pl != nil {
			s.database = c.pl.db.name
		}
		if c.user != nil {
			s.user = c.user.name
		}
		switch c.phase {
		case phaseActive:
			s.state = clientStates[c.pc.State()]
			if c.pc.State() == pool.ClientWaiting {
				s.wait = p.now() - c.pc.Since()
			}
			if c.srv != nil {
				s.link = c.srv.id
			}
		case phaseWelcome:
			s.state = "waiting_login"
		case phaseConsole:
			s.database, s.state = consoleName, "idle"
		case phaseCancel:
			d, ok := cancels[c]
			s.state = "waiting_cancel_req"
			if d.sent {
				s.state = "active_cancel_req"
			}
			if ok && d.pl != nil {
				s.database, s.user = d.pl.db.name, d.pl.user
			}
			s.link = d.id
		}
		if sa, err := syscall.Getsockname(int(c.fd)); err == nil {
			s.local = address(sa)
		}
		if c.unix {
			if cred, err := syscall.GetsockoptUcred(int(c.fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
				s.pid = int(cred.Pid)
			}
		}
		f(s)
	})
}

var clientStates = map[pool.ClientState]string{
	pool.ClientIdle: "idle", pool.ClientActive: "active", pool.ClientWaiting: "waiting", pool.ClientWelcome: "waiting_login",
	pool.ClientGone: "waiting_login", // on its way to the pool's loop
}

var serverStates = map[pool.ServerState]string{
	pool.ServerLogin: "login", pool.ServerIdle: "idle", pool.ServerUsed: "used", pool.ServerTested: "tested",
	pool.ServerCanceled: "being_canceled", pool.ServerActive: "active",
}

// eachServerSocket calls f for the connections to servers and peers; it is for use
// within alone.
func (p *Pooler) eachServerSocket(f func(*socket)) {
	name := p.tracked.index("application_name")
	p.eachPool(func(q *dbPool) {
		q.EachServer(func(ps *pool.Server) {
			o, ok := ps.Owner.(*server)
			if !ok {
				return
			}
			s := &socket{
				conn: &o.conn, kind: "S", user: q.user, database: q.db.name, replication: replicationNone.String(),
				state: serverStates[ps.State()], remote: o.addr, local: o.local, port: q.db.Port, since: o.since,
				request: ps.LastUsed(), closeNeeded: ps.CloseNeeded(), id: o.id, app: o.vars.Value()[name], statements: o.prepared.len(),
			}
			if o.cl != nil {
				s.link = o.cl.id
			}
			if pc := ps.Client(); ps.Dedicated() && pc != nil {
				if c, ok := pc.Owner.(*client); ok {
					s.replication = c.replication.String()
				}
			}
			if len(o.key) >= 4 {
				s.pid = int(binary.BigEndian.Uint32(o.key))
			}
			f(s)
		})
	})
	cancel := func(c *conn, to target, database, user string, port int, asked *client, id uint64, since time.Duration) {
		s := &socket{
			conn: c, kind: "S", database: database, user: user, replication: replicationNone.String(), state: "active_cancel",
			remote: address(to.sa), port: port, since: since, id: id,
		}
		if sa, err := syscall.Getsockname(int(c.fd)); err == nil {
			s.local = address(sa)
		}
		if asked != nil {
			s.link = asked.id
		}
		f(s)
	}
	for _, w := range p.workers {
		for r := range w.carriers {
			if o, ok := r.cancel.Server.Owner.(*server); ok {
				cancel(&r.conn, o.target, r.pl.db.name, r.pl.user, r.pl.db.Port, r.client, r.id, r.since)
			}
		}
	}
	for _, q := range p.peers {
		for _, r := range q.links {
			cancel(&r.conn, r.target, fmt.Sprintf("peer-%d", q.ID), "", q.Port, r.client, r.id, r.since)
		}
	}
}
