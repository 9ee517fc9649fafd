// What a server still owes: a queue of the messages that it was sent and has not
// answered, kept from message types alone. Manual: "Message Flow", protocol-flow.html.

package pooler

import "goworkers/pgwire"

// Kinds of requests beside the types of the clients' messages: those about prepared
// statements that all clients share. Each has an entry in requests.named.
const (
	reqParse  byte = 0x80 + iota // a client's Parse, under the shared name
	reqInject                    // our own Parse: its answer is not for the client
	reqEvict                     // our own Close: neither is this one's
	fakeParse                    // answered by us, when its turn comes
	fakeClose
)

// namedRequest is what a request about a prepared statement means, so that it can be
// taken back when the server passes over it.
type namedRequest struct {
	kind byte
	st   *statement
	name string     // the client's, or "" when it does not matter to the client
	prev *statement // what the name meant before
}

// undoer takes requests back that a server has passed over.
type undoer interface {
	passedOver(namedRequest)
}

// requests is the queue of one server, a byte a message. Its zero value is empty.
type requests struct {
	queue   []byte
	head    int
	named   []namedRequest // of those in the queue that are about a statement, in order,
	first   int            // from here
	fakes   int            // in the queue
	running int            // in the queue: what may run any SQL (Query, Execute, FunctionCall)
	copying bool           // the server takes CopyData
	open    bool           // extended messages without a Sync behind them: a transaction may run
	failed  bool           // the server passes over everything up to the next Sync
}

// empty tells that nothing is outstanding: the next ReadyForQuery is somebody else's.
func (r *requests) empty() bool { return r.answeredAll() && !r.open }

func (r *requests) answeredAll() bool { return r.head == len(r.queue) }

func (r *requests) reset() { *r = requests{queue: r.queue[:0], named: r.named[:0]} }

func (r *requests) front() byte {
	if r.answeredAll() {
		return 0
	}
	return r.queue[r.head]
}

// pop takes the front off; n is what it was about, if it was about a statement.
func (r *requests) pop() (n namedRequest) {
	switch typ := r.queue[r.head]; {
	case typ == pgwire.MsgQuery || typ == pgwire.MsgExecute || typ == pgwire.MsgFunctionCall:
		r.running--
	case typ >= reqParse:
		n = r.named[r.first]
		r.first++
		if typ >= fakeParse {
			r.fakes--
		}
	}
	r.head++
	// CopyDone and CopyFail have no answer of their own.
	for r.front() == pgwire.MsgCopyDone || r.front() == pgwire.MsgCopyFail {
		r.head++
	}
	r.rewind()
	return n
}

// rewind takes the memory of an empty queue into use again.
func (r *requests) rewind() {
	if r.answeredAll() {
		clear(r.named)
		r.queue, r.head, r.named, r.first = r.queue[:0], 0, r.named[:0], 0
	}
}

// sent notes a message from the client.
func (r *requests) sent(typ byte) {
	switch typ {
	case pgwire.MsgSync:
		// A server that takes CopyData ignores Sync.
		if r.copying {
			return
		}
		r.open, r.failed = false, false
	case pgwire.MsgParse, pgwire.MsgBind, pgwire.MsgDescribe, pgwire.MsgExecute, pgwire.MsgClose:
		r.open = true
	case pgwire.MsgCopyDone, pgwire.MsgCopyFail:
		r.copying = false
		if r.answeredAll() {
			return
		}
	case pgwire.MsgCopyData, pgwire.MsgFlush:
		return
	}
	if r.failed {
		return
	}
	switch typ {
	case pgwire.MsgQuery, pgwire.MsgExecute, pgwire.MsgFunctionCall:
		r.running++
	}
	r.push(typ)
}

// sentNamed notes a request about a shared statement.
func (r *requests) sentNamed(n namedRequest) {
	r.open = true
	r.named = append(r.named, n)
	if n.kind >= fakeParse {
		r.fakes++
	}
	r.push(n.kind)
}

func (r *requests) push(typ byte) {
	if r.head > 4096 && r.head > len(r.queue)/2 {
		r.queue = r.queue[:copy(r.queue, r.queue[r.head:])]
		r.head = 0
	}
	r.queue = append(r.queue, typ)
}

