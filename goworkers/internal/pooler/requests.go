// What a server still owes: a queue of the messages that it was sent and has not
// answered, kept from message types alone. Manual: "Message Flow", protocol-flow.html.

package pooler

import "goworkers/pgwire"

// requests is the queue of one server, a byte a message. Its zero value is empty.
type requests struct {
	queue   []byte
	head    int
	copying bool // the server takes CopyData
	open    bool // extended messages without a Sync behind them: a transaction may run
}

// empty tells that nothing is outstanding: the next ReadyForQuery is somebody else's.
func (r *requests) empty() bool { return r.answeredAll() && !r.open }

func (r *requests) answeredAll() bool { return r.head == len(r.queue) }

func (r *requests) reset() { *r = requests{queue: r.queue[:0]} }

func (r *requests) front() byte {
	if r.answeredAll() {
		return 0
	}
	return r.queue[r.head]
}

func (r *requests) pop() {
	r.head++
	// CopyDone and CopyFail have no answer of their own.
	for r.front() == pgwire.MsgCopyDone || r.front() == pgwire.MsgCopyFail {
		r.head++
	}
	if r.answeredAll() {
		r.queue, r.head = r.queue[:0], 0
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
		r.open = false
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
	if r.head > 4096 && r.head > len(r.queue)/2 {
		r.queue = r.queue[:copy(r.queue, r.queue[r.head:])]
		r.head = 0
	}
	r.queue = append(r.queue, typ)
}

// answered notes a message from the server other than ReadyForQuery.
func (r *requests) answered(typ byte) {
	var done byte
	switch typ {
	case pgwire.MsgParseComplete:
		done = pgwire.MsgParse
	case pgwire.MsgBindComplete:
		done = pgwire.MsgBind
	case pgwire.MsgCloseComplete:
		done = pgwire.MsgClose
	case pgwire.MsgRowDescription, pgwire.MsgNoData:
		done = pgwire.MsgDescribe
	case pgwire.MsgCommandComplete, pgwire.MsgEmptyQueryResponse, pgwire.MsgPortalSuspended:
		r.copying = false
		done = pgwire.MsgExecute
	case pgwire.MsgCopyInResponse:
		r.copyIn()
		return
	case pgwire.MsgErrorResponse:
		r.copying = false
		return
	default:
		return
	}
	// A simple query is answered with some of the same messages.
	if r.front() == done {
		r.pop()
	}
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

// ready notes a ReadyForQuery. After an error in the extended protocol the server
// has passed over everything up to the Sync that this answers.
func (r *requests) ready() {
	r.copying = false
	switch r.front() {
	case 0:
	case pgwire.MsgQuery, pgwire.MsgFunctionCall, pgwire.MsgSync:
		r.pop()
	default:
		for r.front() != 0 && r.front() != pgwire.MsgSync {
			r.head++
		}
		if r.answeredAll() {
			r.reset()
			return
		}
		r.pop()
	}
	if r.answeredAll() {
		r.open = false
	}
}
