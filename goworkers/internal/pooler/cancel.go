// Cancel requests: a client's key names its server's key, and a request carries that
// over a connection of its own. The client may live on another loop than the one that
// took the request in, so the request goes there first: only that loop knows what the
// client's server is doing.

package pooler

import (
	"context"
	"sync"
	"syscall"
	"time"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/internal/pooler/tlsconn"
	"goworkers/pgwire"
)

// keyring finds clients by their cancel keys. It is safe for concurrent use: clients
// come and go on all loops. Its zero value is empty.
type keyring struct {
	mu      sync.Mutex
	clients map[pgwire.CancelKey]*client // by key without its hops
}

// give makes a client's key, which nobody else has; peer is the pooler's own id among
// its peers, 0 = it has none.
func (r *keyring) give(c *client, peer int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clients == nil {
		r.clients = map[pgwire.CancelKey]*client{}
	}
	for {
		c.key = newKey(peer)
		if _, taken := r.clients[withoutHops(c.key)]; !taken {
			r.clients[withoutHops(c.key)] = c
			return
		}
	}
}

// keep takes in a client that has its key already.
func (r *keyring) keep(c *client) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clients == nil {
		r.clients = map[pgwire.CancelKey]*client{}
	}
	r.clients[withoutHops(c.key)] = c
}

// take forgets a client.
func (r *keyring) take(c *client) {
	if c.key == (pgwire.CancelKey{}) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if key := withoutHops(c.key); r.clients[key] == c {
		delete(r.clients, key)
	}
}

// find gives the client with a key, or nil, and the loop that it lives on: a client
// has its key only once it has come to stay there. The hops of a key count only for a
// pooler without peers, where they are part of what is secret.
func (r *keyring) find(key pgwire.CancelKey, peer int) (*client, *worker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.clients[withoutHops(key)]
	if c == nil || peer == 0 && c.key != key {
		return nil, nil
	}
	return c, c.w
}

// carrier is one cancel request on its way to a server.
type carrier struct {
	conn
	pl     *dbPool
	cancel *pool.Cancel
	client *client // who asked: is answered by the end of its connection
	id     uint64
	since  time.Duration
	asks   bool // for TLS: one byte will tell whether the server speaks it
	sent   bool
}

// cancelRequest handles a CancelRequest that came over c, on the first loop. It is
// carried out even if its client does not wait for that.
func (w *worker) cancelRequest(c *client, body []byte) {
	var key pgwire.CancelKey
	if len(body) != len(key) {
		w.closeClient(c, "failed cancel request")
		return
	}
	copy(key[:], body)
	c.phase = phaseCancel
	w.events.cancels++
	delete(w.logins, c)
	switch victim, home := w.keys.find(key, w.set.PeerID); {
	case victim == nil:
		if !w.passOn(c, key) {
			w.closeClient(c, "failed cancel request")
		}
	case home == w:
		w.cancelQuery(c, victim)
	default:
		home.loop.Post(func() { home.cancelQuery(c, victim) })
	}
}

// answerCancel ends the connection of a client that asked for a cancel; it may live on
// another loop.
func (w *worker) answerCancel(c *client, reason string) {
	if c.w == w {
		w.closeClient(c, reason)
		return
	}
	c.w.loop.Post(func() { c.w.closeClient(c, reason) })
}

// cancelQuery cancels what a client of this loop does now; c asked for it.
func (w *worker) cancelQuery(c, victim *client) {
	switch {
	case victim.fd < 0 || victim.phase != phaseActive && victim.phase != phaseConsole:
		w.answerCancel(c, "failed cancel request") // it has gone meanwhile
		return
	case victim.phase == phaseConsole:
		victim.console.cancel()
		w.answerCancel(c, "cancel request for console client")
		return
	case victim.srv == nil || victim.srv.phase != serverForward || len(victim.srv.key) == 0:
		w.answerCancel(c, "cancel request for idle client")
		return
	}
	s := victim.srv
	k := s.pl.CancelQuery(&victim.pc)
	if k == nil {
		w.answerCancel(c, "too many cancel requests")
		return
	}
	w.carry(s, k, c)
}

