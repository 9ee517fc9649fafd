package pgq_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"goworkers/pgq"
)

func TestSlotsShareAConsumerByKey(t *testing.T) {
	ctx, conn, db := setup(t)
	for _, c := range []struct {
		name string
		key  string
		want int
	}{{"new", "", 3}, {"the same again", "ev_extra1", 0}} {
		if made, err := pgq.RegisterSlots(ctx, conn, queue, "s", 3, c.key); err != nil || made != c.want {
			t.Fatalf("%s: RegisterSlots = %d, %v, want %d", c.name, made, err, c.want)
		}
	}
	if b, err := pgq.NextSlotBatch(ctx, conn, queue, "s", "w1", 0); err != nil || b != nil {
		t.Errorf("without a tick: %+v, %v", b, err)
	}
	slotOf := map[string]int{}
	for n := range 12 {
		key := fmt.Sprintf("key%d", n)
		if _, err := pgq.InsertEvent(ctx, conn, queue, pgq.Event{Type: pgq.Text("t"), Data: pgq.Text(key), Extra1: pgq.Text(key)}); err != nil {
			t.Fatal(err)
		}
		slot, err := pgq.SlotOf(ctx, conn, pgq.Text(key), 3)
		if err != nil {
			t.Fatal(err)
		}
		slotOf[key] = slot
	}
	tick(t, ctx, conn)
	var seen []string
	for n := range 3 {
		worker := fmt.Sprintf("w%d", n)
		b, err := pgq.NextSlotBatch(ctx, conn, queue, "s", worker, 0)
		if err != nil || b == nil {
			t.Fatalf("NextSlotBatch(%s) = %+v, %v", worker, b, err)
		}
		if again, err := pgq.NextSlotBatch(ctx, conn, queue, "s", worker, 0); err != nil || *again != *b {
			t.Errorf("its open batch came back as %+v, %v, was %+v", again, err, b)
		}
		if b.Queue != queue || b.Consumer != pgq.SlotName("s", b.Slot) || b.Tick <= b.PrevTick {
			t.Errorf("batch %+v", b)
		}
		events, err := pgq.GetBatchEvents(ctx, conn, b.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events {
			seen = append(seen, ev.Data.String)
			if slotOf[ev.Data.String] != b.Slot {
				t.Errorf("%s is of slot %d and came in slot %d", ev.Data.String, slotOf[ev.Data.String], b.Slot)
			}
		}
		if n > 0 {
			finish(t, ctx, conn, b)
		}
	}
	if slices.Sort(seen); len(seen) != 12 || len(slices.Compact(seen)) != 12 {
		t.Errorf("they came: %v", seen)
	}

	// w0 dies, and comes back.
	first, err := pgq.NextSlotBatch(ctx, conn, queue, "s", "w0", 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := pgq.NextSlotBatch(ctx, conn, queue, "s", "w1", time.Hour); err != nil || b != nil {
		t.Errorf("the batch of a living worker: %+v, %v", b, err)
	}
	db.Exec(t, `update pgq.subscription set sub_active = now() - interval '2 hours'`)
	if open, err := pgq.TouchBatch(ctx, conn, first.ID); err != nil || !open {
		t.Errorf("TouchBatch = %v, %v", open, err)
	}
	if b, err := pgq.NextSlotBatch(ctx, conn, queue, "s", "w1", time.Hour); err != nil || b != nil {
		t.Errorf("the batch of a worker that was heard of: %+v, %v", b, err)
	}
	db.Exec(t, `update pgq.subscription set sub_active = now() - interval '2 hours'`)
	taken, err := pgq.NextSlotBatch(ctx, conn, queue, "s", "w1", time.Hour)
	if err != nil || taken == nil || taken.ID == first.ID || taken.Slot != first.Slot || taken.Tick != first.Tick {
		t.Fatalf("the batch of a dead worker: %+v, %v, was %+v", taken, err, first)
	}
	if open, err := pgq.TouchBatch(ctx, conn, first.ID); err != nil || open {
		t.Errorf("the late worker's TouchBatch = %v, %v", open, err)
	}
	if finished, err := pgq.FinishBatch(ctx, conn, first.ID); err != nil || finished {
		t.Errorf("the late worker's FinishBatch = %v, %v", finished, err)
	}
	finish(t, ctx, conn, taken)

	if _, err := pgq.NextSlotBatch(ctx, conn, queue, "c", "w", 0); !pgq.IsNotSubscribed(err) {
		t.Errorf("a consumer without slots: %v", err)
	}
	if gone, err := pgq.UnregisterSlots(ctx, conn, queue, "s"); err != nil || gone != 3 {
		t.Errorf("UnregisterSlots = %d, %v", gone, err)
	}
	if gone, err := pgq.UnregisterSlots(ctx, conn, queue, "s"); err != nil || gone != 0 {
		t.Errorf("UnregisterSlots again = %d, %v", gone, err)
	}
}
