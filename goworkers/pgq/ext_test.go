package pgq_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestExtRemembersTheLastBatch(t *testing.T) {
	t.Parallel()
	ctx, conn := context.Background(), pgtest.DB(t, "pgq_ext").Conn(t)
	for _, step := range []struct {
		name  string
		batch int64
		fresh bool
	}{{"the first", 1, true}, {"the same again", 1, false}, {"the next", 2, true}} {
		done, err := pgq.IsBatchDone(ctx, conn, "c", step.batch)
		if err != nil || done == step.fresh {
			t.Errorf("%s: IsBatchDone = %v, %v", step.name, done, err)
		}
		set, err := pgq.SetBatchDone(ctx, conn, "c", step.batch)
		if err != nil || set != step.fresh {
			t.Errorf("%s: SetBatchDone = %v, %v", step.name, set, err)
		}
	}
	if done, err := pgq.IsBatchDone(ctx, conn, "other", 2); err != nil || done {
		t.Errorf("another consumer: IsBatchDone = %v, %v", done, err)
	}
}

func TestExtRemembersTheLastTick(t *testing.T) {
	t.Parallel()
	ctx, conn := context.Background(), pgtest.DB(t, "pgq_ext").Conn(t)
	want := func(tick int64) {
		t.Helper()
		got, err := pgq.GetLastTick(ctx, conn, "c")
		switch {
		case err != nil:
			t.Fatal(err)
		case tick == 0 && got != nil:
			t.Errorf("GetLastTick = %d, want none", *got)
		case tick != 0 && (got == nil || *got != tick):
			t.Errorf("GetLastTick = %v, want %d", got, tick)
		}
	}
	want(0)
	for _, tick := range []int64{7, 8} {
		if err := pgq.SetLastTick(ctx, conn, "c", tick); err != nil {
			t.Fatal(err)
		}
		want(tick)
	}
	if err := pgq.ForgetLastTick(ctx, conn, "c"); err != nil {
		t.Fatal(err)
	}
	want(0)
}

func TestExtRemembersEventsOfOneBatch(t *testing.T) {
	t.Parallel()
	ctx, conn := context.Background(), pgtest.DB(t, "pgq_ext").Conn(t)
	done := func(batch, event int64, want bool) {
		t.Helper()
		if got, err := pgq.IsEventDone(ctx, conn, "c", batch, event); err != nil || got != want {
			t.Errorf("IsEventDone(%d, %d) = %v, %v, want %v", batch, event, got, err, want)
		}
	}
	set := func(batch, event int64, want bool) {
		t.Helper()
		if got, err := pgq.SetEventDone(ctx, conn, "c", batch, event); err != nil || got != want {
			t.Errorf("SetEventDone(%d, %d) = %v, %v, want %v", batch, event, got, err, want)
		}
	}
	set(1, 10, true)
	set(1, 10, false)
	done(1, 10, true)
	set(2, 11, true)
	done(1, 10, false)
}

func TestExtRemembersEventsThatArePutAside(t *testing.T) {
	t.Parallel()
	ctx, conn := context.Background(), pgtest.DB(t, "pgq_ext").Conn(t)
	if _, err := pgq.SetBatchDone(ctx, conn, "c", 1); err != nil {
		t.Fatal(err)
	}
	want := []pgq.Aside{
		{Event: 3, After: 90 * time.Second, Reason: "busy"},
		{Event: 5, Dead: true, Reason: "no such user"},
		{Event: 7},
		{Event: 9, Dead: true},
	}
	if err := pgq.SetEventsAside(ctx, conn, "c", 1, want); err != nil {
		t.Fatal(err)
	}
	if got, err := pgq.GetEventsAside(ctx, conn, "c", 1); err != nil || !slices.Equal(got, want) {
		t.Errorf("GetEventsAside = %+v, %v", got, err)
	}
	for _, other := range []struct {
		consumer string
		batch    int64
	}{{"c", 2}, {"d", 1}} {
		if got, err := pgq.GetEventsAside(ctx, conn, other.consumer, other.batch); err != nil || len(got) != 0 {
			t.Errorf("GetEventsAside(%+v) = %+v, %v", other, got, err)
		}
	}
	if _, err := pgq.SetBatchDone(ctx, conn, "c", 2); err != nil {
		t.Fatal(err)
	}
	if got, err := pgq.GetEventsAside(ctx, conn, "c", 1); err != nil || len(got) != 0 {
		t.Errorf("GetEventsAside of the batch before = %+v, %v", got, err)
	}
}

func TestMissingExtensionIsTold(t *testing.T) {
	t.Parallel()
	ctx, conn := context.Background(), pgtest.DB(t).Conn(t)
	if _, err := pgq.Ticker(ctx, conn); !pgq.IsNotInstalled(err) {
		t.Errorf("Ticker without the extension: IsNotInstalled is false for %v", err)
	}
	if _, err := pgq.GetLastTick(ctx, conn, "c"); !pgq.IsNotInstalled(err) {
		t.Errorf("GetLastTick without the extension: IsNotInstalled is false for %v", err)
	}
	if pgq.IsNotInstalled(nil) {
		t.Error("IsNotInstalled is true for no error")
	}
}
