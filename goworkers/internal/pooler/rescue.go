// Servers of clients that have vanished in the middle of something: what they do is
// cancelled and rolled back, and they are kept.

package pooler

import (
	"goworkers/internal/pooler/pool"
	"goworkers/pgwire"
)

// rescuable tells whether a client's server can be brought back into order: it must
// know where messages begin.
func (s *server) rescuable(c *client) bool {
	return s.w.set.RescueTransactions && s.phase == serverForward && !s.broken && s.out == nil &&
		(c.remain == 0 || c.drop) && !s.ps.Dedicated() && len(s.key) > 0
}

// rescue cancels what runs, and rolls back. Sync ends an extended query that the client
// has not ended; what is answered goes nowhere.
func (s *server) rescue() {
	s.rescued = true
	s.drop = true // of a message that is under way
	busy := !s.pending.empty()
	var out []byte
	if s.pending.copying {
		out = pgwire.AppendMessage(out, pgwire.MsgCopyFail, []byte("client has left\x00"))
		s.pending.sent(pgwire.MsgCopyFail)
	}
	out = pgwire.AppendSync(out)
	s.pending.sent(pgwire.MsgSync)
	out = pgwire.AppendQuery(out, "ROLLBACK")
	s.pending.sent(pgwire.MsgQuery)
	s.write(out)
	if busy {
		if k := s.pl.CancelRescue(s.ps); k != nil {
			s.w.carry(s, k, nil)
		}
	}
}

// rescueDone: all that was asked is answered.
func (s *server) rescueDone() {
	s.rescued = false
	s.queryStart, s.xactStart, s.idleStart = 0, 0, 0
	if s.status != pgwire.TxIdle {
		s.w.closeServer(s, "transaction of a lost client could not be ended")
		s.pl.ServerLost(s.ps, pool.Failure{Message: "server conn crashed?"}, s.w.loop.Now())
		return
	}
	s.pl.Tested(s.ps, s.w.loop.Now())
}
