package batch

// Reading ahead: while a handler works on events, the next ones come.

import (
	"iter"

	"goworkers/pgq"
)

// What is read ahead at a time, and how much that may be at most.
const (
	aheadEvents = 256
	aheadBytes  = 1 << 20
)

// readAhead is what was read together.
type readAhead struct {
	events []*pgq.Event
	err    error
}

// ahead gives the same events, and reads them in a goroutine of its own, which has ended
// when the sequence has.
func ahead(events iter.Seq2[*pgq.Event, error]) iter.Seq2[*pgq.Event, error] {
	return func(yield func(*pgq.Event, error) bool) {
		read, enough := make(chan readAhead, 1), make(chan struct{})
		ended := make(chan struct{})
		defer func() {
			close(enough)
			<-ended
		}()
		go func() {
			defer close(ended)
			defer close(read)
			var part readAhead
			bytes := 0
			pass := func() bool {
				select {
				case read <- part:
					part, bytes = readAhead{}, 0
					return true
				case <-enough:
					return false
				}
			}
			for ev, err := range events {
				if err != nil {
					part.err = err
					break
				}
				part.events = append(part.events, ev)
				bytes += len(ev.Type.String) + len(ev.Data.String) + len(ev.Extra1.String) + len(ev.Extra2.String) + len(ev.Extra3.String) + len(ev.Extra4.String)
				if (len(part.events) == aheadEvents || bytes >= aheadBytes) && !pass() {
					return
				}
			}
			if len(part.events) > 0 || part.err != nil {
				pass()
			}
		}()
		for part := range read {
			for _, ev := range part.events {
				if !yield(ev, nil) {
					return
				}
			}
			if part.err != nil {
				yield(nil, part.err)
				return
			}
		}
	}
}
