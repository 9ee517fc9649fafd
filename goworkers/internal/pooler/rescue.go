// Servers of clients that have vanished in the middle of something: what they do is
// cancelled and rolled back, and they are kept.

package pooler

import (
	"time"

	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// cancelAgain is the time between two cancel requests for one lost client: the first
// may come before the query that it means.
const cancelAgain = time.Second

// rescuable tells whether a client's server can be brought back into order: it must
// know where messages begin.
func (s *server) rescuable(c *client) bool {
	return s.w.set.RescueTransactions && s.phase == serverForward && !s.broken && !c.amidMessage() &&
		!s.ps.Dedicated() && len(s.key) > 0
}

// rescue begins to end what a lost client has begun. First all that it has asked for
// comes to its end, with a cancel request; what is answered goes nowhere. Nothing is
// sent behind what still runs: a COPY that is yet to begin would take it for its data.
// If need be, a ROLLBACK is the last.
func (s *server) rescue() {
	s.rescued = true
	s.drop = true            // of a message that is under way
	s.pending.takeFakes(nil) // no message of the server's will
	busy := !s.pending.answeredAll()
	s.rescueGoOn()
	switch {
	case s.pending.open:
		s.write(pgwire.AppendMessage(nil, pgwire.MsgFlush, nil)) // or answers would stay with the server
	case s.pending.empty():
		s.rescueDone()
	}
	if busy {
		s.cancelLost()
	}
}

// rescueGoOn ends what waits for the lost client: a COPY, or extended queries without a
// Sync. Sync alone would commit these.
func (s *server) rescueGoOn() {
	switch {
	case s.pending.copying:
		s.failCopy()
	case s.pending.open && s.pending.answeredAll():
		out := pgwire.AppendMessage(nil, pgwire.MsgParse, []byte("\x00ROLLBACK\x00\x00\x00"))
		out = pgwire.AppendMessage(out, pgwire.MsgBind, make([]byte, 8))
		out = pgwire.AppendMessage(out, pgwire.MsgExecute, make([]byte, 5))
		s.write(out)
		for _, typ := range [...]byte{pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgExecute} {
			s.pending.sent(typ)
		}
		s.writeSync()
	}
}

// cancelLost has the server leave what it does for a lost client.
func (s *server) cancelLost() {
	s.rescueCancel = s.w.loop.Now()
	if k := s.pl.CancelRescue(s.ps); k != nil {
		s.w.carry(s, k, nil)
	}
}

// failCopy ends a COPY for which a lost client has no data any more.
func (s *server) failCopy() {
	extended := s.pending.front() == pgwire.MsgExecute
	s.write(pgwire.AppendMessage(nil, pgwire.MsgCopyFail, []byte("client has left\x00")))
	s.pending.sent(pgwire.MsgCopyFail)
	if extended {
		s.writeSync() // the server has ignored those that came before
	}
}

func (s *server) writeSync() {
	s.write(pgwire.AppendSync(nil))
	s.pending.sent(pgwire.MsgSync)
}

// rescueDone: all that was asked is answered.
func (s *server) rescueDone() {
	s.queryStart, s.xactStart, s.idleStart = 0, 0, 0
	switch {
	case s.status == pgwire.TxIdle:
		s.rescued = false
		s.guard()
		s.pl.Tested(s.ps, s.w.loop.Now())
	case s.rolledBack || s.broken:
		s.w.closeServer(s, "transaction of a lost client could not be ended")
		s.pl.ServerLost(s.ps, pool.Failure{Message: "server conn crashed?"}, s.w.loop.Now())
	default:
		s.rolledBack = true
		s.write(pgwire.AppendQuery(nil, "ROLLBACK"))
		s.pending.sent(pgwire.MsgQuery)
	}
}
