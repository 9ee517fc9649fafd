package consumers

// Bad events that are put aside by consumers that apply each event once.

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestSplitterPutsEventsAsideThatHaveNoQueue(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "splitter")
	dst, _ := queueDB(t, "mail")
	to := func(data, queue string) pgq.Event { return pgq.Event{Data: pgq.Text(data), Extra1: pgq.Text(queue)} }
	batchOf(t, producer, srcQueue, to("a", "mail"), to("b", "nowhere"), text("c"), to("d", "mail"), to("e", ""), to("f", "nowhere"), to("g", "mail"))
	if _, err := split(t, splitterText(src, dst, "on_bad_event = deadletter")); err != nil {
		t.Fatal(err)
	}
	if err := sameRows(inQueue(t, dst, "mail", "ev_data"), []string{"a", "d", "g"}); err != nil {
		t.Error(err)
	}
	dead := src.Rows(t, `select ev_data, ev_failed_reason from pgq.failed_event_list('user_events', 'splitter') order by ev_id`)
	for i, want := range []string{"b|ev_extra1 names a queue that dst_db does not have", "c|ev_extra1 names no queue to go to: it is NULL",
		"e|ev_extra1 names no queue to go to: it is empty", "f|ev_extra1 names a queue that dst_db does not have"} {
		if i >= len(dead) || !strings.HasPrefix(dead[i], want) {
			t.Errorf("dead are %q, want %q", dead, want)
		}
	}
}

// Each event takes effect once and each bad one is dead once, whatever stops when.
func TestBadEventsArePutAsideOnceWhateverStops(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "simple")
	dst := usersDB(t)
	faults := pgtest.NewFaults(t)
	text := simpleText(faults.Through(t, src), faults.Through(t, dst), noteQuery, "on_bad_event = deadletter")
	var want, dead []string
	n := 0
	user := func(name string) pgq.Event {
		n++
		u := pgq.Row{"username": pgq.Text(name), "email": {}, "score": pgq.Text(fmt.Sprint(n))}
		if name == "evil" {
			dead = append(dead, u.Encode())
		} else {
			want = append(want, userRow(u))
		}
		return rowEvent(u)
	}
	produce := func() {
		batchOf(t, producer, srcQueue, user("ann"), user("bob"), user("evil"), user("cid"), user("evil"))
	}
	stopAtEachStep(t, faults, produce, func() error { _, err := serialConsumer.run(t, text); return err }, func() error {
		if err := sameRows(noted(t, dst), want); err != nil {
			return err
		}
		got := src.Rows(t, `select ev_data from pgq.failed_event_list('user_events', 'simple')`)
		slices.Sort(got)
		slices.Sort(dead)
		return sameRows(got, dead)
	})
}
