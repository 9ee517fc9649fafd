package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

const queue = "events"

// setup makes a database with a queue that has the consumer "c" on it.
func setup(t *testing.T) (context.Context, *pgx.Conn, *pgtest.Database) {
	t.Helper()
	t.Parallel()
	ctx := context.Background()
	db := pgtest.DB(t, "pgq")
	conn := db.Conn(t)
	if created, err := pgq.CreateQueue(ctx, conn, queue); err != nil || !created {
		t.Fatalf("CreateQueue = %v, %v", created, err)
	}
	if registered, err := pgq.RegisterConsumer(ctx, conn, queue, "c"); err != nil || !registered {
		t.Fatalf("RegisterConsumer = %v, %v", registered, err)
	}
	return ctx, conn, db
}

// tick makes a tick now.
func tick(t *testing.T, ctx context.Context, db pgq.DB) int64 {
	t.Helper()
	if _, err := pgq.ForceTick(ctx, db, queue); err != nil {
		t.Fatal(err)
	}
	id, err := pgq.TickQueue(ctx, db, queue)
	if err != nil || id == 0 {
		t.Fatalf("TickQueue = %d, %v", id, err)
	}
	return id
}

func insert(t *testing.T, ctx context.Context, db pgq.DB, data ...string) (ids []int64) {
	t.Helper()
	for _, d := range data {
		id, err := pgq.InsertEvent(ctx, db, queue, pgq.Event{Type: pgq.Text("t"), Data: pgq.Text(d)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func nextBatch(t *testing.T, ctx context.Context, db pgq.DB, consumer string) *pgq.Batch {
	t.Helper()
	b, err := pgq.NextBatch(ctx, db, queue, consumer)
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		t.Fatalf("there is no batch for %q", consumer)
	}
	return b
}

func finish(t *testing.T, ctx context.Context, db pgq.DB, b *pgq.Batch) {
	t.Helper()
	if finished, err := pgq.FinishBatch(ctx, db, b.ID); err != nil || !finished {
		t.Fatalf("FinishBatch(%d) = %v, %v", b.ID, finished, err)
	}
}

func data(events []*pgq.Event) (list []string) {
	for _, ev := range events {
		list = append(list, ev.Data.String)
	}
	return list
}

func TestEventsComeInBatchesUntilFinished(t *testing.T) {
	ctx, conn, _ := setup(t)
	if b, err := pgq.NextBatch(ctx, conn, queue, "c"); err != nil || b != nil {
		t.Fatalf("NextBatch without a tick = %v, %v, want none", b, err)
	}
	ids := insert(t, ctx, conn, "1", "2")
	first := tick(t, ctx, conn)
	insert(t, ctx, conn, "3")
	tick(t, ctx, conn)

	b := nextBatch(t, ctx, conn, "c")
	if b.Queue != queue || b.Consumer != "c" || b.Tick != first || b.PrevTick != first-1 || !b.TickTime.After(b.PrevTickTime) {
		t.Errorf("batch = %+v", b)
	}
	if again := nextBatch(t, ctx, conn, "c"); *again != *b {
		t.Errorf("the open batch came back as %+v, was %+v", again, b)
	}
	events, err := pgq.GetBatchEvents(ctx, conn, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(data(events), []string{"1", "2"}) || events[0].ID != ids[0] || events[0].TxID == 0 || events[0].Retry != 0 {
		t.Errorf("events = %v, first %+v", data(events), events[0])
	}
	finish(t, ctx, conn, b)
	if finished, err := pgq.FinishBatch(ctx, conn, b.ID); err != nil || finished {
		t.Errorf("FinishBatch again = %v, %v, want false", finished, err)
	}
	if _, err := pgq.GetBatchEvents(ctx, conn, b.ID); !pgq.IsBatchNotFound(err) {
		t.Errorf("GetBatchEvents of a finished batch: %v", err)
	}
	b = nextBatch(t, ctx, conn, "c")
	if events, err := pgq.GetBatchEvents(ctx, conn, b.ID); err != nil || !slices.Equal(data(events), []string{"3"}) {
		t.Errorf("second batch has %v, %v", data(events), err)
	}
}

func TestEventKeepsNullApartFromEmpty(t *testing.T) {
	ctx, conn, _ := setup(t)
	want := pgq.Event{Type: pgq.Text(""), Extra1: pgq.Text("1"), Extra2: pgq.Text(""), Extra4: pgq.Text("four")}
	id, err := pgq.InsertEvent(ctx, conn, queue, want)
	if err != nil {
		t.Fatal(err)
	}
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || len(events) != 1 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	want.ID, want.Time, want.TxID = id, events[0].Time, events[0].TxID
	if *events[0] != want {
		t.Errorf("event = %+v, want %+v", *events[0], want)
	}
}

func TestCursorGivesAllEventsInSmallPortions(t *testing.T) {
	ctx, conn, _ := setup(t)
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprint(i))
	}
	insert(t, ctx, conn, want...)
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	for _, fetch := range []int{0, 1, 3, 5, 10, 11} {
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for ev, err := range pgq.BatchEvents(ctx, tx, b.ID, pgq.Portion{Events: fetch}, "") {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ev.Data.String)
			if _, err := tx.Exec(ctx, "select 1"); err != nil {
				t.Fatalf("tx is not free between events: %v", err)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("fetch %d: %v", fetch, got)
		}
		for ev, err := range pgq.BatchEvents(ctx, tx, b.ID, pgq.Portion{Events: fetch}, "ev_data in ('2', '7')") {
			if err != nil || ev.Data.String != "2" {
				t.Errorf("fetch %d: first with a condition = %v, %v", fetch, ev, err)
			}
			break // leaves no cursor behind, or the next would fail
		}
		for _, err := range pgq.BatchEvents(ctx, tx, b.ID, pgq.Portion{Events: fetch}, "") {
			if err != nil {
				t.Error(err)
			}
		}
		if err := tx.Commit(ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestCursorTellsItsErrors(t *testing.T) {
	ctx, conn, _ := setup(t)
	for _, c := range []struct {
		name   string
		fetch  int
		batch  int64
		where  string
		answer func(error) bool
	}{
		{"no such batch", 1, 4711, "", pgq.IsBatchNotFound},
		{"no number of events", -1, 4711, "", func(err error) bool { return strings.Contains(err.Error(), "cannot read -1 events") }},
	} {
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range pgq.BatchEvents(ctx, tx, c.batch, pgq.Portion{Events: c.fetch}, c.where) {
			n++
			if err == nil || !c.answer(err) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d rounds, want 1 with the error", c.name, n)
		}
		_ = tx.Rollback(ctx)
	}
}

func TestFromTablesChoosesByName(t *testing.T) {
	ctx, conn, _ := setup(t)
	names := []string{"public.users", `odd'name`, `back\slash`, "public.other"}
	for _, name := range names {
		if _, err := pgq.InsertEvent(ctx, conn, queue, pgq.Event{Data: pgq.Text(name), Extra1: pgq.Text(name)}); err != nil {
			t.Fatal(err)
		}
	}
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	for _, chosen := range [][]string{{}, names[:1], names[:3], {"none"}} {
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for ev, err := range pgq.BatchEvents(ctx, tx, b.ID, pgq.Portion{Events: 100}, pgq.FromTables(chosen...)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ev.Data.String)
		}
		want := chosen
		switch {
		case len(chosen) == 0:
			want = names
		case chosen[0] == "none":
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("FromTables(%q) gave %q", chosen, got)
		}
		_ = tx.Rollback(ctx)
	}
}

func list(events ...*pgq.Event) iter.Seq2[*pgq.Event, error] {
	return func(yield func(*pgq.Event, error) bool) {
		for _, ev := range events {
			if !yield(ev, nil) {
				return
			}
		}
	}
}

func TestBulkInsertKeepsEverythingButTheID(t *testing.T) {
	ctx, conn, _ := setup(t)
	old := time.Date(2008, 5, 20, 12, 30, 0, 123456000, time.UTC)
	given := []*pgq.Event{
		{ID: 99, Time: old, Type: pgq.Text("a"), Data: pgq.Text("tab\tand\\N\nline"), Extra1: pgq.Text("1"), Extra2: pgq.Text(""), Extra3: pgq.Text("3")},
		{Data: pgq.Text("")},
	}
	var n int64
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		n, err = pgq.BulkInsert(ctx, tx, queue, list(given...))
		return err
	})
	if err != nil || n != 2 {
		t.Fatalf("BulkInsert = %d, %v", n, err)
	}
	tick(t, ctx, conn)
	events, err := pgq.GetBatchEvents(ctx, conn, nextBatch(t, ctx, conn, "c").ID)
	if err != nil || len(events) != 2 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	if !events[0].Time.Equal(old) {
		t.Errorf("time = %v, want %v", events[0].Time, old)
	}
	if age := time.Since(events[1].Time); age < -time.Minute || age > time.Hour {
		t.Errorf("an event without a time got %v", events[1].Time)
	}
	for i, ev := range events {
		want := *given[i]
		want.ID, want.Time, want.TxID = ev.ID, ev.Time, ev.TxID
		if *ev != want {
			t.Errorf("event %d = %+v, want %+v", i, *ev, want)
		}
	}
	if events[0].ID >= events[1].ID {
		t.Errorf("ids %d, %d are not in the order given", events[0].ID, events[1].ID)
	}
}

func TestBulkInsertStopsAtAnError(t *testing.T) {
	ctx, conn, db := setup(t)
	broken := errors.New("the source broke")
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := pgq.BulkInsert(ctx, tx, queue, func(yield func(*pgq.Event, error) bool) {
			_ = yield(&pgq.Event{Data: pgq.Text("1")}, nil) && yield(nil, broken)
		})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "the source broke") {
		t.Errorf("error = %v", err)
	}
	if n := pgtest.Value[int](t, db, "select count(*) from pgq.event_template"); n != 0 {
		t.Errorf("%d events stayed", n)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := pgq.BulkInsert(ctx, tx, "nowhere", list())
		return err
	})
	if !pgq.IsQueueNotFound(err) {
		t.Errorf("into no queue: %v", err)
	}
}

