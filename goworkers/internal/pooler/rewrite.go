// What a client says about prepared statements, put into the words that all servers
// know. Manual: "Extended Query", protocol-flow.html.

package pooler

import (
	"bytes"
	"fmt"
	"slices"

	"goworkers/internal/pooler/evloop"
	"goworkers/pgwire"
)

// verdict is what became of a message about a prepared statement.
type verdict uint8

const (
	passOn   verdict = iota // it goes to the server as it is
	replaced                // its beginning is: what goes in its place is appended
	needMore                // too little of it is there
	refused                 // the client is to be closed: see worker.refusal
)

// maxNames bounds the names at the head of a Bind that is read before its rest.
const maxNames = evloop.BufferSize / 4

// What clients are told; monitoring knows the words.
const (
	toldNoStatement = "prepared statement did not exist"
	toldNameInUse   = "prepared statement name is already in use"
	toldBadPacket   = "failed to parse packet"
	toldBadParse    = "broken Parse packet"
	toldUnknown     = "unknown pkt"
)

// rewrite handles a Parse, Bind, Describe or Close of which msg is what is there, size
// what is to come in all. When it is replaced, before is appended to out, then what the
// server gets in place of its first used bytes.
func (c *client) rewrite(s *server, out, before, msg []byte, typ byte, size int) (_ []byte, used int, v verdict) {
	body := msg[pgwire.HeaderSize:min(len(msg), size)]
	whole := len(msg) >= size
	switch typ {
	case pgwire.MsgBind:
		portal, name, head, ok := pgwire.BindNames(body)
		if !ok {
			if whole || len(body) > maxNames {
				return out, 0, c.refuse(toldBadPacket)
			}
			return out, 0, needMore
		}
		if len(name) == 0 {
			return out, 0, passOn
		}
		st := c.names[string(name)]
		if st == nil {
			return out, 0, c.refuse(toldNoStatement)
		}
		out = c.ensure(s, append(out, before...), st)
		s.noteSent(typ)
		c.pl.stats.binds++
		return pgwire.AppendBindHead(out, portal, st.name, size-pgwire.HeaderSize-head), pgwire.HeaderSize + head, replaced

	case pgwire.MsgParse:
		if len(body) > 0 && body[0] == 0 {
			return out, 0, passOn
		}
		if !whole {
			return out, 0, needMore
		}
		parse, err := pgwire.ParseParse(body)
		if bytes.IndexByte(body, 0) < 0 {
			return out, 0, c.refuse(toldBadPacket)
		}
		if err != nil {
			return out, 0, c.refuse(toldBadParse)
		}
		name := string(parse.Name)
		prev := c.names[name]
		if c.lapsed[name] {
			prev = nil // if this one is passed over as well, the name lapses again
		}
		// What runs may be DEALLOCATE ALL: only its answer will tell.
		if prev != nil && s.pending.running == 0 {
			return out, 0, c.refuse(toldNameInUse)
		}
		delete(c.lapsed, name)
		out = append(out, before...)
		st := c.learns(name, body)
		s.noteWork()
		if s.prepared.use(st) {
			if s.pending.running == 0 {
				s.pending.sentNamed(namedRequest{fakeParse, st, name, prev})
				return out, size, replaced
			}
			out = pgwire.AppendClose(out, pgwire.TargetStatement, st.name)
			s.pending.sentNamed(namedRequest{kind: reqEvict, st: st})
		}
		out = s.prepare(out, namedRequest{reqParse, st, name, prev})
		return out, size, replaced

	default: // Describe, Close
		if len(body) > 0 && body[0] != pgwire.TargetStatement {
			return out, 0, passOn
		}
		if !whole {
			return out, 0, needMore
		}
		_, name, err := pgwire.ParseTarget(body)
		if err != nil {
			return out, 0, c.refuse(toldBadPacket)
		}
		if len(name) == 0 {
			return out, 0, passOn
		}
		st := c.names[string(name)]
		if typ == pgwire.MsgClose {
			// The server keeps it for others.
			out = append(out, before...)
			s.noteWork()
			s.pending.sentNamed(namedRequest{fakeClose, st, string(name), st})
			c.names.forget(&c.w.statements, string(name))
			delete(c.lapsed, string(name))
			return out, size, replaced
		}
		if st == nil {
			return out, 0, c.refuse(toldNoStatement)
		}
		out = c.ensure(s, append(out, before...), st)
		s.noteSent(typ)
		return pgwire.AppendDescribe(out, pgwire.TargetStatement, st.name), size, replaced
	}
}

