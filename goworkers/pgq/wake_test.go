package pgq_test

import (
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestWritersWakeTickerAndTicksWakeConsumers(t *testing.T) {
	ctx, conn, db := setup(t)
	if channel, err := pgq.TickChannel(ctx, conn, queue); err != nil || channel != "" {
		t.Errorf("TickChannel of a queue that does not notify = %q, %v", channel, err)
	}
	db.Exec(t, `update pgq.queue set queue_notify = true`)
	channel, err := pgq.TickChannel(ctx, conn, queue)
	if err != nil || channel == "" {
		t.Fatalf("TickChannel = %q, %v", channel, err)
	}
	ear := db.Conn(t)
	if _, err := ear.Exec(ctx, `listen `+channel); err != nil {
		t.Fatal(err)
	}
	insert(t, ctx, conn, "a")
	// It may have to be asked again, as it says, until the tick is there.
	ticked := int64(0)
	pgtest.Eventually(t, 10*time.Second, "the queue is ticked", func() bool {
		tick, again, err := pgq.TickerWake(ctx, conn, queue)
		if err != nil || tick == 0 && again == nil {
			t.Fatalf("TickerWake = %d, %v, %v", tick, again, err)
		}
		ticked = tick
		return tick != 0
	})
	n, err := ear.WaitForNotification(ctx)
	if err != nil || n.Channel != channel {
		t.Errorf("notification %+v, %v", n, err)
	}
	if b := nextBatch(t, ctx, conn, "c"); b.Tick != ticked {
		t.Errorf("the batch ends at tick %d, want %d", b.Tick, ticked)
	}
	if tick, again, err := pgq.TickerWake(ctx, conn, "nope"); tick != 0 || again != nil || err != nil {
		t.Errorf("TickerWake of a queue that was dropped = %d, %v, %v", tick, again, err)
	}
}