// fakesOnly tells that the server owes nothing but answers that we give in its place.
func (r *requests) fakesOnly() bool { return r.fakes > 0 && r.fakes == len(r.queue)-r.head }

// takeFakes appends the answers that are ours to give now.
func (r *requests) takeFakes(dst []byte) []byte {
	for {
		switch r.front() {
		case fakeParse:
			dst = pgwire.AppendMessage(dst, pgwire.MsgParseComplete, nil)
		case fakeClose:
			dst = pgwire.AppendMessage(dst, pgwire.MsgCloseComplete, nil)
		default:
			return dst
		}
		r.pop()
	}
}

// answered notes a message from the server other than ErrorResponse and ReadyForQuery.
// It reports true when the message answers a request of our own.
func (r *requests) answered(typ byte) bool {
	var done byte
	switch typ {
	case pgwire.MsgParseComplete:
		switch r.front() {
		case reqParse:
			r.pop()
			return false
		case reqInject:
			r.pop()
			return true
		}
		done = pgwire.MsgParse
	case pgwire.MsgBindComplete:
		done = pgwire.MsgBind
	case pgwire.MsgCloseComplete:
		if r.front() == reqEvict {
			r.pop()
			return true
		}
		done = pgwire.MsgClose
	case pgwire.MsgRowDescription, pgwire.MsgNoData:
		done = pgwire.MsgDescribe
	case pgwire.MsgCommandComplete, pgwire.MsgEmptyQueryResponse, pgwire.MsgPortalSuspended:
		r.copying = false
		done = pgwire.MsgExecute
	case pgwire.MsgCopyInResponse:
		r.copyIn()
		return false
	default:
		return false
	}
	// A simple query is answered with some of the same messages.
	if r.front() == done {
		r.pop()
	}
	return false
}

// copyIn: the server ignores Sync from here to the end of the copy data, so those
// which the client has sent already will have no answer.
func (r *requests) copyIn() {
	r.copying = true
	kept := r.queue[:r.head]
	for i := r.head; i < len(r.queue); i++ {
		switch r.queue[i] {
		case pgwire.MsgSync:
			continue
		case pgwire.MsgCopyDone, pgwire.MsgCopyFail:
			r.copying = false
			kept = append(kept, r.queue[i:]...)
			r.queue = kept
			return
		}
		kept = append(kept, r.queue[i])
	}
	r.queue = kept
}

// error notes an ErrorResponse. After one in the extended protocol the server passes
// over everything up to the next Sync: u is told of each request about a statement that
// is passed over, the last one first.
func (r *requests) error(u undoer) {
	r.copying = false
	switch r.front() {
	case 0, pgwire.MsgQuery, pgwire.MsgFunctionCall, pgwire.MsgSync:
		return
	}
	n := 0
	for r.front() != 0 && r.front() != pgwire.MsgSync {
		if r.queue[r.head] >= reqParse {
			n++
		}
		r.head++
	}
	for i := n - 1; i >= 0; i-- {
		u.passedOver(r.named[r.first+i])
	}
	r.first += n
	r.count()
	r.failed = r.answeredAll() && r.open
	r.rewind()
}

// count works the numbers out anew from what is left in the queue.
func (r *requests) count() {
	r.fakes, r.running = 0, 0
	for _, typ := range r.queue[r.head:] {
		switch typ {
		case pgwire.MsgQuery, pgwire.MsgExecute, pgwire.MsgFunctionCall:
			r.running++
		case fakeParse, fakeClose:
			r.fakes++
		}
	}
}

// ready notes a ReadyForQuery; u is as for error.
func (r *requests) ready(u undoer) {
	if front := r.front(); front != pgwire.MsgQuery && front != pgwire.MsgFunctionCall {
		// A Sync of which we thought that a COPY would swallow it.
		r.error(u)
	}
	r.copying, r.failed = false, false
	if !r.answeredAll() {
		r.pop()
	}
	if r.answeredAll() {
		r.open = false
	}
}
