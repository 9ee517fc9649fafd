// What the tags of commands tell: which session state comes and goes.
// Manual: "Message Formats", CommandComplete.

package pooler

import (
	"goworkers/internal/pooler/ini"
	"goworkers/pgwire"
)

// session is the state that a client has left on its server, as far as tags tell. A SET of
// a tracked parameter to the value that it has already looks like any other SET.
type session struct {
	block     bool   // within a transaction block
	savepoint bool   // that has savepoints: ROLLBACK may mean one of them
	sets      int    // SETs outside blocks, without those that were reported as tracked
	left      string // a command that leaves something behind
}

// tag looks at the tag of a command that a server has done.
func (s *server) tag(body []byte) {
	tag, err := pgwire.ParseCommandComplete(body)
	if err != nil {
		return
	}
	switch string(tag) {
	case "DISCARD ALL":
		s.session = session{}
		s.discarded()
		s.vars = s.w.tracked.forget(s.vars, s.pl.told, "")
	case "RESET":
		s.vars = s.w.tracked.forget(s.vars, s.pl.told, unsureValue)
	case "DEALLOCATE ALL":
		s.discarded()
	case "BEGIN", "START TRANSACTION":
		s.session.block = true
	case "SAVEPOINT":
		s.session.savepoint = true
	case "ROLLBACK":
		s.session.block = s.session.block && s.session.savepoint
	case "COMMIT", "PREPARE TRANSACTION":
		s.session.block, s.session.savepoint = false, false
	case "SET":
		// Within a block it may be SET LOCAL.
		if !s.session.block {
			s.session.sets++
		}
	case "DECLARE CURSOR":
		if !s.session.block {
			s.session.left = "DECLARE CURSOR"
		}
	case "LISTEN":
		s.session.left = "LISTEN"
	case "PREPARE":
		s.session.left = "PREPARE"
	case "LOAD":
		s.session.left = "LOAD"
	}
}

// reported notes that the server has told the value of a tracked parameter: that
// follows its client, so the SET before it leaves nothing behind.
func (s *server) reported() {
	if s.session.sets > 0 {
		s.session.sets--
	}
}

// guard does what session_state_guard says when a client leaves state on a server that
// others get. The client may have left already.
func (s *server) guard() {
	left := s.session.left
	if left == "" && s.session.sets > 0 {
		left = "SET"
	}
	s.session = session{}
	how := s.w.set.SessionStateGuard
	if left == "" || how == ini.LeakIgnore || s.pl.mode == ini.PoolSession {
		return
	}
	if c := s.cl; c != nil && !c.leaked {
		c.leaked = true
		c.about().Warn("session state left behind by " + left + ": other clients of this pool may meet it")
	}
	switch {
	case how == ini.LeakReset && s.w.set.ServerResetQuery != "":
		s.ps.RequireReset()
	case how != ini.LeakLog:
		s.ps.RequireClose("session state left behind by " + left)
	}
}
