// Cancel requests: a client's key names its server's key, and a request carries that
// over a connection of its own.

package pooler

import (
	"crypto/subtle"
	"syscall"
	"time"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// carrier is one cancel request on its way to a server.
type carrier struct {
	conn
	pl     *dbPool
	cancel *pool.Cancel
	client *client // who asked: is answered by the end of its connection
	since  time.Duration
	sent   bool
}

// cancelRequest handles a CancelRequest that came over c.
func (w *worker) cancelRequest(c *client, key []byte) {
	var victim *client
	for k := range w.clients {
		if (k.phase == phaseActive || k.phase == phaseConsole) && subtle.ConstantTimeCompare(k.key[:], key) == 1 {
			victim = k
		}
	}
	switch {
	case victim == nil:
		w.closeClient(c, "failed cancel request")
		return
	case victim.phase == phaseConsole:
		victim.console.cancel()
		w.closeClient(c, "cancel request for console client")
		return
	case victim.srv == nil || victim.srv.phase != serverForward || len(victim.srv.key) == 0:
		w.closeClient(c, "cancel request for idle client")
		return
	}
	s := victim.srv
	k := s.pl.CancelQuery(&victim.pc)
	if k == nil {
		w.closeClient(c, "too many cancel requests")
		return
	}
	c.phase = phaseCancel
	delete(w.logins, c)
	w.carry(s, k, c)
}

// carry brings a cancel request to a server; c, if any, is who asked.
func (w *worker) carry(s *server, k *pool.Cancel, c *client) {
	r := &carrier{conn: conn{w: w, fd: -1}, pl: s.pl, cancel: k, client: c, since: w.loop.Now()}
	w.carriers[r] = struct{}{}
	// The very address of the server: another of the name's would not know the key.
	fd, busy, err := dial(s.target, &w.set.sockets)
	if err != nil {
		w.log.Warn(s.prefix() + "cancel request: connect failed: " + err.Error())
		r.done()
		return
	}
	r.fd = int32(fd)
	if err := r.watch(evloop.Writable, r); err != nil {
		r.done()
		return
	}
	if !busy {
		r.deliver()
	}
}

// Ready is the loop's call for a carrier's socket.
func (r *carrier) Ready(evloop.Events) {
	if !r.sent {
		r.deliver()
	} else {
		// The server closes the connection when the signal is on its way.
		var b [16]byte
		if n, err := evloop.Read(int(r.fd), b[:]); n > 0 || err == syscall.EAGAIN {
			return
		}
		r.done()
	}
	r.w.run()
}

// deliver sends the key, unless the query has ended meanwhile.
func (r *carrier) deliver() {
	s, _ := r.cancel.Server.Owner.(*server)
	if r.cancel.Stale() || socketError(int(r.fd)) != nil || s == nil {
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
		r.w.closeClient(r.client, "cancel request done")
	}
}