func TestRetriedEventComesAgainToItsConsumerOnly(t *testing.T) {
	ctx, conn, db := setup(t)
	if _, err := pgq.RegisterConsumer(ctx, conn, queue, "other"); err != nil {
		t.Fatal(err)
	}
	ids := insert(t, ctx, conn, "good", "bad")
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	if added, err := pgq.EventRetry(ctx, conn, b.ID, ids[1], 0); err != nil || !added {
		t.Fatalf("EventRetry = %v, %v", added, err)
	}
	if added, err := pgq.EventRetry(ctx, conn, b.ID, ids[1], time.Hour); err != nil || added {
		t.Errorf("EventRetry again = %v, %v, want false", added, err)
	}
	finish(t, ctx, conn, b)
	db.WaitFor(t, "select count(*) = 1 from pgq.retry_queue where ev_retry_after <= now()")
	if moved, err := pgq.MaintRetryEvents(ctx, conn); err != nil || moved != 1 {
		t.Fatalf("MaintRetryEvents = %d, %v", moved, err)
	}
	if moved, err := pgq.MaintRetryEvents(ctx, conn); err != nil || moved != 0 {
		t.Errorf("MaintRetryEvents again = %d, %v", moved, err)
	}
	tick(t, ctx, conn)

	b = nextBatch(t, ctx, conn, "c")
	events, err := pgq.GetBatchEvents(ctx, conn, b.ID)
	if err != nil || len(events) != 1 || events[0].ID != ids[1] || events[0].Retry != 1 {
		t.Errorf("the retry gave %v, %v", data(events), err)
	}
	if added, err := pgq.BatchRetry(ctx, conn, b.ID, time.Hour); err != nil || added != 1 {
		t.Errorf("BatchRetry = %d, %v", added, err)
	}
	var seen []string
	for range 2 {
		b := nextBatch(t, ctx, conn, "other")
		events, err := pgq.GetBatchEvents(ctx, conn, b.ID)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, data(events)...)
		finish(t, ctx, conn, b)
	}
	if !slices.Equal(seen, []string{"good", "bad"}) {
		t.Errorf("the other consumer saw %v", seen)
	}
}

