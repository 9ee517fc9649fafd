package pgq_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"goworkers/pgq"
)

func TestManyEventsAreRetriedAtOnce(t *testing.T) {
	ctx, conn, db := setup(t)
	ids := insert(t, ctx, conn, "a", "b", "c", "d")
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	for _, step := range []struct {
		name string
		call func() (int, error)
		want int
	}{
		{"two", func() (int, error) { return pgq.EventRetryMany(ctx, conn, b.ID, ids[:2], 0, "") }, 2},
		{"one of them and another", func() (int, error) { return pgq.EventRetryMany(ctx, conn, b.ID, ids[1:3], 0, "broken") }, 1},
		{"none", func() (int, error) { return pgq.EventRetryMany(ctx, conn, b.ID, nil, time.Second, "") }, 0},
		{"at a time", func() (int, error) {
			return pgq.EventRetryManyAt(ctx, conn, b.ID, ids[3:], time.Now().Add(time.Hour), "")
		}, 1},
		{"at a time, with a reason", func() (int, error) { return pgq.EventRetryManyAt(ctx, conn, b.ID, ids[3:], time.Now(), "late") }, 0},
	} {
		if n, err := step.call(); err != nil || n != step.want {
			t.Errorf("%s: %d, %v, want %d", step.name, n, err, step.want)
		}
	}
	if _, err := pgq.EventRetryMany(ctx, conn, b.ID, []int64{ids[0], 999}, 0, ""); !pgq.IsEventNotFound(err) {
		t.Errorf("an event of another batch: %v", err)
	}
	if _, err := pgq.EventRetryMany(ctx, conn, 999, ids, 0, ""); !pgq.IsBatchNotFound(err) {
		t.Errorf("another batch: %v", err)
	}
	finish(t, ctx, conn, b)
	if n, err := pgq.MaintRetryEvents(ctx, conn); err != nil || n != 3 {
		t.Errorf("MaintRetryEvents = %d, %v, want 3", n, err)
	}
	db.Exec(t, `update pgq.queue set queue_ticker_max_lag = '0'`)
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || !slices.Equal(data(events), []string{"a", "b", "c"}) || events[0].Retry != 1 {
		t.Errorf("they came again as %v, %v", data(events), err)
	}
}

// dead lists a consumer's dead events.
func dead(t *testing.T, ctx context.Context, db pgq.DB, count, offset int) (list []string) {
	t.Helper()
	events, err := pgq.FailedEventList(ctx, db, queue, "c", count, offset)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if age := time.Since(e.DiedAt); age < -time.Minute || age > time.Minute {
			t.Errorf("event %d died at %v", e.ID, e.DiedAt)
		}
		list = append(list, fmt.Sprintf("%s: %s (%d)", e.Data.String, e.Reason, e.Retry))
	}
	return list
}

func TestDeadEventsWaitForAPerson(t *testing.T) {
	ctx, conn, db := setup(t)
	db.Exec(t, `update pgq.subscription set sub_max_retries = 0`)
	ids := insert(t, ctx, conn, "a", "b", "c", "d")
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	if added, err := pgq.EventFailed(ctx, conn, b.ID, ids[0], "no such user"); err != nil || !added {
		t.Fatalf("EventFailed = %v, %v", added, err)
	}
	if added, err := pgq.EventFailed(ctx, conn, b.ID, ids[0], "no such user"); err != nil || added {
		t.Errorf("EventFailed again = %v, %v, want false", added, err)
	}
	if _, err := pgq.EventFailed(ctx, conn, b.ID, 999, ""); !pgq.IsEventNotFound(err) {
		t.Errorf("EventFailed of another event: %v", err)
	}
	if n, err := pgq.EventRetryMany(ctx, conn, b.ID, ids[1:3], 0, "timeout"); err != nil || n != 2 {
		t.Errorf("EventRetryMany = %d, %v", n, err)
	}
	if n, err := pgq.EventRetryMany(ctx, conn, b.ID, ids[3:], 0, ""); err != nil || n != 1 {
		t.Errorf("EventRetryMany = %d, %v", n, err)
	}
	finish(t, ctx, conn, b)

	all := []string{"a: no such user (0)", "b: timeout (0)", "c: timeout (0)", "d: max_retries (0) reached (0)"}
	if got := dead(t, ctx, conn, 0, 0); !slices.Equal(got, all) {
		t.Errorf("dead are %q", got)
	}
	if got := dead(t, ctx, conn, 2, 1); !slices.Equal(got, all[1:3]) {
		t.Errorf("two after the first are %q", got)
	}
	if n, err := pgq.FailedEventCount(ctx, conn, queue, "c"); err != nil || n != 4 {
		t.Errorf("FailedEventCount = %d, %v", n, err)
	}
	counts, err := pgq.CountDeadLetters(ctx, conn)
	if err != nil || len(counts) != 1 || counts[0].Queue != queue || counts[0].Consumer != "c" || counts[0].Count != 4 || counts[0].Oldest.IsZero() {
		t.Errorf("CountDeadLetters = %+v, %v", counts, err)
	}
	for _, step := range []struct {
		name string
		call func() (int64, error)
		want int64
	}{
		{"retry one", func() (int64, error) { return pgq.FailedEventRetry(ctx, conn, queue, "c", ids[0]) }, 1},
		{"retry it again", func() (int64, error) { return pgq.FailedEventRetry(ctx, conn, queue, "c", ids[0]) }, 0},
		{"delete one", func() (int64, error) { return pgq.FailedEventDelete(ctx, conn, queue, "c", ids[1]) }, 1},
		{"delete it again", func() (int64, error) { return pgq.FailedEventDelete(ctx, conn, queue, "c", ids[1]) }, 0},
		{"retry the rest", func() (int64, error) { return pgq.FailedEventRetryAll(ctx, conn, queue, "c") }, 2},
		{"delete none", func() (int64, error) { return pgq.FailedEventDeleteAll(ctx, conn, queue, "c") }, 0},
	} {
		if n, err := step.call(); err != nil || n != step.want {
			t.Errorf("%s: %d, %v, want %d", step.name, n, err, step.want)
		}
	}
	if _, err := pgq.FailedEventCount(ctx, conn, queue, "nobody"); !pgq.IsNotSubscribed(err) {
		t.Errorf("nobody's dead events: %v", err)
	}
	if _, err := pgq.FailedEventRetryAll(ctx, conn, "nope", "c"); !pgq.IsQueueNotFound(err) {
		t.Errorf("dead events of no queue: %v", err)
	}
	if n, err := pgq.MaintRetryEvents(ctx, conn); err != nil || n != 3 {
		t.Errorf("MaintRetryEvents = %d, %v, want 3", n, err)
	}
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || !slices.Equal(data(events), []string{"a", "c", "d"}) {
		t.Errorf("they came again as %v, %v", data(events), err)
	}
}