// skipped looks at a message of which the server has said already that it will pass over
// it; it goes there as it is. A Parse is known afterwards as if it had been sent before the
// error came: the client cannot tell the difference. See rewrite for the arguments.
func (c *client) skipped(msg []byte, typ byte, size int) verdict {
	body := msg[pgwire.HeaderSize:min(len(msg), size)]
	if typ != pgwire.MsgParse || len(body) > 0 && body[0] == 0 {
		return passOn
	}
	if len(msg) < size {
		return needMore
	}
	parse, err := pgwire.ParseParse(body)
	if err != nil {
		return passOn
	}
	name := string(parse.Name)
	if c.names[name] != nil && !c.lapsed[name] {
		return passOn
	}
	c.learns(name, body)
	c.lapse(name)
	return passOn
}

// learns gives a client's name the text of a Parse's body.
func (c *client) learns(name string, body []byte) *statement {
	ss := &c.w.statements
	st := ss.get(body[len(name)+1:])
	c.names.set(ss, name, st)
	ss.drop(st) // get's own reference
	c.pl.stats.clientParses++
	return st
}

// lapse notes that no server has heard of a name. It can be used all the same: the server
// is then told the text again. And it can be given anew.
func (c *client) lapse(name string) {
	if c.lapsed == nil {
		c.lapsed = map[string]bool{}
	}
	c.lapsed[name] = true
}

// badHeader is what a client is told whose messages cannot be told apart any more.
func badHeader(header []byte) string { return fmt.Sprintf("bad packet header: '%x'", header) }

// refuse keeps why the client is to be closed, once what it sent before is on its way.
func (c *client) refuse(why string) verdict {
	c.w.refusal = why
	return refused
}

// ensure has the server prepare a statement that it does not have.
func (c *client) ensure(s *server, out []byte, st *statement) []byte {
	if s.prepared.use(st) {
		return out
	}
	return s.prepare(out, namedRequest{kind: reqInject, st: st})
}

// prepare appends a Parse, and a Close of what has not been used for longest when the
// server has enough.
func (s *server) prepare(out []byte, n namedRequest) []byte {
	st := n.st
	for s.prepared.len() >= s.w.set.MaxPreparedStatements && !s.prepared.use(st) {
		old := s.prepared.oldest.st
		out = pgwire.AppendClose(out, pgwire.TargetStatement, old.name)
		s.pending.sentNamed(namedRequest{kind: reqEvict, st: old})
		s.prepared.remove(&s.w.statements, old)
	}
	s.pl.stats.serverParses++
	s.prepared.add(st)
	s.pending.sentNamed(n)
	out = pgwire.AppendHeader(out, pgwire.MsgParse, len(st.name)+1+len(st.body))
	out = append(append(out, st.name...), 0)
	return append(out, st.body...)
}

// passedOver takes back what the server has not done of a request about a statement.
func (s *server) passedOver(n namedRequest) {
	ss := &s.w.statements
	switch n.kind {
	case reqParse, reqInject:
		s.prepared.remove(ss, n.st)
	case reqEvict:
		if n.st != nil {
			s.prepared.add(n.st)
		}
	}
	c := s.cl
	if c == nil || n.name == "" {
		return
	}
	if n.prev != nil {
		c.names.set(ss, n.name, n.prev)
		return
	}
	c.lapse(n.name)
}

// discarded notes that the server has forgotten all its statements, but for those that
// it has yet to prepare.
func (s *server) discarded() {
	ss := &s.w.statements
	pending := s.pending.named[s.pending.first:]
	coming := slices.Clone(pending)
	for i, n := range coming {
		if n.st != nil {
			n.st.refs++
		}
		if n.kind == reqEvict {
			pending[i].st = nil // it is not there any more, closed or not
		}
	}
	s.prepared.clear(ss)
	c := s.cl
	if c != nil {
		c.names.clear(ss)
		c.lapsed = nil
	}
	for _, n := range coming {
		switch n.kind {
		case reqParse, reqInject:
			s.prepared.add(n.st)
		}
		if c != nil && n.kind == reqParse {
			c.names.set(ss, n.name, n.st)
		}
		if n.st != nil {
			ss.drop(n.st)
		}
	}
}
