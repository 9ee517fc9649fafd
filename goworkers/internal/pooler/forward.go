// The data path: both directions walk over message headers and forward bodies unseen.

package pooler

import (
	"errors"
	"syscall"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/ini"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// errEOF is the regular end of a stream.
var errEOF = errors.New("unexpected eof")

// readySize is the size of each ReadyForQuery: its body is the transaction's status.
const readySize = pgwire.HeaderSize + 1

// pieceSize is from where on what a server has sent may be a piece of a stream: half of
// what PostgreSQL sends at a time.
const pieceSize = 4 << 10

var (
	errReadySize = errors.New("ReadyForQuery of a wrong size")
	errOversized = errors.New("message too large to be looked at")
)

// mayRead tells whether what the client sends can be used now.
func (c *client) mayRead() bool {
	switch c.phase {
	case phaseTLS, phaseBusy, phaseWelcome, phaseCancel, phaseLinger:
		return false
	}
	if c.w.suspended != suspendNot && !c.mayFinish() {
		return false
	}
	if c.pc.State() == pool.ClientWaiting {
		return false
	}
	if s := c.srv; s != nil {
		return s.out == nil && s.phase == serverForward
	}
	// The pool may have chosen a server already that is not linked yet.
	return c.pc.Server() == nil
}

// Ready is the loop's call for a client's socket.
func (c *client) Ready(ev evloop.Events) {
	if ev&evloop.Writable != 0 && c.out != nil {
		c.drained()
	}
	if c.fd >= 0 && ev&(evloop.Readable|evloop.Broken|evloop.PeerClosed) != 0 {
		ended := ev&(evloop.Broken|evloop.PeerClosed) != 0
		switch {
		case c.mayRead():
			c.read(ended)
		case c.phase == phaseLinger && ev&evloop.Broken == 0:
			c.drain()
		default:
			c.putOff(ended)
		}
	}
	c.w.run()
}

// putOff leaves what may not be read now for later; who waits and has gone is let go.
func (c *client) putOff(ended bool) {
	if ended {
		c.w.closeClient(c, "client unexpected eof")
		return
	}
	c.more = true
}

// drained goes on writing, and lets the server be read again when all is written.
func (c *client) drained() {
	done, err := c.flush()
	switch {
	case err != nil:
		c.w.closeClient(c, "write to client: "+err.Error())
	case done && c.phase == phaseLinger && c.unread():
		c.hangUp()
	case done && c.phase == phaseLinger:
		c.w.closeClient(c, "")
	case done && c.srv != nil:
		c.srv.wantRead(c.srv)
	}
}

// read takes what the client has sent; ended tells that there is an end to be found.
func (c *client) read(ended bool) {
	c.more = false
	for range c.w.set.loopCount {
		data, full, err := c.fill()
		if err != nil {
			if err == syscall.EAGAIN {
				return
			}
			reason := "client unexpected eof"
			if err != errEOF {
				reason = "read from client: " + err.Error()
			}
			c.w.closeClient(c, reason)
			return
		}
		phase := c.phase
		used := c.process(data)
		if c.fd < 0 {
			return
		}
		c.keep(data, used)
		if c.phase != phase {
			c.resume() // with what came behind the login
		}
		if !full && !ended {
			return
		}
		if !c.mayRead() {
			c.putOff(ended && c.phase != phaseLinger)
			return
		}
	}
	c.more = true
	c.wantRead(c) // after everybody else
}

// resume processes what was held and reads on.
func (c *client) resume() {
	for c.fd >= 0 && c.held != nil && c.mayRead() {
		data := c.held.Bytes()
		used := c.process(data)
		if c.fd < 0 {
			return
		}
		c.keep(data, used)
		if used == 0 {
			break
		}
	}
	if c.fd >= 0 && c.mayRead() {
		c.wantRead(c)
	}
}

// process handles bytes from the client and returns how many are done with.
func (c *client) process(data []byte) int {
	switch c.phase {
	case phaseActive:
		return c.forward(data)
	case phaseConsole:
		return c.console.process(data)
	default:
		return c.processLogin(data)
	}
}

// forward walks over a logged-in client's messages.
func (c *client) forward(data []byte) int {
	pos, i := 0, 0 // data[pos:i] is seen and not sent yet
	if c.remain > 0 {
		i = min(c.remain, len(data))
		c.remain -= i
		if c.drop {
			pos = i
		} else if c.remain == 0 && c.srv != nil && c.srv.lateRelease {
			c.srv.write(data[:i])
			pos = i
			c.srv.release()
		}
	}
	s := c.srv
	out := c.w.out[:0] // goes to the server before data[pos:i]
	wrong, leaves := "", false
walk:
	for i < len(data) {
		typ, size, ok, err := pgwire.ParseHeader(data[i:])
		if err != nil {
			wrong = badHeader(data[i : i+pgwire.HeaderSize])
			break
		}
		if !ok {
			break
		}
		if size > c.w.set.MaxPacketSize {
			wrong = badHeader(data[i : i+pgwire.HeaderSize])
			break
		}
		switch typ {
		case pgwire.MsgTerminate:
			leaves = true
			break walk
		case pgwire.MsgCopyData, pgwire.MsgCopyDone, pgwire.MsgCopyFail:
			if s == nil {
				// The copy has failed and its server is gone already.
				i += size
				c.remain, c.drop = max(0, i-len(data)), true
				i = min(i, len(data))
				pos = i
				continue
			}
		case pgwire.MsgQuery, pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgExecute,
			pgwire.MsgClose, pgwire.MsgFlush, pgwire.MsgSync, pgwire.MsgFunctionCall:
			if typ == pgwire.MsgQuery && c.w.set.DisablePQExec {
				wrong = "PQexec disallowed"
				break walk
			}
		default:
			wrong = toldUnknown
			break walk
		}
		if s == nil {
			c.requestTime, c.notified = c.w.loop.Now(), false
			link := c.pl.Request(&c.pc, c.requestTime)
			if link == nil {
				break walk
			}
			s = link.Owner.(*server)
			if !c.w.link(c, s) {
				break walk
			}
		}
		v := passOn
		if c.pl.prepares && c.replication == replicationNone {
			switch typ {
			case pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgClose:
				if s.pending.failed {
					v = c.skipped(data[i:], typ, size)
					break
				}
				var used int
				out, used, v = c.rewrite(s, out, data[pos:i], data[i:], typ, size)
				switch v {
				case replaced:
					pos = i + used
				case refused:
					wrong = c.w.refusal
					break walk
				}
			}
		}
		if v == needMore {
			break
		}
		if v == passOn {
			s.noteSent(typ)
		}
		i += size
		c.drop = false
		if i > len(data) {
			c.remain = i - len(data)
			i = len(data)
		}
	}
	c.pl.stats.received += uint64(i)
	if s != nil {
		// Before anything else: it is in the books as sent.
		if len(out) > 0 {
			out = append(out, data[pos:i]...)
			s.write(out)
			c.w.out = reuse(out)
		} else {
			s.write(data[pos:i])
		}
		if wrong == "" && s.pending.fakesOnly() {
			s.forward(s.pending.takeFakes(nil))
		}
	}
	switch {
	case wrong != "":
		c.w.failClient(c, "", wrong)
		return len(data)
	case leaves:
		c.w.closeClient(c, "client close request")
		return len(data)
	}
	return i
}

// reuse gives a buffer back for the next message, unless a huge one has been put together
// in it.
func reuse(b []byte) []byte {
	if cap(b) > 4*evloop.BufferSize {
		return nil
	}
	return b[:0]
}

// noteSent keeps the books about a message on its way to the server.
func (s *server) noteSent(typ byte) {
	s.pending.sent(typ)
	s.noteWork()
}

// noteWork starts the clocks of a query and of a transaction.
func (s *server) noteWork() {
	s.lateRelease = false
	if s.queryStart == 0 {
		s.queryStart = s.w.loop.Now()
		if s.xactStart == 0 {
			s.xactStart = s.queryStart
		}
	}
}

// write sends to the server. A failed write is not the end yet: the reading side
// will have it, and often an error message of the server's before it.
func (s *server) write(b []byte) {
	if s.broken || len(b) == 0 {
		return
	}
	if err := s.send(b); err != nil {
		s.broken = true
	}
}

// mayRead tells whether what the server sends can be taken now.
func (s *server) mayRead() bool {
	return (s.cl == nil || s.cl.out == nil) && (s.w.suspended == suspendNot || s.mayFinish())
}

// Ready is the loop's call for a server's socket.
func (s *server) Ready(ev evloop.Events) {
	if s.phase == serverConnecting {
		s.connected()
		s.w.run()
		return
	}
	if ev&evloop.Writable != 0 && s.out != nil {
		done, err := s.flush()
		if err != nil {
			s.broken = true
			s.setEvents(s.ev &^ evloop.Writable)
		} else if done && s.cl != nil {
			s.cl.resume()
		}
	}
	if s.fd >= 0 && ev&(evloop.Readable|evloop.Broken|evloop.PeerClosed) != 0 {
		if s.mayRead() {
			s.read(ev&(evloop.Broken|evloop.PeerClosed) != 0)
		} else {
			s.more = true
		}
	}
	s.w.run()
}

// read takes what the server has sent; ended tells that there is an end to be found.
func (s *server) read(ended bool) {
	s.more = false
	for range s.w.set.loopCount {
		data, full, err := s.fill()
		if err != nil {
			if err != syscall.EAGAIN {
				s.w.serverLost(s, err)
			}
			return
		}
		if !full && len(data) >= pieceSize {
			s.w.loop.Piece()
		}
		used := s.process(data)
		if s.anew() {
			return
		}
		if len(data)-used >= evloop.BufferSize {
			s.w.serverLost(s, errOversized)
			return
		}
		s.keep(data, used)
		if !full && !ended {
			return
		}
		if !s.mayRead() {
			s.more = true
			return
		}
	}
	s.more = true
	s.wantRead(s) // after everybody else
}

// process handles bytes from the server and returns how many are done with.
func (s *server) process(data []byte) int {
	pos, i := 0, 0 // data[pos:i] is seen and not forwarded yet
	if s.remain > 0 {
		i = min(s.remain, len(data))
		s.remain -= i
		if s.drop {
			pos = i
		}
	}
	out := s.w.out[:0] // goes to the client before data[pos:i]
	limit := s.w.set.MaxPacketSize
	noBlocks := s.pl.mode == ini.PoolStatement && !s.ps.Dedicated()
walk:
	for i < len(data) {
		if s.phase != serverForward {
			n := s.processOwn(data[i:])
			if n == 0 || s.fd < 0 {
				break
			}
			i += n
			pos = i
			continue
		}
		typ, size, ok, err := pgwire.ParseHeader(data[i:])
		if err != nil || size > limit {
			s.w.serverGone(s, "bad pkt header", pool.Failure{Message: "bad pkt header"})
			return len(data)
		}
		if !ok {
			break
		}
		if s.pending.fakes > 0 {
			out = s.pending.takeFakes(append(out, data[pos:i]...))
			pos = i
		}
		switch typ {
		case pgwire.MsgDataRow, pgwire.MsgCopyData:
		case pgwire.MsgReadyForQuery:
			if size != readySize {
				s.w.serverLost(s, errReadySize)
				return len(data)
			}
			if size > len(data)-i {
				break walk
			}
			status := data[i+pgwire.HeaderSize]
			i += size
			if noBlocks && status != pgwire.TxIdle {
				out, pos = out[:0], i // the client hears why not
			}
			if len(out) > 0 {
				out = append(out, data[pos:i]...)
				s.forward(out)
				s.w.out, out = reuse(out), out[:0]
			} else {
				s.forward(data[pos:i])
			}
			pos = i
			s.readyForQuery(status)
			if s.fd < 0 || s.ps.State() == pool.ServerGone {
				return len(data)
			}
			continue
		case pgwire.MsgParameterStatus:
			if size > len(data)-i {
				break walk
			}
			s.parameterStatus(data[i+pgwire.HeaderSize:i+size], s.cl)
		case pgwire.MsgErrorResponse:
			s.dirty = s.dirty || s.cl == nil && !s.rescued
			s.pending.error(s)
		case pgwire.MsgNoticeResponse:
			s.dirty = s.dirty || s.cl == nil && !s.rescued
		case pgwire.MsgCommandComplete:
			if noBlocks && i+size == len(data) && s.cl != nil && !s.pending.open {
				break walk // until it is known what status follows
			}
			if s.pl.readsTags {
				if size > len(data)-i {
					break walk
				}
				s.tag(data[i+pgwire.HeaderSize : i+size])
			}
			s.pending.answered(typ)
		default:
			if s.pending.answered(typ) {
				if size > len(data)-i {
					s.w.serverLost(s, errOversized)
					return len(data)
				}
				out = append(out, data[pos:i]...)
				i += size
				pos = i
				continue
			}
		}
		i += size
		s.drop = s.cl == nil
		if i > len(data) {
			s.remain = i - len(data)
			i = len(data)
		}
	}
	if s.pending.fakesOnly() {
		out = s.pending.takeFakes(append(out, data[pos:i]...))
		pos = i
	}
	if len(out) > 0 {
		out = append(out, data[pos:i]...)
		s.forward(out)
		s.w.out = reuse(out)
	} else {
		s.forward(data[pos:i])
	}
	if s.rescued {
		s.rescueGoOn()
	}
	if s.dirty && s.cl == nil && s.fd >= 0 {
		// Free servers have nothing to say but that they end.
		s.w.closeDirty(s)
		return len(data)
	}
	return i
}

// forward sends bytes to the server's client; without one they are dropped.
func (s *server) forward(b []byte) {
	c := s.cl
	if c == nil || len(b) == 0 {
		return
	}
	s.pl.stats.sent += uint64(len(b))
	if err := c.send(b); err != nil {
		s.w.closeClient(c, "write to client: "+err.Error())
	}
}

// readyForQuery: the point where a server may be released.
func (s *server) readyForQuery(status byte) {
	now := s.w.loop.Now()
	s.pending.ready(s)
	s.status = status
	st := &s.pl.stats
	if s.queryStart != 0 {
		st.queries++
		st.queryTime += now - s.queryStart
		s.pl.events.queries.observe(now - s.queryStart)
		s.queryStart = 0
	}
	if !s.pending.empty() {
		s.queryStart = now
	}
	if status == pgwire.TxIdle {
		if s.xactStart != 0 {
			st.xacts++
			st.xactTime += now - s.xactStart
			s.pl.events.xacts.observe(now - s.xactStart)
		}
		s.xactStart = s.queryStart
		s.idleStart = 0
	} else {
		s.idleStart = now
	}
	c := s.cl
	if c == nil {
		if s.rescued && s.pending.empty() {
			s.rescueDone()
		}
		return
	}
	if s.ps.Dedicated() {
		return
	}
	switch s.pl.mode {
	case ini.PoolSession:
		if s.w.set.ServerFastClose && s.ps.CloseNeeded() && status == pgwire.TxIdle && s.pending.empty() {
			s.pl.KillLink(s.ps, pool.Failure{Message: "obsolete connection"}, now)
		}
	case ini.PoolStatement:
		if status != pgwire.TxIdle {
			s.pl.KillLink(s.ps, pool.Failure{Message: "transaction blocks not allowed in statement pooling mode"}, now)
			return
		}
		fallthrough
	default:
		if status != pgwire.TxIdle || !s.pending.empty() {
			return
		}
		// A failed COPY ends before its data does. The server must get the message
		// that it has a part of whole, or it would take the next client's for the rest.
		if c.remain > 0 && !c.drop {
			s.lateRelease = true
			return
		}
		s.release()
	}
}

// release gives the server back to the pool.
func (s *server) release() {
	s.lateRelease = false
	s.guard()
	s.unlink()
	s.pl.Release(s.ps, s.w.loop.Now())
}

// clean tells that the server can be given to somebody else.
func (s *server) clean() bool {
	return s.phase == serverForward && s.pending.empty() && s.status == pgwire.TxIdle && s.remain == 0 && s.out == nil && !s.broken
}

// unlink parts a server from its client, which keeps its own unsent bytes.
func (s *server) unlink() {
	c := s.cl
	if c == nil {
		return
	}
	s.cl, c.srv = nil, nil
	// The server may have waited for this client to take its bytes.
	s.wantRead(s)
	if c.mayRead() {
		c.wantRead(c)
	}
}
