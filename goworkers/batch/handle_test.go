package batch

// Handlers of single events: what becomes of each, and of what they wrote.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// order is an event of these tests: what the handler shall do, in words.
type order struct {
	Do string
}

// orders makes a batch of events that say what to do.
func (r *road) orders(t *testing.T, list ...string) {
	t.Helper()
	var data []string
	for _, do := range list {
		data = append(data, pgq.Row{"do": pgq.Text(do)}.Encode())
	}
	r.produce(t, data...)
}

var errBroken = errors.New("the handler broke")

// obey writes each word of its order down, but for those that say something else.
func obey(ctx context.Context, tx pgx.Tx, ev *pgq.Event, v *order) error {
	for _, word := range strings.Fields(v.Do) {
		var err error
		switch word {
		case "retry":
			return Retry(0)
		case "reason":
			return fmt.Errorf("wrapped: %w", RetryFor(0, "not now"))
		case "dead":
			return DeadLetter("no sense in it")
		case "break":
			return errBroken
		case "fail":
			_, err = tx.Exec(ctx, "select 1/0")
		case "swallow":
			_, _ = tx.Exec(ctx, "select 1/0")
		case "deadly":
			_, err = tx.Exec(ctx, "select 1/0")
			return errors.Join(DeadLetter(err.Error()), err)
		case "commit":
			err = tx.Commit(ctx)
		case "rollback":
			err = tx.Rollback(ctx)
		case "batch":
			var work pgx.Batch
			work.Queue("insert into public.applied values ($1, $2)", ev.ID, word)
			err = tx.SendBatch(ctx, &work).Close()
		case "copy":
			_, err = tx.CopyFrom(ctx, pgx.Identifier{"public", "applied"}, []string{"n", "data"}, pgx.CopyFromRows([][]any{{int32(ev.ID), word}}))
		case "conn":
			_, err = tx.Conn().Exec(ctx, "insert into public.applied values ($1, $2)", ev.ID, word)
		case "query":
			rows, _ := tx.Query(ctx, "insert into public.applied values ($1, $2) returning n", ev.ID, word)
			_, err = pgx.CollectRows(rows, pgx.RowTo[int])
		case "inner":
			var inner pgx.Tx
			if inner, err = tx.Begin(ctx); err == nil {
				_, err = inner.Exec(ctx, "insert into public.applied values ($1, $2)", ev.ID, word)
				err = errors.Join(err, inner.Commit(ctx))
			}
		case "prepare":
			_, err = tx.Prepare(ctx, "no_such_table", "select * from public.nothing")
		case "large":
			objects := tx.LargeObjects()
			var id uint32
			if id, err = objects.Create(ctx, 0); err == nil {
				var object *pgx.LargeObject
				if object, err = objects.Open(ctx, id, pgx.LargeObjectModeWrite); err == nil {
					_, err = io.WriteString(object, word)
				}
			}
		default:
			err = tx.QueryRow(ctx, "insert into public.applied values ($1, $2) returning n", ev.ID, word).Scan(new(int))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// handled makes a consumer with obey; it works in the queue's own database.
func (r *road) handled(t *testing.T, cfg BadEvents, options ...HandleOption) (Worker, *Job, *console) {
	t.Helper()
	config := r.config(r.src, r.dst).ConsumerConfig
	job, log := setupJob(t, config.JobConfig)
	worker, err := NewConsumer(job, config, Handle(job, cfg, obey, options...))
	if err != nil {
		t.Fatal(err)
	}
	return worker, job, log
}

func TestHandleDoesWithEachEventWhatItSays(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	worker, job, log := r.handled(t, BadEvents{})
	r.orders(t, "a", "b retry", "c", "dead", "d deadly", "e", "retry", "f reason", "", "g")
	mustDrain(t, worker)
	if got, want := applied(t, r.src), []string{"a", "c", "e", "g"}; !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
	if got := r.src.Rows(t, "select reason from pgq.dead_letter order by ev_id"); len(got) != 2 || got[0] != "no sense in it" || !strings.Contains(got[1], "division by zero") {
		t.Errorf("given up: %q", got)
	}
	if got := r.src.Rows(t, "select ev_data from pgq.retry_queue where ev_dead_time is null order by ev_id"); !slices.Equal(got, []string{"do=b+retry", "do=retry", "do=f+reason"}) {
		t.Errorf("to be tried again: %q", got)
	}
	if line := job.Stats.Flush(); !strings.Contains(line, "dead: 2") || !strings.Contains(line, "retry: 3") || !strings.Contains(line, "count: 10") {
		t.Errorf("statistics %q", line)
	}
	if said := log.String(); strings.Count(said, "event given up") != 2 || !strings.Contains(said, "queue=events") || !strings.Contains(said, "reason=\"no sense in it\"") {
		t.Errorf("the log lacks the events that were given up:\n%s", said)
	}
	// Those to retry come again.
	r.src.Exec(t, "select pgq.maint_retry_events()")
	r.produce(t, "do=h")
	mustDrain(t, worker)
	if got := r.src.Rows(t, "select ev_retry, ev_data from pgq.retry_queue where ev_dead_time is null order by ev_id"); !slices.Equal(got, []string{"2|do=b+retry", "2|do=retry", "2|do=f+reason"}) {
		t.Errorf("to be tried again: %q", got)
	}
}

// Whatever way an event writes, it is undone when the event is put aside, and what events
// around it wrote is not.
func TestHandleUndoesAnEventAlone(t *testing.T) {
	for _, way := range []string{"exec", "batch", "copy", "conn", "query", "inner", "large"} {
		for _, end := range []string{"dead", "retry", "deadly"} {
			t.Run(way+"/"+end, func(t *testing.T) {
				t.Parallel()
				r := setupRoad(t)
				r.register(t)
				worker, _, _ := r.handled(t, BadEvents{})
				// LazyFetch is 2: portions are fetched between savepoints.
				r.orders(t, "a", "dead", way+" "+end, "b", way+" "+end, "dead", "c", "c2", way+" "+end)
				mustDrain(t, worker)
				if got, want := applied(t, r.src), []string{"a", "b", "c", "c2"}; !slices.Equal(got, want) {
					t.Errorf("applied %v, want %v", got, want)
				}
				if got := r.src.Rows(t, "select count(*) from pg_largeobject"); got[0] != "0" {
					t.Errorf("%s large objects stayed", got[0])
				}
				if got := pgtest.Value[int](t, r.src, "select count(*)::int from pgq.retry_queue"); got != 5 {
					t.Errorf("%d events were put aside, want 5", got)
				}
			})
		}
	}
}

func TestHandleUndoesTheBatch(t *testing.T) {
	for _, c := range []struct {
		name, order, want string
		options           []HandleOption
	}{
		{"an error", "x break", ": the handler broke", nil},
		{"a failed statement", "x fail", ": ERROR: division by zero", nil},
		{"a failed statement that is kept secret", "x swallow", ": one of its statements failed, and the handler says that it is done", nil},
		{"a failed prepare", "prepare", `relation "public.nothing" does not exist`, nil},
		{"a commit", "x commit", ": the transaction is the batch's", nil},
		{"a rollback", "rollback", ": the transaction is the batch's", nil},
		{"no way back", "x deadly", ": one of its statements failed, which undoes the batch, as there are no savepoints; it was to be given up: ERROR: division", []HandleOption{NoSavepoints}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			worker, _, _ := r.handled(t, BadEvents{}, c.options...)
			r.orders(t, "a", "retry", c.order, "b")
			err := drain(worker)
			if err == nil || !strings.Contains(err.Error(), `of queue "events": event 3`) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
			if got := applied(t, r.src); len(got) != 0 {
				t.Errorf("applied %v", got)
			}
			if got := r.src.Rows(t, "select ev_data from pgq.retry_queue"); len(got) != 0 {
				t.Errorf("put aside %v", got)
			}
		})
	}
}

func TestHandleWithoutSavepointsKeepsWhatWasWritten(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	worker, _, _ := r.handled(t, BadEvents{}, NoSavepoints)
	r.orders(t, "a", "b dead", "c")
	mustDrain(t, worker)
	if got, want := applied(t, r.src), []string{"a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}

// An event that leaves the database alone costs it nothing.
func TestHandleMakesSavepointsOnlyForUse(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	faults := pgtest.NewFaults(t)
	steps := func(order string) int {
		t.Helper()
		r.orders(t, order, order, order, order)
		config := r.config(faults.Through(t, r.src), r.dst).ConsumerConfig
		config.LazyFetch = 0
		job, _ := setupJob(t, config.JobConfig)
		worker, err := NewConsumer(job, config, Handle(job, BadEvents{}, obey))
		if err != nil {
			t.Fatal(err)
		}
		faults.Count()
		mustDrain(t, worker)
		return faults.Steps()
	}
	idle := steps("")
	if busy := steps("conn"); busy < idle+8 || busy > idle+12 {
		t.Errorf("4 events that write cost %d requests more than 4 that do not", busy-idle)
	}
}

func TestBadEventsGoTheWayOfTheConfiguration(t *testing.T) {
	for _, c := range []struct {
		way        string
		applied    []string
		err        string
		dead, back int
		log        string
	}{
		{"", nil, `of queue "events": event 2: field "do": is NULL; the batch comes again`, 0, 0, ""},
		{"deadletter", []string{"a", "b"}, "", 1, 0, "event put aside"},
		{"retry", []string{"a", "b"}, "", 0, 1, "event put aside"},
		{"stop", nil, `of queue "events": event 2: field "do": is NULL`, 0, 0, ""},
		{"other", nil, `on_bad_event = "other": must be one of`, 0, 0, ""},
	} {
		t.Run("on_bad_event = "+c.way, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			worker, job, log := r.handled(t, BadEvents{OnBadEvent: c.way, BadEventRetry: time.Minute})
			r.produce(t, "do=a", "do", "do=b")
			err := drain(worker)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if got := applied(t, r.src); !slices.Equal(got, c.applied) {
				t.Errorf("applied %v, want %v", got, c.applied)
			}
			dead := r.src.Rows(t, "select reason from pgq.dead_letter")
			if len(dead) != c.dead || c.dead > 0 && dead[0] != `field "do": is NULL` {
				t.Errorf("given up: %q", dead)
			}
			// A minute has passed when the event was made, by the server's clock.
			back := r.src.Rows(t, "select ev_data from pgq.retry_queue where ev_retry_after between now() + '50 s' and now() + '70 s'")
			if len(back) != c.back {
				t.Errorf("to be tried again: %q", back)
			}
			if c.log == "" {
				return
			}
			for _, want := range []string{c.log, "queue=events", "event_id=2", "field=do", "is NULL"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log lacks %q:\n%s", want, log)
				}
			}
			if line := job.Stats.Flush(); strings.Contains(line, "dead: 1") != (c.dead == 1) || strings.Contains(line, "retry: 1") != (c.back == 1) {
				t.Errorf("statistics %q", line)
			}
		})
	}
}

// A batch from which nothing can be put aside stops at a bad event, and says why when it
// was told to do something else.
func TestBadEventsStopWhereTheyCannotBePutAside(t *testing.T) {
	t.Parallel()
	job, log := setupJob(t, JobConfig{})
	b := &Batch{Batch: &pgq.Batch{ID: 3, Queue: "events", Consumer: "c"}}
	bad := &columnError{"do", errors.New("is NULL")}
	for way, want := range map[string]string{
		"":           `event 7: field "do": is NULL; the batch comes again`,
		"deadletter": `event 7: field "do": is NULL; on_bad_event = deadletter is not possible: put event 7`,
		"retry":      `event 7: field "do": is NULL; on_bad_event = retry is not possible: put event 7`,
	} {
		err := (&BadEvents{OnBadEvent: way}).PutAside(job, b, &pgq.Event{ID: 7}, bad)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("on_bad_event = %s: %v, want %s", way, err, want)
		}
	}
	if strings.Contains(log.String(), "put aside") {
		t.Errorf("the log tells of what was not done:\n%s", log)
	}
}

// Consumers with a target are handled as well.
func TestHandleWritesToTheTarget(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	config := r.config(r.src, r.dst)
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewSerialConsumer(job, config, Handle(job, BadEvents{OnBadEvent: "stop"}, obey))
	if err != nil {
		t.Fatal(err)
	}
	r.orders(t, "a", "batch", "c")
	mustDrain(t, worker)
	r.orders(t, "d", "e break")
	if err := drain(worker); !errors.Is(err, errBroken) {
		t.Errorf("%v, want the handler's error", err)
	}
	if got, want := applied(t, r.dst), []string{"a", "batch", "c"}; !slices.Equal(got, want) {
		t.Errorf("applied %v, want %v", got, want)
	}
}

// A connection lost at any step of events with savepoints: each event counts once.
func TestHandleSurvivesAStopAtAnyStep(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	faults := pgtest.NewFaults(t)
	config := r.config(faults.Through(t, r.src), r.dst).ConsumerConfig
	var want []string
	dead := 0
	produce := func() {
		t.Helper()
		first, second := fmt.Sprintf("%05d", len(want)), fmt.Sprintf("%05d", len(want)+1)
		want = append(want, first, second)
		dead += 2
		r.orders(t, first, "x deadly", second, "y dead")
	}
	run := func() error {
		job, _ := setupJob(t, config.JobConfig)
		worker, err := NewConsumer(job, config, Handle(job, BadEvents{}, obey))
		if err != nil {
			t.Fatal(err)
		}
		return drain(worker)
	}
	produce()
	faults.Count()
	if err := run(); err != nil {
		t.Fatal(err)
	}
	steps := faults.Steps()
	for step := 1; step <= steps; step++ {
		produce()
		if step%2 == 0 {
			faults.CutBefore(step)
		} else {
			faults.CutAfter(step)
		}
		_ = run() // it may or may not have noticed
		if !faults.Cut() {
			t.Fatalf("step %d of %d did not come", step, steps)
		}
		if err := run(); err != nil {
			t.Fatalf("step %d of %d: not recovered: %v", step, steps, err)
		}
		if got := applied(t, r.src); !slices.Equal(got, want) {
			t.Fatalf("step %d of %d: applied %v, want %v", step, steps, got, want)
		}
		if got := pgtest.Value[int](t, r.src, "select count(*)::int from pgq.dead_letter"); got != dead {
			t.Fatalf("step %d of %d: %d events given up, want %d", step, steps, got, dead)
		}
	}
	t.Logf("stopped at each of %d requests", steps)
}

// The whole of it in a program with several workers, whose handler is called by all.
func TestHandleServesSeveralWorkers(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	config := r.config(r.src, r.dst).ConsumerConfig
	config.Slots, config.Workers, config.SlotKey = 4, 4, "ev_data"
	config.WorkerTimeout, config.LoopDelay = time.Minute, time.Millisecond
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewConsumer(job, config, Handle(job, BadEvents{}, obey))
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Register(context.Background()); err != nil {
		t.Fatal(err)
	}
	var list, want []string
	for n := range 200 {
		word := fmt.Sprintf("%05d", n)
		if n%10 == 0 {
			word = "dead"
		} else {
			want = append(want, word)
		}
		list = append(list, word)
	}
	r.orders(t, list...)
	mustDrain(t, worker)
	if got := applied(t, r.src); !slices.Equal(got, want) {
		t.Errorf("applied %v\nwant %v", got, want)
	}
	if got := pgtest.Value[int](t, r.src, "select count(*)::int from pgq.dead_letter"); got != 20 {
		t.Errorf("%d events given up, want 20", got)
	}
}
