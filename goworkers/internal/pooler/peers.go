// Poolers that share an address (so_reuseport, a load balancer) and stand in for each
// other: a cancel request may come to another one than its client did. The keys of a
// pooler with a peer_id carry that id, so whoever gets the request passes it on.
//
// A key: byte 0 is random, with a clear sign bit; bytes 1 and 2 are the id, the low byte
// first; the rest is random, but for the low two bits of byte 7, which say how many more
// times the request may be passed on.

package pooler

import (
	"encoding/binary"
	"fmt"
	"slices"
	"syscall"
	"time"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

// hopBits are those of a key's last byte that count hops.
const hopBits = 3

// newKey makes a key; peer is the pooler's own id, 0 = it has none.
func newKey(peer int) pgwire.CancelKey {
	k := pgwire.NewCancelKey()
	if peer > 0 {
		binary.LittleEndian.PutUint16(k[1:], uint16(peer))
		k[7] |= hopBits
	}
	return k
}

// withoutHops is what stays of a key however often it was passed on.
func withoutHops(k pgwire.CancelKey) pgwire.CancelKey {
	k[7] &^= hopBits
	return k
}

// peer is another pooler. It belongs to the first loop, which takes all requests in.
type peer struct {
	*ini.Peer
	p       *Pooler
	size    int      // links at a time; 0 = no limit
	links   []*relay // on their way
	waiting []*relay // for a place, in order
}

// relay is one cancel request on its way to a peer.
type relay struct {
	conn
	peer   *peer
	client *client // who asked: is answered by the end of its connection
	key    pgwire.CancelKey
	id     uint64
	addr   string
	target target
	since  time.Duration
	sent   bool
	over   bool
}

// applyPeers puts the entries of [peers] in force.
func (p *Pooler) applyPeers() {
	for id, q := range p.peers {
		if p.cfg.Peers[id] == nil || p.set.PeerID == 0 {
			delete(p.peers, id)
			for _, r := range slices.Concat(q.waiting, q.links) {
				r.done("peer removed")
			}
		}
	}
	if p.set.PeerID == 0 {
		return
	}
	for id, conf := range p.cfg.Peers {
		q := p.peers[id]
		if q == nil {
			q = &peer{p: p}
			p.peers[id] = q
		}
		q.Peer, q.size = conf, conf.PoolSize.Or(p.set.DefaultPoolSize)
		q.serve()
	}
}

// passOn passes a cancel request on to the peer whose client it means. It reports false
// when there is no such peer, or the request has come too far.
func (p *Pooler) passOn(c *client, key pgwire.CancelKey) bool {
	id := int(binary.LittleEndian.Uint16(key[1:]))
	q := p.peers[id]
	if p.set.PeerID == 0 || id == p.set.PeerID || q == nil {
		return false
	}
	if key[7]&hopBits == 0 {
		c.about().Warnf("cancel request for peer %d has been passed on too often: compare peer_id and [peers] of all poolers", id)
		return false
	}
	key[7]--
	r := &relay{conn: conn{w: p.main, fd: -1}, peer: q, client: c, key: key, id: p.lastID.Add(1), since: p.now()}
	r.addr = fmt.Sprintf("%s:%d", q.Host, q.Port)
	q.waiting = append(q.waiting, r)
	q.serve()
	return true
}

// serve opens links for those that wait, as far as the limit allows.
func (q *peer) serve() {
	for len(q.waiting) > 0 && (q.size == 0 || len(q.links) < q.size) {
		r := q.waiting[0]
		q.waiting = slices.Delete(q.waiting, 0, 1)
		q.links = append(q.links, r)
		r.open()
	}
}

// cancels tells how many requests wait, are being delivered, and have been.
func (q *peer) cancels() (waiting, opening, sent int) {
	for _, r := range q.links {
		if r.sent {
			sent++
		} else {
			opening++
		}
	}
	return len(q.waiting), opening, sent
}

// logConn is the link as the log names it.
func (r *relay) logConn() logConn {
	return logConn{kind: 'S', id: r.id, peer: fmt.Sprintf("peer-%d@%s", r.peer.ID, r.addr)}
}

// open connects to the peer.
func (r *relay) open() {
	r.w.resolve(r.peer.Host, r.peer.Port, func(t target, err error) {
		if r.over {
			return
		}
		var fd int
		var busy bool
		if err == nil {
			fd, busy, err = dial(t, &r.w.set.sockets)
		}
		if err == nil {
			r.fd, r.target = int32(fd), t
			err = r.watch(evloop.Writable, r)
		}
		switch {
		case err != nil:
			r.failed(err)
		case !busy:
			r.deliver()
		}
	})
}

// Ready is the loop's call for a relay's socket.
func (r *relay) Ready(evloop.Events) {
	if !r.sent {
		r.deliver()
	} else {
		// The peer closes the connection when it has done what it can.
		var b [16]byte
		if n, err := evloop.Read(int(r.fd), b[:]); n > 0 || err == syscall.EAGAIN {
			return
		}
		r.done(cancelReason(true))
	}
	r.w.run()
}

// deliver sends the key once the link is there.
func (r *relay) deliver() {
	if err := socketError(int(r.fd)); err != nil {
		r.failed(err)
		return
	}
	if r.w.set.LogConnections {
		from := "unix"
		if sa, err := syscall.Getsockname(int(r.fd)); err == nil {
			if a := address(sa); a.IsValid() {
				from = a.String()
			}
		}
		r.w.note(r.logConn(), "new connection to server (from ", from, ")")
	}
	r.sent = true
	if err := r.send(pgwire.AppendCancelRequest(nil, r.key[:])); err != nil {
		r.failed(err)
		return
	}
	r.setEvents(evloop.Readable)
}

func (r *relay) failed(err error) {
	r.w.about(r.logConn()).Warn("connect failed: " + err.Error())
	r.done("connect failed")
}

// done ends the request, delivered or not.
func (r *relay) done(reason string) {
	if r.over {
		return
	}
	r.over = true
	if r.fd >= 0 && r.w.set.LogDisconnections {
		r.w.closed(r.logConn(), reason, r.w.loop.Now()-r.since)
	}
	r.shut()
	q := r.peer
	own := func(o *relay) bool { return o == r }
	q.links, q.waiting = slices.DeleteFunc(q.links, own), slices.DeleteFunc(q.waiting, own)
	r.w.closeClient(r.client, reason)
	q.serve()
}

// sweepPeers ends what takes too long.
func (p *Pooler) sweepPeers(now time.Duration) {
	limit := p.set.CancelWaitTimeout
	if limit <= 0 {
		return
	}
	for _, q := range p.peers {
		for _, r := range slices.Concat(q.waiting, q.links) {
			if now-r.since >= limit {
				r.done("cancel_wait_timeout")
			}
		}
	}
}
