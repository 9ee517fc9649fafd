package pgq_test

import (
	"slices"
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

func TestManyEventsAreInsertedInOneCall(t *testing.T) {
	ctx, conn, _ := setup(t)
	if ids, err := pgq.InsertEvents(ctx, conn, queue, nil); err != nil || len(ids) != 0 {
		t.Errorf("none: %v, %v", ids, err)
	}
	want := []pgq.Event{
		{Type: pgq.Text("a"), Data: pgq.Text("1"), Extra2: pgq.Text("two")},
		{Type: pgq.Text("b"), Data: pgq.Text("")},
		{Data: pgq.Text("3"), Extra2: pgq.Text(""), Extra4: pgq.Text("NULL")},
	}
	ids, err := pgq.InsertEvents(ctx, conn, queue, want)
	if err != nil || len(ids) != 3 || !slices.IsSorted(ids) {
		t.Fatalf("InsertEvents = %v, %v", ids, err)
	}
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || len(events) != 3 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	for i, ev := range events {
		want[i].ID, want[i].Time, want[i].TxID = ids[i], ev.Time, events[0].TxID
		if *ev != want[i] {
			t.Errorf("event = %+v, want %+v", *ev, want[i])
		}
	}
	if _, err := pgq.InsertEvents(ctx, conn, "nope", want); !pgq.IsQueueNotFound(err) {
		t.Errorf("no such queue: %v", err)
	}
}

func TestAnEventMayBeJSON(t *testing.T) {
	ctx, conn, _ := setup(t)
	id, err := pgq.InsertJSON(ctx, conn, queue, pgq.Event{Type: pgq.Text("user"), Extra1: pgq.Text("x"), Data: pgq.Text("ignored")},
		map[string]any{"name": "O'Brien", "age": 7})
	if err != nil || id == 0 {
		t.Fatalf("InsertJSON = %d, %v", id, err)
	}
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || len(events) != 1 || events[0].ID != id || events[0].Data.String != `{"age": 7, "name": "O'Brien"}` || events[0].Extra1 != pgq.Text("x") {
		t.Errorf("events %+v, %v", events, err)
	}
	if _, err := pgq.InsertJSON(ctx, conn, queue, pgq.Event{}, func() {}); err == nil {
		t.Error("a func passes as JSON")
	}
}