func TestNextBatchCustomJoinsTicks(t *testing.T) {
	ctx, conn, _ := setup(t)
	var last int64
	for _, d := range []string{"1", "2", "3"} {
		insert(t, ctx, conn, d)
		last = tick(t, ctx, conn)
	}
	if b, err := pgq.NextBatchCustom(ctx, conn, queue, "c", pgq.Wish{MinLag: time.Hour}); err != nil || b != nil {
		t.Errorf("with a lag of an hour: %v, %v, want none", b, err)
	}
	if b, err := pgq.NextBatchCustom(ctx, conn, queue, "c", pgq.Wish{MinInterval: time.Hour}); err != nil || b != nil {
		t.Errorf("with an interval of an hour: %v, %v, want none", b, err)
	}
	// ForceTick moves the sequence by some thousand a tick.
	b, err := pgq.NextBatchCustom(ctx, conn, queue, "c", pgq.Wish{MinCount: 5000})
	if err != nil || b == nil || b.Tick != last {
		t.Fatalf("with 5000 events = %+v, %v, want one up to tick %d", b, err, last)
	}
	if events, err := pgq.GetBatchEvents(ctx, conn, b.ID); err != nil || !slices.Equal(data(events), []string{"1", "2", "3"}) {
		t.Errorf("it has %v, %v", data(events), err)
	}
}

