// Reading a batch in small parts.

package pgq

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"strings"

	"github.com/jackc/pgx/v5"
)

// cursorName is the name on the server. One transaction reads one batch.
const cursorName = "pgq_batch"

const getBatchCursorSQL = `select ` + eventColumns + ` from pgq.get_batch_cursor($1, $2, $3, $4)`

// firstFetch is how many events are fetched when nothing is known of their size.
const firstFetch = 32

// Portion says how much of a batch is held in memory at a time.
type Portion struct {
	// Events is how many at most; 0 is the whole batch.
	Events int
	// Bytes is how many bytes their texts may have together. An event that has more
	// comes alone. 0 is no limit.
	Bytes int64
}

// BatchEvents reads the events of a batch by id, through a cursor that lives in tx,
// so that no more than a portion of them is held at a time. Between two events tx is
// free for other work. The sequence can be read once. where, unless empty, is an SQL
// condition over the ev_ columns that chooses among the events, such as FromTables
// makes. It is SQL of the program's author: never build it from what others wrote.
//
// A portion whose events turn out to be too big is given as far as it fits; what has
// come of it beyond is dropped, and read again through another cursor behind the last
// event. Further portions have fewer events then, so that it happens rarely.
//
// The texts of an event lie in one piece of memory: strings.Clone what shall outlive
// the rest.
func BatchEvents(ctx context.Context, tx pgx.Tx, batch int64, portion Portion, where string) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		fail := func(err error) { yield(nil, wrap(err, "read the events of batch %d", batch)) }
		if portion.Events < 0 || portion.Events > math.MaxInt32 || portion.Bytes < 0 {
			fail(fmt.Errorf("cannot read %d events and %d bytes at a time", portion.Events, portion.Bytes))
			return
		}
		pace := newPace(portion)
		var got fetched
		var open bool
		var last int64 // event that was given
		for begun := false; ; begun = true {
			asked := pace.next
			sql, args := fmt.Sprintf(`fetch %d from %s`, asked, cursorName), []any(nil)
			if !open {
				sql, args = getBatchCursorSQL, []any{batch, cursorName, asked, behind(begun, last, where)}
			}
			err := got.fetch(ctx, tx, portion.Bytes, sql, args)
			if err != nil {
				fail(err)
				return
			}
			open = !got.cut
			if got.cut {
				if err := closeCursor(ctx, tx); err != nil {
					fail(err)
					return
				}
			}
			for i, ev := range got.events {
				got.events[i] = nil // it is the reader's now
				if !yield(ev, nil) {
					if open {
						_ = closeCursor(ctx, tx) // the transaction's end closes it, too
					}
					return
				}
				last = ev.ID
			}
			if open && len(got.events) < asked {
				if err := closeCursor(ctx, tx); err != nil {
					fail(err)
				}
				return
			}
			pace.after(&got)
		}
	}
}

// behind makes the condition of a cursor: all events, or those behind the last one.
func behind(begun bool, last int64, where string) *string {
	switch {
	case begun && where != "":
		where = fmt.Sprintf("ev_id > %d and (\n%s\n)", last, where) // it may end with a comment
	case begun:
		where = fmt.Sprintf("ev_id > %d", last)
	case where == "":
		return nil
	}
	return &where
}

// FromTables makes a condition for BatchEvents: events that triggers wrote for these
// tables, named as in ev_extra1 (schema.table). No tables means no condition.
func FromTables(tables ...string) string {
	if len(tables) == 0 {
		return ""
	}
	quoted := make([]string, len(tables))
	for i, table := range tables {
		quoted[i] = QuoteLiteral(Text(table))
	}
	return `ev_extra1 in (` + strings.Join(quoted, ", ") + `)`
}

// fetched is a portion that has come.
type fetched struct {
	events []*Event
	bytes  int64 // of their texts
	cut    bool  // there was more than fits
}

// fetch reads a portion, and keeps as much of it as fits. Events of one id, which a
// batch has after its consumer was moved back, are not parted: the next cursor begins
// behind the id.
func (f *fetched) fetch(ctx context.Context, tx pgx.Tx, limit int64, sql string, args []any) error {
	*f = fetched{events: f.events[:0]}
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if f.cut {
			continue
		}
		ev, err := decodeEvent(rows)
		if err != nil {
			return err
		}
		size := ev.size()
		if n := len(f.events); limit > 0 && n > 0 && f.bytes+size > limit && ev.ID != f.events[n-1].ID {
			f.cut = true
			continue
		}
		f.events = append(f.events, ev)
		f.bytes += size
	}
	return rows.Err()
}

// pace is how many events to fetch at a time.
type pace struct {
	most  int
	limit int64 // bytes; 0: none
	next  int

	// Each time that a portion was cut, it takes twice as many whole ones before
	// there are more events in one: a cursor costs a pass over the batch.
	calm, patience int
}

const patienceMost = 1 << 16

func newPace(p Portion) *pace {
	most := p.Events
	if most == 0 {
		most = math.MaxInt32
	}
	next := most
	if p.Bytes > 0 {
		next = min(most, firstFetch)
	}
	return &pace{most: most, limit: p.Bytes, next: next}
}

// after learns from a portion.
func (p *pace) after(got *fetched) {
	if p.limit == 0 {
		return
	}
	if got.cut {
		p.calm, p.patience = 0, min(max(1, 2*p.patience), patienceMost)
		p.next = p.round(len(got.events) / 2)
		return
	}
	average := max(1, got.bytes/int64(len(got.events)))
	fit := p.round(int(min(p.limit/average, math.MaxInt32)))
	if p.calm++; p.calm < p.patience {
		p.next = min(p.next, fit)
		return
	}
	p.calm = 0
	if p.patience > 0 {
		fit = min(fit, 2*p.next)
	}
	p.next = fit
}

// round keeps the number of different statements small: a power of two, or the most.
func (p *pace) round(n int) int {
	if n >= p.most {
		return p.most
	}
	return 1 << max(0, bits.Len(uint(n))-1)
}

func closeCursor(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `close `+cursorName)
	return err
}
