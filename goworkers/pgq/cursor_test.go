package pgq_test

// Reading batches whose events are big, many, or odd.

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"golang.org/x/sys/unix"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// read reads a batch in a transaction of its own, and gives each event to look.
func read(t *testing.T, ctx context.Context, conn *pgx.Conn, b *pgq.Batch, portion pgq.Portion, look func(tx pgx.Tx, ev *pgq.Event)) {
	t.Helper()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for ev, err := range pgq.BatchEvents(ctx, tx, b.ID, portion, "") {
		if err != nil {
			t.Fatal(err)
		}
		look(tx, ev)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Error(err)
	}
}

func TestCursorKeepsToItsBytes(t *testing.T) {
	for _, c := range []struct {
		name  string
		sizes []int // of the events, in turn
		count int
	}{
		{"small ones", []int{10}, 500},
		{"each at the limit", []int{1000}, 50},
		{"each beyond it", []int{1500}, 50},
		{"big ones after small ones", append(slices.Repeat([]int{1}, 400), slices.Repeat([]int{700}, 100)...), 500},
		{"a big one now and then", append(slices.Repeat([]int{5}, 60), 900, 950, 999), 6300},
		{"big and empty ones in turn", []int{990, 0}, 100},
		{"one far beyond it", append(slices.Repeat([]int{3}, 99), 50_000), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, conn, db := setup(t)
			var want []string
			for i := range c.count {
				want = append(want, fmt.Sprint(i, " ", strings.Repeat("x", c.sizes[i%len(c.sizes)])))
			}
			if _, err := conn.Exec(ctx, `select pgq.insert_event($1, 't', d) from unnest($2::text[]) d`, queue, want); err != nil {
				t.Fatal(err)
			}
			tick(t, ctx, conn)
			b := nextBatch(t, ctx, conn, "c")
			opened := countCalls(t, db)
			var got []string
			read(t, ctx, conn, b, pgq.Portion{Events: 40, Bytes: 1000}, func(_ pgx.Tx, ev *pgq.Event) { got = append(got, ev.Data.String) })
			if !slices.Equal(got, want) {
				t.Errorf("%d events came, want %d, or others", len(got), len(want))
			}
			// Cuts are rare: each costs a pass over the batch.
			if n := opened(); n > 16 {
				t.Errorf("%d cursors for %d events", n, c.count)
			}
		})
	}
}

// countCalls counts the calls of get_batch_cursor.
func countCalls(t *testing.T, db *pgtest.Database) func() int64 {
	t.Helper()
	db.Exec(t, `
		create sequence public.calls;
		alter function pgq.get_batch_cursor(bigint, text, int4, text) rename to opens;
		create function pgq.get_batch_cursor(in bigint, in text, in int4, in text, out ev_id bigint, out ev_time timestamptz,
			out ev_txid bigint, out ev_retry int4, out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text,
			out ev_extra3 text, out ev_extra4 text) returns setof record language plpgsql as $$
		begin
			perform nextval('public.calls');
			return query select * from pgq.opens($1, $2, $3, $4);
		end; $$`)
	return func() int64 {
		return pgtest.Value[int64](t, db, "select case when is_called then last_value else 0 end from public.calls")
	}
}

