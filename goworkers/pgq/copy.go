// Events as COPY's binary format has them (manual: COPY, "Binary Format").

package pgq

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// copyPart is how many bytes of rows are made at a time.
const copyPart = 32 << 10

// copyHeader is the signature, no flags and no extension.
const copyHeader = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// postgresEpoch is where the server's timestamps count from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// eventRows gives events as rows of bulkColumns. The reader belongs to a COPY, which may
// still be at it when the COPY has failed: close waits for that.
type eventRows struct {
	mu     sync.Mutex
	next   func() (*Event, error, bool)
	now    time.Time // of events without a time
	err    error     // of the events
	buf    []byte
	done   int // bytes of buf that have been read
	ended  bool
	closed bool
}

func newEventRows(next func() (*Event, error, bool), now time.Time) *eventRows {
	return &eventRows{next: next, now: now, buf: []byte(copyHeader)}
}

// Read gives the next bytes of rows, and io.EOF behind the last one.
func (r *eventRows) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == len(r.buf) {
		r.buf, r.done = r.buf[:0], 0
	}
	for len(r.buf) < copyPart && !r.ended && !r.closed {
		ev, err, more := r.next()
		switch {
		case !more:
			r.ended = true
			r.buf = binary.BigEndian.AppendUint16(r.buf, 0xffff) // the trailer
		case err != nil:
			r.err = err
			return 0, err
		default:
			r.append(ev)
		}
	}
	if r.done == len(r.buf) {
		return 0, io.EOF
	}
	n := copy(p, r.buf[r.done:])
	r.done += n
	return n, nil
}

func (r *eventRows) append(ev *Event) {
	at := ev.Time
	if at.IsZero() {
		at = r.now
	}
	r.buf = binary.BigEndian.AppendUint16(r.buf, uint16(len(bulkColumns)))
	r.buf = binary.BigEndian.AppendUint32(r.buf, 8)
	r.buf = binary.BigEndian.AppendUint64(r.buf, uint64(at.UnixMicro()-postgresEpoch.UnixMicro()))
	for _, text := range [...]*pgtype.Text{&ev.Type, &ev.Data, &ev.Extra1, &ev.Extra2, &ev.Extra3, &ev.Extra4} {
		if !text.Valid {
			r.buf = binary.BigEndian.AppendUint32(r.buf, 0xffffffff)
			continue
		}
		r.buf = binary.BigEndian.AppendUint32(r.buf, uint32(len(text.String)))
		r.buf = append(r.buf, text.String...)
	}
}

// close waits until nobody reads, gives no more, and returns the error of the events.
func (r *eventRows) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return r.err
}
