// SUSPEND: everything stands still, so that another process can take it over.

package pooler

import (
	"strings"
	"time"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// suspension is how much stands still. Listeners rest, no client gets a server and
// nothing is opened; what the pooler itself has asked of servers goes on to its end.
type suspension uint8

const (
	suspendNot suspension = iota
	// suspendFlush: messages that have begun to pass are brought to their end, and what
	// was kept is written; then nothing is read. For those who take over sockets alone.
	suspendFlush
	// suspendStop: nothing is read at all. For those who take over what we keep as well.
	suspendStop
)

// suspend begins a suspension for a console, whose leaving ends it.
func (p *Pooler) suspend(how suspension, k *console) {
	p.alone(func() {
		p.suspended, p.suspendedAt, p.suspender = how, p.now(), k
		for _, l := range p.listeners {
			p.main.loop.Modify(l.fd, 0)
		}
		p.eachPool(func(pl *dbPool) { pl.Suspend(pl.w.loop.Now()) })
		p.carryOutAll()
	})
}

// unsuspend has everything go on.
func (p *Pooler) unsuspend() {
	if p.suspended == suspendNot {
		return
	}
	p.alone(func() {
		p.suspended, p.suspender = suspendNot, nil
		if p.acceptAgain == 0 {
			for _, l := range p.listeners {
				p.main.loop.Modify(l.fd, evloop.Readable)
			}
		}
		p.eachPool(func(pl *dbPool) {
			pl.Unsuspend(pl.w.loop.Now())
			pl.EachServer(func(ps *pool.Server) {
				if s, ok := ps.Owner.(*server); ok && s.phase == serverForward && s.mayRead() {
					s.wantRead(s)
				}
			})
		})
		p.eachClient(func(c *client) {
			if c.phase == phaseActive {
				c.resume()
			}
		})
		p.carryOutAll()
	})
}

// mayFinish tells whether a client is read in spite of a suspension: for the rest of
// a message.
func (c *client) mayFinish() bool {
	switch {
	case c.phase != phaseActive:
		return true
	case c.w.suspended == suspendStop:
		return false
	}
	return c.remain > 0 || c.held != nil && c.srv != nil
}

// mayFinish tells the same of a server.
func (s *server) mayFinish() bool {
	return s.phase != serverForward || s.rescued || s.w.suspended == suspendFlush && (s.remain > 0 || s.held != nil)
}

// missing is how many bytes a message that has begun lacks, as far as one can tell; 0
// when that is not known.
func (c *conn) missing() int {
	switch {
	case c.tls != nil:
		return 0 // what passes is not what is read
	case c.remain > 0:
		return c.remain
	case c.held == nil:
		return 0
	}
	n := c.held.Len()
	if n < pgwire.HeaderSize {
		return pgwire.HeaderSize - n
	}
	_, size, ok, err := pgwire.ParseHeader(c.held.Bytes())
	if !ok || err != nil {
		return 0
	}
	return max(0, size-n)
}

// between tells that a connection is between two messages with nothing kept.
func (c *conn) between() bool { return c.remain == 0 && c.held == nil && c.out == nil }

// flushed tells that a client and its server are between messages, so that their sockets
// are all there is of them. What a client sends while it waits is not counted.
func (c *client) flushed() bool {
	if c.srv == nil {
		return c.out == nil && c.remain == 0
	}
	return c.between() && c.srv.between()
}

// resting tells that the suspension is complete; it is for use within alone.
func (p *Pooler) resting() bool {
	for _, w := range p.workers {
		if len(w.carriers) > 0 {
			return false
		}
	}
	rests := true
	p.eachPool(func(pl *dbPool) {
		pl.EachServer(func(ps *pool.Server) {
			s, ok := ps.Owner.(*server)
			rests = rests && (!ok || ps.State() == pool.ServerLogin || !s.works())
		})
	})
	if p.suspended == suspendFlush {
		p.eachClient(func(c *client) { rests = rests && (c.phase != phaseActive || c.flushed()) })
	}
	return rests
}

// works tells that a server does something of the pooler's own that cannot be left.
func (s *server) works() bool {
	switch s.ps.State() {
	case pool.ServerTested, pool.ServerCanceled:
		return true
	}
	return s.phase == serverAuthQuery || s.phase == serverVars && s.w.suspended == suspendFlush
}

// sweepSuspended ends what keeps a suspension from being complete for too long; it is for
// use within alone.
func (p *Pooler) sweepSuspended(now time.Duration) {
	if limit := p.set.SuspendTimeout; limit <= 0 || now-p.suspendedAt < limit || p.resting() {
		return
	}
	const why = "suspend_timeout"
	if p.suspended == suspendFlush {
		p.eachClient(func(c *client) {
			if c.phase == phaseActive && (!c.flushed() || c.srv != nil && c.srv.works()) {
				c.w.failClient(c, "", why)
			}
		})
	}
	for _, w := range p.workers {
		for r := range w.carriers {
			if r.sent {
				r.cancel.Server.RequireClose(why)
			}
			r.done()
		}
	}
	var late []*server
	p.eachPool(func(pl *dbPool) {
		pl.EachServer(func(ps *pool.Server) {
			if s, ok := ps.Owner.(*server); ok && ps.State() != pool.ServerLogin && s.works() {
				late = append(late, s)
			}
		})
	})
	for _, s := range late {
		if s.ps.State() == pool.ServerGone {
			continue
		}
		s.w.closeServer(s, why)
		s.pl.ServerLost(s.ps, pool.Failure{Message: why}, s.w.loop.Now())
	}
	p.carryOutAll()
}

// suspend is SUSPEND, and SUSPEND EXTENDED for a process that takes over what we keep as
// well as the sockets.
func (k *console) suspend(arg string, invalid error) error {
	p := k.p()
	how := suspendFlush
	switch {
	case strings.EqualFold(arg, wordExtended):
		how = suspendStop
	case arg != "":
		return invalid
	}
	switch {
	case p.closing != closingNot:
		return refuse("pooler is shutting down")
	case p.suspended != suspendNot || p.paused && how == suspendFlush:
		return refuse("already suspended/paused")
	}
	p.suspend(how, k)
	k.done = p.resting
	k.undo = p.unsuspend
	return nil
}
