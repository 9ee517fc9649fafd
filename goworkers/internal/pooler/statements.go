// Prepared statements that outlive their server: in transaction and statement mode
// each text is known under one name on all servers, and clients' own names lead to it.

package pooler

import (
	"strconv"
	"sync/atomic"
)

// statement is a text that clients have prepared, with the types of its parameters.
// It lives as long as a client or a server knows it.
type statement struct {
	name []byte // on servers
	body string // of its Parse, behind the name: the text, a zero byte, the types
	refs int
}

// statements are the texts of one loop.
type statements struct {
	byBody map[string]*statement
	lastID *atomic.Uint64 // of all loops: a server may come to another one
}

// get finds a text, or takes it in. The caller owns the reference.
func (ss *statements) get(body []byte) *statement {
	if st := ss.byBody[string(body)]; st != nil {
		st.refs++
		return st
	}
	if ss.byBody == nil {
		ss.byBody = map[string]*statement{}
	}
	key := string(body)
	st := &statement{name: strconv.AppendUint([]byte("PGBOUNCER_"), ss.lastID.Add(1), 10), body: key, refs: 1}
	ss.byBody[key] = st
	return st
}

// keep takes in a text that has its name already, as far as no other one has its body.
func (ss *statements) keep(st *statement) {
	if ss.byBody == nil {
		ss.byBody = map[string]*statement{}
	}
	if ss.byBody[st.body] == nil {
		ss.byBody[st.body] = st
	}
}

// drop gives a reference back.
func (ss *statements) drop(st *statement) {
	st.refs--
	if st.refs == 0 && ss.byBody[st.body] == st {
		delete(ss.byBody, st.body)
	}
}

// names is what a client has prepared: its own names. The zero value is empty.
type names map[string]*statement

func (n *names) set(ss *statements, name string, st *statement) {
	if *n == nil {
		*n = names{}
	}
	n.forget(ss, name)
	st.refs++
	(*n)[name] = st
}

func (n *names) forget(ss *statements, name string) {
	if st := (*n)[name]; st != nil {
		delete(*n, name)
		ss.drop(st)
	}
}

func (n *names) clear(ss *statements) {
	for _, st := range *n {
		ss.drop(st)
	}
	*n = nil
}

// prepared is what a server has, the last used first. Its zero value is empty.
type prepared struct {
	byStatement map[*statement]*preparedEntry
	newest      *preparedEntry
	oldest      *preparedEntry
}

type preparedEntry struct {
	st           *statement
	newer, older *preparedEntry
}

func (p *prepared) len() int { return len(p.byStatement) }

// use tells whether the server has a statement, which then counts as used now.
func (p *prepared) use(st *statement) bool {
	e := p.byStatement[st]
	if e == nil {
		return false
	}
	if e != p.newest {
		p.unchain(e)
		p.chain(e)
	}
	return true
}

// add notes that the server gets a statement.
func (p *prepared) add(st *statement) {
	if p.byStatement == nil {
		p.byStatement = map[*statement]*preparedEntry{}
	}
	if p.use(st) {
		return
	}
	st.refs++
	e := &preparedEntry{st: st}
	p.byStatement[st] = e
	p.chain(e)
}

func (p *prepared) chain(e *preparedEntry) {
	e.older, e.newer = p.newest, nil
	if p.newest != nil {
		p.newest.newer = e
	} else {
		p.oldest = e
	}
	p.newest = e
}

func (p *prepared) unchain(e *preparedEntry) {
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		p.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		p.oldest = e.newer
	}
}

// remove notes that the server has a statement no more.
func (p *prepared) remove(ss *statements, st *statement) {
	if e := p.byStatement[st]; e != nil {
		p.unchain(e)
		delete(p.byStatement, st)
		ss.drop(st)
	}
}

func (p *prepared) clear(ss *statements) {
	for st := range p.byStatement {
		ss.drop(st)
	}
	*p = prepared{}
}