// After its consumer was moved back a batch may have an event and its retry, which is
// another row with the same id. They are not parted by a cut.
func TestCursorKeepsRowsOfOneIdTogether(t *testing.T) {
	ctx, conn, db := setup(t)
	ids := insert(t, ctx, conn, strings.Repeat("a", 600), strings.Repeat("b", 600), "c")
	db.Exec(t, fmt.Sprintf(`select pgq.insert_event_raw('%s', %d, now(), null, 1, 't', 'again', null, null, null, null)`, queue, ids[1]))
	tick(t, ctx, conn)
	var got []string
	read(t, ctx, conn, nextBatch(t, ctx, conn, "c"), pgq.Portion{Events: 10, Bytes: 602}, func(_ pgx.Tx, ev *pgq.Event) {
		got = append(got, fmt.Sprint(ev.ID-ids[0], " ", ev.Data.String[0:1], len(ev.Data.String), " ", ev.Retry))
	})
	slices.Sort(got)
	if want := []string{"0 a600 0", "1 a5 1", "1 b600 0", "2 c1 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// 3 GB of events pass through a few dozen MB.
func TestCursorHoldsFewBigEvents(t *testing.T) {
	ctx, conn, _ := setup(t)
	const count, size = 300, 10 << 20
	if _, err := conn.Exec(ctx, "set default_toast_compression = lz4"); err != nil { // the other takes minutes
		t.Fatal(err)
	}
	// One by one: a long transaction would hold up the rotation of other tests' queues.
	for i := range count {
		if _, err := conn.Exec(ctx, `select pgq.insert_event($1, 't', repeat(repeat(chr(97 + $3::int % 26), 1024), $2::int / 1024) || $3::int)`, queue, size, i); err != nil {
			t.Fatal(err)
		}
	}
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	n, peak := 0, uint64(0)
	read(t, ctx, conn, b, pgq.Portion{Events: 300, Bytes: 8 << 20}, func(_ pgx.Tx, ev *pgq.Event) {
		letters, number := ev.Data.String[:size], ev.Data.String[size:]
		if strings.Count(letters, string(rune('a'+n%26))) != size || number != fmt.Sprint(n) {
			t.Fatalf("event %d has other bytes", n)
		}
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		n++
	})
	if n != count {
		t.Errorf("%d events came", n)
	}
	if limit := before.HeapAlloc + 128<<20; peak > limit {
		t.Errorf("the heap has grown to %d MB", peak>>20)
	}
	t.Logf("heap %d MB at most", peak>>20)
}

// What the decoder makes of a row is what scanning makes of it.
func TestEventsComeTheSameInEitherProtocol(t *testing.T) {
	ctx, conn, db := setup(t)
	config, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	simple, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { simple.Close(context.Background()) })

	null := pgtype.Text{}
	texts := []pgq.Event{
		{},
		{Type: pgq.Text(""), Data: pgq.Text(""), Extra1: pgq.Text(""), Extra2: pgq.Text(""), Extra3: pgq.Text(""), Extra4: pgq.Text("")},
		{Type: pgq.Text("ż'ó\\ł\n"), Data: null, Extra1: pgq.Text("1"), Extra2: null, Extra3: pgq.Text("3"), Extra4: pgq.Text("ć")},
		{Type: null, Data: pgq.Text(strings.Repeat("0123456789", 1<<20)), Extra4: pgq.Text("end")},
	}
	for _, ev := range texts {
		if _, err := pgq.InsertEvent(ctx, conn, queue, ev); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []string{"infinity", "-infinity", "1999-12-31 23:59:59.999999+00", "0001-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999+00", "2038-01-19 03:14:08.000001+00"} {
		db.Exec(t, `select pgq.insert_event_raw($1, null, $2::text::timestamptz, null, 7, 't', $2, null, null, null, null)`, queue, at)
	}
	tick(t, ctx, conn)
	b := nextBatch(t, ctx, conn, "c")
	var fast, slow, whole []*pgq.Event
	read(t, ctx, conn, b, pgq.Portion{Events: 3}, func(_ pgx.Tx, ev *pgq.Event) { fast = append(fast, ev) })
	read(t, ctx, simple, b, pgq.Portion{Events: 3}, func(_ pgx.Tx, ev *pgq.Event) { slow = append(slow, ev) })
	if whole, err = pgq.GetBatchEvents(ctx, conn, b.ID); err != nil {
		t.Fatal(err)
	}
	if len(fast) != 10 || len(slow) != 10 || len(whole) != 10 {
		t.Fatalf("%d, %d and %d events came", len(fast), len(slow), len(whole))
	}
	for i, ev := range fast {
		for _, other := range []*pgq.Event{slow[i], whole[i]} {
			a, b := *ev, *other
			if !a.Time.Equal(b.Time) {
				t.Errorf("event %d is of %s, or of %s", i, a.Time, b.Time)
			}
			a.Time, b.Time = time.Time{}, time.Time{}
			if a != b {
				t.Errorf("event %d is %.200v, or %.200v", i, a, b)
			}
		}
		if i < len(texts) {
			want := texts[i]
			want.ID, want.Time, want.TxID = ev.ID, ev.Time, ev.TxID
			if *ev != want || time.Since(ev.Time).Abs() > time.Hour {
				t.Errorf("event %d is %.200v, want %.200v", i, *ev, want)
			}
		}
	}
	if !fast[4].Time.After(time.Now()) || !fast[5].Time.IsZero() || fast[4].Retry != 7 {
		t.Errorf("infinite times are %s and %s", fast[4].Time, fast[5].Time)
	}
	if got := fast[6].Time.UTC().Format(time.RFC3339Nano); got != "1999-12-31T23:59:59.999999Z" {
		t.Errorf("an early time is %s", got)
	}
}

// BenchmarkBatchEvents reads events of 200 bytes, of which an operation is one.
func BenchmarkBatchEvents(b *testing.B) {
	ctx := context.Background()
	db := pgtest.DB(b, "pgq")
	conn := db.Conn(b)
	const count = 200_000
	db.Exec(b, fmt.Sprintf(`select pgq.create_queue('%[1]s'), pgq.register_consumer('%[1]s', 'c')`, queue))
	db.Exec(b, fmt.Sprintf(`select pgq.insert_event('%s', 'I:id', repeat('d', 180) || i, 'public.users', null, null, null) from generate_series(1, %d) i`, queue, count))
	db.Exec(b, fmt.Sprintf(`select pgq.force_tick('%[1]s'); select pgq.ticker('%[1]s')`, queue))
	batch, err := pgq.NextBatch(ctx, conn, queue, "c")
	if err != nil || batch == nil {
		b.Fatal(batch, err)
	}
	for _, fetch := range []int{300, 5000} {
		b.Run(fmt.Sprint(fetch), func(b *testing.B) {
			b.ReportAllocs()
			cpu := ownTime(b)
			defer func() { b.ReportMetric(float64(ownTime(b)-cpu)/float64(b.N), "cpu-ns/op") }()
			for n := 0; n < b.N; {
				tx, err := conn.Begin(ctx)
				if err != nil {
					b.Fatal(err)
				}
				for _, err := range pgq.BatchEvents(ctx, tx, batch.ID, pgq.Portion{Events: fetch, Bytes: 8 << 20}, "") {
					if err != nil {
						b.Fatal(err)
					}
					if n++; n >= b.N {
						break
					}
				}
				if err := tx.Rollback(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// ownTime is the processor time that this process has had.
func ownTime(b *testing.B) time.Duration {
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
