// One client connection: its states, how it is told of errors, how it ends.

package pooler

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"goworkers/internal/pooler/evloop"
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// clientPhase is what the client's next bytes mean.
type clientPhase uint8

const (
	phaseStartup clientPhase = iota // an opening packet
	phaseTLS                        // a goroutine makes the handshake
	phaseAuth                       // an answer to our request for a password
	phaseBusy                       // a goroutine checks a password
	phaseWelcome                    // login waits for the pool's first server
	phaseActive                     // requests
	phaseConsole                    // console commands
	phaseCancel                     // a cancel request is on its way
	phaseLinger                     // closed, but for bytes that it has not taken yet
)

// client is one client connection. There are many: fields that only a login needs
// live in login, which is dropped after it.
type client struct {
	conn
	pc          pool.Client
	srv         *server
	pl          *dbPool
	vars        vars
	names       names           // prepared statements
	lapsed      map[string]bool // of names, those that can be given anew: the server did not do their Parse
	login       *clientLogin
	console     *console
	user        *user
	key         pgwire.CancelKey
	phase       clientPhase
	replication replication
	counted     bool // in max_client_conn
	unix        bool
	told        bool // knows why it is closed
	cut         bool // has a part of a message whose rest will not come
	notified    bool // knows that it waits for a server
	leaked      bool // has been told in the log to leave session state behind
	id          uint64
	addr        netip.AddrPort
	since       time.Duration // connected
	requestTime time.Duration // asked for the server that it has or waits for
}

// logConn is the client as the log names it.
func (c *client) logConn() logConn {
	db, user := "(nodb)", "(nouser)"
	switch {
	case c.login != nil:
		if c.login.dbName != "" {
			db = c.login.dbName
		}
		if c.login.user != "" {
			user = c.login.user
		}
	default:
		if c.pl != nil {
			db = c.pl.db.name
		} else if c.console != nil {
			db = consoleName
		}
		if c.user != nil {
			user = c.user.name
		}
	}
	end := netEnd{addr: c.addr, port: c.w.set.ListenPort}
	if c.unix && c.fd >= 0 {
		if cred, err := syscall.GetsockoptUcred(int(c.fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			end.pid = cred.Pid
		}
	}
	return logConn{kind: 'C', id: c.id, db: db, user: user, end: end}
}

// about begins a log entry about the client.
func (c *client) about() *logrus.Entry { return c.w.about(c.logConn()) }

// amidMessage tells that the client's server has a part of a message whose rest the
// client has not sent.
func (c *client) amidMessage() bool { return c.remain > 0 && !c.drop }

// logError tells the log of an error that the client is told of.
func (c *client) logError(why string) {
	if c.w.set.LogPoolerErrors {
		c.about().WithField(fieldReason, why).Warn("pooler error: " + why)
	}
}

// failClient tells the client why, and closes it. code is the SQLSTATE, "" = 08P01.
func (w *worker) failClient(c *client, code, why string) {
	if c.fd < 0 || c.phase == phaseLinger {
		return
	}
	if code == "" {
		code = pgwire.CodeProtocolViolation
	}
	c.logError(why)
	w.countError(c)
	// Within a message the client would take it for data, and within a handshake for nothing.
	if !c.cut && c.phase != phaseTLS {
		var out []byte
		if l := c.login; l != nil {
			out = l.answer[:len(l.answer)-l.granted]
		}
		c.send(pgwire.AppendFatal(out, code, why))
		c.told = true
	}
	w.closeClient(c, why)
}

// closeClient ends a client. Bytes that it has not taken yet are still written.
func (w *worker) closeClient(c *client, reason string) {
	if c.fd < 0 {
		return
	}
	if c.phase == phaseLinger {
		delete(w.linger, c)
		c.shut()
		return
	}
	if w.set.LogDisconnections {
		w.closed(c.logConn(), reason, w.loop.Now()-c.since)
	}
	if s := c.srv; s != nil {
		clean := s.clean() && !c.amidMessage()
		rescue := !clean && s.rescuable(c)
		s.broken = s.broken || c.amidMessage() // nothing more is to be written
		s.unlink()
		if rescue {
			s.pl.ClientGoneRescue(&c.pc, w.loop.Now())
		} else {
			s.pl.ClientGone(&c.pc, clean, w.loop.Now())
		}
	} else if c.pl != nil {
		c.pl.ClientGone(&c.pc, true, w.loop.Now())
	}
	if c.login != nil && c.login.question != nil {
		c.login.question.abandon()
	}
	w.changed = true
	c.names.clear(&w.statements)
	w.uncount(c)
	delete(w.clients, c)
	delete(w.logins, c)
	w.keys.take(c)
	if c.console != nil {
		c.console.gone()
	}
	if c.phase <= phaseTLS || c.out == nil && !c.unread() {
		c.shut()
		return
	}
	c.phase, c.since = phaseLinger, w.loop.Now()
	w.linger[c] = struct{}{}
	if c.out != nil {
		c.setEvents(evloop.Writable)
		return
	}
	c.hangUp()
}

// unread tells that a client was told why it is closed while it has sent more than was
// read: closing now would have the system throw both away.
func (c *client) unread() bool {
	if !c.told || c.fd < 0 {
		return false
	}
	n, err := unix.IoctlGetInt(int(c.fd), unix.TIOCINQ)
	return err == nil && n > 0 || c.held != nil
}

// hangUp ends our side of a lingering client's connection; what it sends until it has
// read that goes nowhere.
func (c *client) hangUp() {
	if c.tls != nil {
		evloop.Write(int(c.fd), c.tls.CloseNotify(nil))
	}
	syscall.Shutdown(int(c.fd), syscall.SHUT_WR)
	c.setEvents(evloop.Readable)
}

// drain throws away what a lingering client still sends, up to its end, once it has all
// that it is to have.
func (c *client) drain() {
	if c.out != nil {
		c.setEvents(c.ev &^ evloop.Readable)
		return
	}
	for range c.w.set.loopCount {
		n, err := evloop.Read(int(c.fd), c.w.loop.Buffer())
		if err == syscall.EAGAIN {
			return
		}
		if n == 0 || err != nil {
			c.w.closeClient(c, "")
			return
		}
	}
}

// uncount takes a client out of the limits.
func (p *Pooler) uncount(c *client) {
	if c.counted {
		c.counted = false
		p.clientCount.Add(-1)
	}
	if c.pl != nil {
		c.pl.db.clients.Add(-1)
		if c.user != nil {
			c.user.clients.Add(-1)
		}
	}
	c.pl = nil
}

// moveTo brings a client, whose login is over, to its pool's loop, and calls then there.
// It goes at the end of the turn: who called this may still have something to do with it.
func (c *client) moveTo(w *worker, then func()) {
	from := c.w
	if from == w {
		then()
		return
	}
	from.loop.Post(func() {
		if c.fd < 0 {
			return
		}
		if !c.parked {
			from.loop.Remove(int(c.fd))
		}
		delete(from.clients, c)
		delete(from.logins, c)
		c.w = w
		w.loop.Post(func() {
			if !c.parked {
				if err := w.loop.Add(int(c.fd), c.ev, c); err != nil {
					w.log.WithError(err).Error("cannot watch a client")
				}
			}
			w.clients[c] = struct{}{}
			w.logins[c] = struct{}{}
			then()
			w.run()
		})
	})
}