// carry brings a cancel request to a server; c, if any, is who asked.
func (w *worker) carry(s *server, k *pool.Cancel, c *client) {
	r := &carrier{conn: conn{w: w, fd: -1}, pl: s.pl, cancel: k, client: c, id: w.lastID.Add(1), since: w.loop.Now()}
	w.carriers[r] = struct{}{}
	// The very address of the server: another of the name's would not know the key.
	fd, busy, err := dial(s.target, &w.set.sockets)
	if err != nil {
		s.about().Warn("cancel request: connect failed: " + err.Error())
		r.done()
		return
	}
	r.fd = int32(fd)
	if err := r.watch(evloop.Writable, r); err != nil {
		r.done()
		return
	}
	if !busy {
		r.connected()
	}
}

// Ready is the loop's call for a carrier's socket.
func (r *carrier) Ready(evloop.Events) {
	switch {
	case !r.asks && !r.sent:
		r.connected()
	case !r.sent:
		r.tlsAnswer()
	default:
		// The server closes the connection when the signal is on its way.
		var b [64]byte
		if n, err := evloop.Read(int(r.fd), b[:]); n > 0 || err == syscall.EAGAIN {
			break
		}
		r.done()
	}
	r.w.run()
}

// wantsTLS tells whether the key must not be seen on its way: as on the connection that
// it belongs to, and always when the settings say so.
func (r *carrier) wantsTLS() bool {
	s := r.server()
	return s != nil && s.addr.IsValid() && r.w.serverTLS != nil && (s.tls != nil || r.w.set.ServerTLS.SSLMode >= ini.SSLRequire)
}

// server is the one that the request is for; nil if it is not what it was any more.
func (r *carrier) server() *server {
	s, _ := r.cancel.Server.Owner.(*server)
	return s
}

// connected begins what is said on the connection.
func (r *carrier) connected() {
	if socketError(int(r.fd)) != nil {
		r.done()
		return
	}
	if !r.wantsTLS() {
		r.deliver()
		return
	}
	r.asks = true
	if err := r.send(pgwire.AppendSSLRequest(nil)); err != nil {
		r.done()
		return
	}
	r.setEvents(evloop.Readable)
}

// tlsAnswer handles the server's answer to the request for TLS.
func (r *carrier) tlsAnswer() {
	var b [2]byte
	n, err := evloop.Read(int(r.fd), b[:])
	if err == syscall.EAGAIN {
		return
	}
	s := r.server()
	if s == nil {
		r.done()
		return
	}
	if n != 1 || b[0] != 'S' {
		s.about().Warn("cancel request: server refused SSL")
		r.done()
		return
	}
	w, cfg, host := r.w, r.w.serverTLS, s.host
	r.startTLS(func(ctx context.Context, fd int) (*tlsconn.Conn, error) {
		return w.handshaker.Connect(ctx, cfg, fd, host)
	}, func(err error) {
		if err != nil {
			s.about().Warn("cancel request: " + handshakeFailed(err))
			r.done()
			return
		}
		r.wantRead(r)
		r.deliver()
	})
}

// deliver sends the key, unless the query has ended meanwhile.
func (r *carrier) deliver() {
	s := r.server()
	if r.cancel.Stale() || s == nil {
		r.done()
		return
	}
	r.sent = true
	r.cancel.MarkSent()
	if err := r.send(pgwire.AppendCancelRequest(nil, s.key)); err != nil {
		r.done()
		return
	}
	r.setEvents(evloop.Readable)
}

// done ends the request, delivered or not.
func (r *carrier) done() {
	if _, ok := r.w.carriers[r]; !ok {
		return
	}
	delete(r.w.carriers, r)
	r.shut()
	r.pl.CancelDone(r.cancel, r.w.loop.Now())
	if r.client != nil {
		r.w.answerCancel(r.client, cancelReason(r.sent))
	}
}

// cancelReason is why the connections of a cancel request end.
func cancelReason(sent bool) string {
	if sent {
		return "successfully sent cancel request"
	}
	return "cancel request for idle client" // its query has ended meanwhile
}