func TestRegisterAtMovesTheConsumer(t *testing.T) {
	ctx, conn, _ := setup(t)
	insert(t, ctx, conn, "1")
	at := tick(t, ctx, conn)
	finish(t, ctx, conn, nextBatch(t, ctx, conn, "c"))
	if registered, err := pgq.RegisterConsumerAt(ctx, conn, queue, "c", at-1); err != nil || registered {
		t.Fatalf("RegisterConsumerAt = %v, %v", registered, err)
	}
	if b := nextBatch(t, ctx, conn, "c"); b.Tick != at {
		t.Errorf("batch up to %d, want %d again", b.Tick, at)
	}
	if _, err := pgq.RegisterConsumerAt(ctx, conn, queue, "c", 4711); !pgq.IsTickNotFound(err) {
		t.Errorf("at a tick that is not there: %v", err)
	}
}

func TestInfoDescribesQueuesAndConsumers(t *testing.T) {
	ctx, conn, _ := setup(t)
	if err := pgq.SetQueueConfig(ctx, conn, queue, "ticker_idle_period", "1 month 1 day 00:00:02.5"); err != nil {
		t.Fatal(err)
	}
	if _, err := pgq.CreateQueue(ctx, conn, "another"); err != nil {
		t.Fatal(err)
	}
	insert(t, ctx, conn, "1", "2")
	queues, err := pgq.QueueInfo(ctx, conn)
	if err != nil || len(queues) != 2 || queues[0].Name != "another" || queues[1].Name != queue {
		t.Fatalf("QueueInfo = %+v, %v", queues, err)
	}
	q := queues[1]
	if q.Tables != 3 || q.RotationPeriod != 2*time.Hour || q.TickerMaxCount != 500 || q.TickerMaxLag != 3*time.Second ||
		q.TickerIdlePeriod != 31*24*time.Hour+2500*time.Millisecond || q.SwitchTime.IsZero() || q.ExternalTicker || q.TickerPaused {
		t.Errorf("settings: %+v", q)
	}
	if q.TickerLag == nil || *q.LastTickID != 1 || *q.NewEvents < 1 {
		t.Errorf("figures: %+v", q)
	}
	if one, err := pgq.QueueInfo(ctx, conn, "another"); err != nil || len(one) != 1 || one[0].Name != "another" {
		t.Errorf("QueueInfo of one = %+v, %v", one, err)
	}
	if none, err := pgq.QueueInfo(ctx, conn, "nowhere"); err != nil || len(none) != 0 {
		t.Errorf("QueueInfo of none = %+v, %v", none, err)
	}

	if _, err := pgq.RegisterConsumer(ctx, conn, "another", "d"); err != nil {
		t.Fatal(err)
	}
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	consumers, err := pgq.ConsumerInfo(ctx, conn, "", "")
	if err != nil || len(consumers) != 2 || consumers[0].Name != "d" || consumers[0].CurrentBatch != nil {
		t.Fatalf("ConsumerInfo = %+v, %v", consumers, err)
	}
	c := consumers[1]
	if c.Queue != queue || c.Name != "c" || *c.LastTick != 1 || *c.CurrentBatch != b.ID || *c.NextTick != b.Tick || c.Lag == nil || c.LastSeen == nil || *c.PendingEvents < 1 {
		t.Errorf("consumer: %+v", c)
	}
	if one, err := pgq.ConsumerInfo(ctx, conn, "another", "d"); err != nil || len(one) != 1 {
		t.Errorf("ConsumerInfo of one = %+v, %v", one, err)
	}
}

func TestTickerTicksAllQueuesThatWantIt(t *testing.T) {
	ctx, conn, _ := setup(t)
	if id, err := pgq.TickQueue(ctx, conn, queue); err != nil || id != 0 {
		// The first tick after creation may be due at once; then the next is not.
		if id, err = pgq.TickQueue(ctx, conn, queue); err != nil || id != 0 {
			t.Errorf("TickQueue of an idle queue = %d, %v", id, err)
		}
	}
	if _, err := pgq.ForceTick(ctx, conn, queue); err != nil {
		t.Fatal(err)
	}
	if n, err := pgq.Ticker(ctx, conn); err != nil || n != 1 {
		t.Errorf("Ticker = %d, %v", n, err)
	}
	if version, err := pgq.Version(ctx, conn); err != nil || version < "3" {
		t.Errorf("Version = %q, %v", version, err)
	}
}

