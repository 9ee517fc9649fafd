// One socket: what both sides of the pooler have in common.

package pooler

import (
	"net/netip"
	"syscall"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/tlsconn"
)

// conn is one socket. Bytes that were read are forwarded from the loop's buffer;
// two kinds of them stay: out, which the peer does not take yet, and held, which is
// not forwarded yet (part of a header, a login message, a request whose server is
// busy). Both are nil nearly always.
type conn struct {
	w      *worker
	tls    *tlsconn.Conn // nil: none
	shake  *handshake    // under way
	out    *evloop.Buffer
	held   *evloop.Buffer
	remain int // bytes still to come of the message whose header has passed
	fd     int32
	ev     evloop.Events // what the loop watches
	more   bool          // there may be data that the loop does not tell of again
	parked bool          // not watched at all
	drop   bool          // remain is not forwarded
}

// attentive is what a client's or server's socket is watched for. The loop tells of
// data once: who does not read all of it, or not now, sets more.
const attentive = evloop.Readable | evloop.PeerClosed | evloop.Edge

// watch begins to watch a socket.
func (c *conn) watch(ev evloop.Events, h evloop.Handler) error {
	c.ev = ev
	return c.w.loop.Add(int(c.fd), ev, h)
}

// setEvents changes what is watched, if it is a change.
func (c *conn) setEvents(ev evloop.Events) {
	if c.ev == ev || c.fd < 0 || c.parked {
		c.ev = ev
		return
	}
	c.ev = ev
	if err := c.w.loop.Modify(int(c.fd), ev); err != nil {
		c.w.log.WithError(err).Error("cannot watch a socket")
	}
}

// park stops watching a socket.
func (c *conn) park() {
	if !c.parked && c.fd >= 0 {
		c.parked = true
		c.w.loop.Remove(int(c.fd))
	}
}

// wantRead goes on after a pause: the loop tells of the data that is there.
func (c *conn) wantRead(h evloop.Handler) {
	var err error
	switch {
	case c.fd < 0:
		return
	case c.parked:
		c.parked = false
		err = c.w.loop.Add(int(c.fd), c.ev, h)
	case c.more:
		err = c.w.loop.Modify(int(c.fd), c.ev)
	}
	c.more = false
	if err != nil {
		c.w.log.WithError(err).Error("cannot watch a socket")
	}
}

// send writes b, or keeps what the socket does not take now.
func (c *conn) send(b []byte) error {
	if c.fd < 0 {
		return syscall.EPIPE
	}
	if c.tls != nil {
		var err error
		if b, err = c.tls.Encrypt(c.w.sealed[:0], b); err != nil {
			return err
		}
		c.w.sealed = b[:0]
	}
	if c.out == nil {
		n, err := evloop.Write(int(c.fd), b)
		if err != nil {
			return err
		}
		if n == len(b) {
			return nil
		}
		b = b[n:]
		c.out = c.w.buffers.Get(len(b))
		c.setEvents(c.ev | evloop.Writable)
	}
	c.out.Append(b)
	return nil
}

// flush writes what send has kept; done says that nothing is left.
func (c *conn) flush() (done bool, err error) {
	if c.out == nil {
		return true, nil
	}
	n, err := evloop.Write(int(c.fd), c.out.Bytes())
	c.out.Skip(n)
	if err != nil || c.out.Len() > 0 {
		return false, err
	}
	c.w.buffers.Put(c.out)
	c.out = nil
	c.setEvents(c.ev &^ evloop.Writable)
	return true, nil
}

// stash keeps bytes that cannot be processed yet.
func (c *conn) stash(b []byte) {
	if c.held == nil {
		c.held = c.w.buffers.Get(len(b))
	}
	c.held.Append(b)
}

// keep holds what is left of data, which fill has given, once used bytes are processed.
func (c *conn) keep(data []byte, used int) {
	if c.held == nil {
		if used < len(data) {
			c.stash(data[used:])
		}
		return
	}
	c.held.Skip(used)
	if c.held.Len() == 0 {
		c.w.buffers.Put(c.held)
		c.held = nil
	}
}

// fill reads into the loop's buffer, behind what was held, and takes that over; a
// message that is too long for that, and must be seen whole, grows where it is held.
// full tells that there may be more.
func (c *conn) fill() (data []byte, full bool, err error) {
	buf := c.w.loop.Buffer()
	k := 0
	long := false
	if c.held != nil {
		if long = c.held.Len() > len(buf)/2; !long {
			k = copy(buf, c.held.Bytes())
		}
	}
	if c.w.suspended == suspendFlush {
		if n := c.missing(); n > 0 && n < len(buf)-k {
			buf = buf[:k+n]
		}
	}
	var n int
	if c.tls != nil {
		n, full, err = c.fillTLS(buf[k:])
	} else {
		n, err = evloop.Read(int(c.fd), buf[k:])
		if full = n == len(buf)-k; n == 0 && err == nil {
			err = errEOF
		}
	}
	if err != nil {
		return nil, false, err
	}
	if long {
		c.held.Append(buf[:n])
		return c.held.Bytes(), full, nil
	}
	if c.held != nil {
		c.w.buffers.Put(c.held)
		c.held = nil
	}
	return buf[:k+n], full, nil
}

// shut closes the socket and gives the buffers back.
func (c *conn) shut() {
	if c.fd < 0 {
		return
	}
	if !c.parked {
		c.w.loop.Remove(int(c.fd))
	}
	if c.tls != nil && c.out == nil {
		evloop.Write(int(c.fd), c.tls.CloseNotify(nil))
	}
	if c.shake != nil {
		c.shake.cancel()
	}
	if c.shake == nil || c.shake.left.Swap(true) {
		evloop.Close(int(c.fd))
	}
	c.fd, c.parked, c.tls, c.shake = -1, false, nil, nil
	if c.out != nil {
		c.w.buffers.Put(c.out)
		c.out = nil
	}
	if c.held != nil {
		c.w.buffers.Put(c.held)
		c.held = nil
	}
}

// address is a peer's or an own address; invalid for a unix socket.
func address(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
