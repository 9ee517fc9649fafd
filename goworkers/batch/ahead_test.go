package batch

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"

	"goworkers/pgq"
)

// counted gives n events, and then an error unless that is nil.
func counted(n int, size int, last error, reading *bool) iter.Seq2[*pgq.Event, error] {
	return func(yield func(*pgq.Event, error) bool) {
		*reading = true
		defer func() { *reading = false }()
		for i := range n {
			if !yield(&pgq.Event{ID: int64(i), Data: pgq.Text(strings.Repeat("x", size))}, nil) {
				return
			}
		}
		if last != nil {
			yield(nil, last)
		}
	}
}

func TestReadingAheadChangesNothing(t *testing.T) {
	broken := errors.New("broken")
	for _, n := range []int{0, 1, aheadEvents - 1, aheadEvents, aheadEvents + 1, 3*aheadEvents + 7} {
		for _, last := range []error{nil, broken} {
			for _, size := range []int{0, aheadBytes} {
				if size > 0 && n > 5 {
					n = 5
				}
				var reading bool
				var got []int64
				var fault error
				for ev, err := range ahead(counted(n, size, last, &reading)) {
					if err != nil {
						fault = err
						continue
					}
					got = append(got, ev.ID)
				}
				want := make([]int64, n)
				for i := range want {
					want[i] = int64(i)
				}
				if !slices.Equal(got, want) && n > 0 || fault != last || reading {
					t.Errorf("%d events, then %v: got %d, then %v, still reading: %v", n, last, len(got), fault, reading)
				}
			}
		}
	}
}

// Who has enough finds the connection free.
func TestReadingAheadEndsWithItsReader(t *testing.T) {
	for _, enough := range []int{1, aheadEvents, aheadEvents + 1} {
		var reading bool
		n := 0
		for range ahead(counted(100*aheadEvents, 0, nil, &reading)) {
			if n++; n == enough {
				break
			}
		}
		if reading {
			t.Errorf("after %d events it still reads", enough)
		}
	}
}