func TestMaintenanceRotatesTables(t *testing.T) {
	ctx, conn, db := setup(t)
	if _, err := pgq.UnregisterConsumer(ctx, conn, queue, "c"); err != nil {
		t.Fatal(err)
	}
	if err := pgq.SetQueueConfig(ctx, conn, queue, "rotation_period", "0 seconds"); err != nil {
		t.Fatal(err)
	}
	db.WaitFor(t, "select queue_switch_time < now() from pgq.queue")
	ops, err := pgq.MaintOperations(ctx, conn)
	if err != nil || len(ops) < 2 || ops[0].Func != "pgq.maint_rotate_tables_step1" || ops[0].Arg == nil || *ops[0].Arg != queue ||
		ops[1].Func != "pgq.maint_rotate_tables_step2" || ops[1].Arg != nil {
		t.Fatalf("MaintOperations = %+v, %v", ops, err)
	}
	// A writer anywhere on the server puts a rotation off, so try again.
	pgtest.Eventually(t, 10*time.Second, "the queue is rotated", func() bool {
		for _, op := range ops {
			if again, err := pgq.RunMaintOp(ctx, conn, op); err != nil || again {
				t.Fatalf("RunMaintOp(%s) = %v, %v", op.Func, again, err)
			}
		}
		return pgtest.Value[bool](t, db, "select queue_cur_table > 0 from pgq.queue")
	})
}

func TestRunMaintOpFollowsItsContract(t *testing.T) {
	ctx, conn, db := setup(t)
	db.Exec(t, `create table public."Odd Table" ();
		create function public."again please"(arg text) returns int language sql as $$ select length(arg) $$;`)
	table, missing, arg := "public.Odd Table", "public.missing", "x"
	for _, c := range []struct {
		op    pgq.MaintOp
		again bool
		fault string
	}{
		{pgq.MaintOp{Func: "vacuum", Arg: &table}, false, ""},
		{pgq.MaintOp{Func: "vacuum analyze", Arg: &table}, false, ""},
		{pgq.MaintOp{Func: "vacuum", Arg: &missing}, false, "vacuum public.missing"},
		{pgq.MaintOp{Func: "vacuum"}, false, "no table"},
		{pgq.MaintOp{Func: "public.again please", Arg: &arg}, true, ""},
		{pgq.MaintOp{Func: "public.absent"}, false, "maintenance public.absent()"},
	} {
		again, err := pgq.RunMaintOp(ctx, conn, c.op)
		switch {
		case c.fault == "" && err != nil, c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)):
			t.Errorf("%+v: error %v, want %q", c.op, err, c.fault)
		case again != c.again:
			t.Errorf("%+v: again = %v", c.op, again)
		}
	}
}

func TestErrorsAnswerQuestions(t *testing.T) {
	ctx, conn, _ := setup(t)
	_, noQueue := pgq.InsertEvent(ctx, conn, "nowhere", pgq.Event{})
	_, noQueueEither := pgq.RegisterConsumer(ctx, conn, "nowhere", "c")
	_, noConsumer := pgq.NextBatch(ctx, conn, queue, "stranger")
	for _, c := range []struct {
		name string
		err  error
		yes  func(error) bool
		no   func(error) bool
	}{
		{"insert into no queue", noQueue, pgq.IsQueueNotFound, pgq.IsNotSubscribed},
		{"register on no queue", noQueueEither, pgq.IsQueueNotFound, pgq.IsNotSubscribed},
		{"batch of a stranger", noConsumer, pgq.IsNotSubscribed, pgq.IsQueueNotFound},
		{"drop of no queue", pgq.DropQueue(ctx, conn, "nowhere", false), pgq.IsQueueNotFound, pgq.IsNotInstalled},
	} {
		if c.err == nil || !c.yes(c.err) || c.no(c.err) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	if err := pgq.DropQueue(ctx, conn, queue, false); err == nil {
		t.Error("a queue with a consumer was dropped without force")
	}
	if gone, err := pgq.UnregisterConsumer(ctx, conn, queue, "c"); err != nil || gone != 1 {
		t.Errorf("UnregisterConsumer = %d, %v", gone, err)
	}
	if gone, err := pgq.UnregisterConsumer(ctx, conn, queue, "c"); err != nil || gone != 0 {
		t.Errorf("UnregisterConsumer again = %d, %v", gone, err)
	}
	if err := pgq.DropQueue(ctx, conn, queue, false); err != nil {
		t.Error(err)
	}
}
