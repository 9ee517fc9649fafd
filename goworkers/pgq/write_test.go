package pgq_test

import (
	"testing"
	"time"

	"goworkers/pgq"
)

func TestAnEventCanComeLater(t *testing.T) {
	ctx, conn, db := setup(t)
	later := time.Now().Add(time.Hour)
	id, err := pgq.InsertEventAt(ctx, conn, queue, later, pgq.Event{Type: pgq.Text("t"), Data: pgq.Text("later"), Extra4: pgq.Text("4")})
	if err != nil || id == 0 {
		t.Fatalf("InsertEventAt = %d, %v", id, err)
	}
	if n, err := pgq.MaintRetryEvents(ctx, conn); err != nil || n != 0 {
		t.Errorf("MaintRetryEvents before its time = %d, %v", n, err)
	}
	db.Exec(t, `update pgq.retry_queue set ev_retry_after = now() - interval '1 s'`)
	if n, err := pgq.MaintRetryEvents(ctx, conn); err != nil || n != 1 {
		t.Errorf("MaintRetryEvents at its time = %d, %v", n, err)
	}
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || len(events) != 1 || events[0].ID != id || events[0].Data != pgq.Text("later") || events[0].Extra4 != pgq.Text("4") || events[0].Extra1.Valid {
		t.Errorf("events %+v, %v", events, err)
	}
	if _, err := pgq.InsertEventAt(ctx, conn, "nope", later, pgq.Event{}); !pgq.IsQueueNotFound(err) {
		t.Errorf("no such queue: %v", err)
	}
}
