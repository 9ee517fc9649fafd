package pgq_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestSubconsumersTakeTurns(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	db := pgtest.DB(t, "pgq", "pgq_coop")
	conn := db.Conn(t)
	if _, err := pgq.CreateQueue(ctx, conn, queue); err != nil {
		t.Fatal(err)
	}
	for _, fresh := range []bool{true, false} {
		if registered, err := pgq.RegisterSubconsumer(ctx, conn, queue, "c", "one"); err != nil || registered != fresh {
			t.Errorf("RegisterSubconsumer = %v, %v, want %v", registered, err, fresh)
		}
	}
	next := func(worker string, wish pgq.Wish, dead time.Duration) *pgq.Batch {
		t.Helper()
		b, err := pgq.CoopNextBatch(ctx, conn, queue, "c", worker, wish, dead)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if b := next("one", pgq.Wish{}, 0); b != nil {
		t.Errorf("a batch without a tick: %+v", b)
	}
	insert(t, ctx, conn, "1")
	first := tick(t, ctx, conn)
	insert(t, ctx, conn, "2")
	tick(t, ctx, conn)
	insert(t, ctx, conn, "3")
	third := tick(t, ctx, conn)

	one := next("one", pgq.Wish{}, 0)
	if one == nil || one.Queue != queue || one.Consumer != "c.one" || one.PrevTick != first-1 || one.Tick != first ||
		!one.TickTime.After(one.PrevTickTime) || one.Seq <= one.PrevSeq {
		t.Fatalf("batch = %+v", one)
	}
	if again := next("one", pgq.Wish{}, 0); again == nil || *again != *one {
		t.Errorf("the open batch came back as %+v, was %+v", again, one)
	}
	two := next("two", pgq.Wish{MinCount: 3000}, 0)
	if two == nil || two.PrevTick != first || two.Tick != third {
		t.Fatalf("a batch of two ticks = %+v", two)
	}
	if events, err := pgq.GetBatchEvents(ctx, conn, two.ID); err != nil || len(events) != 2 {
		t.Errorf("events %v, %v", data(events), err)
	}
	if b := next("three", pgq.Wish{}, time.Hour); b != nil {
		t.Errorf("a batch of a worker that lives: %+v", b)
	}
	db.Exec(t, "update pgq.subscription set sub_active = now() - interval '2 hours' where sub_batch = "+fmt.Sprint(one.ID))
	if b := next("three", pgq.Wish{}, time.Hour); b == nil || b.ID != one.ID || b.Consumer != "c.three" {
		t.Errorf("a dead worker's batch = %+v", b)
	}
	for _, open := range []bool{true, false} {
		for _, b := range []*pgq.Batch{one, two} {
			if finished, err := pgq.CoopFinishBatch(ctx, conn, b.ID); err != nil || finished != open {
				t.Errorf("CoopFinishBatch(%d) = %v, %v, want %v", b.ID, finished, err, open)
			}
		}
	}
	for _, there := range []bool{true, false} {
		if gone, err := pgq.UnregisterSubconsumer(ctx, conn, queue, "c", "two", false); err != nil || gone != there {
			t.Errorf("UnregisterSubconsumer = %v, %v, want %v", gone, err, there)
		}
	}
	if _, err := pgq.CoopNextBatch(ctx, conn, "nowhere", "c", "one", pgq.Wish{}, 0); !pgq.IsQueueNotFound(err) {
		t.Errorf("a queue that does not exist: %v", err)
	}
}
