package batch

// Events that a consumer retries or gives up, while the others of the batch are done:
// each takes effect once, and none is lost, whatever stops when.

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// choose applies each event but those whose data says otherwise: "later…" is retried once,
// "worn…" as often as it may be, and "dead…" is given up.
func choose(ctx context.Context, tx pgx.Tx, batch *Batch) error {
	for ev, err := range batch.Events() {
		if err != nil {
			return err
		}
		switch what := ev.Data.String; {
		case strings.HasPrefix(what, "later") && ev.Retry == 0:
			err = batch.Retry(ev, 0)
		case strings.HasPrefix(what, "worn"):
			err = batch.RetryFor(ev, 0, "it never works")
		case strings.HasPrefix(what, "dead"):
			err = batch.Fail(ev, "no such user: "+what)
		default:
			_, err = tx.Exec(ctx, "insert into public.applied values ($1, $2)", ev.Retry, ev.Data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// comeBack lets the events come again whose retry is due, in a batch of their own.
func (r *road) comeBack(t *testing.T) {
	t.Helper()
	r.src.WaitFor(t, "select not exists (select from pgq.retry_queue where ev_retry_after > now() and ev_dead_time is null)")
	if _, err := pgq.MaintRetryEvents(context.Background(), r.conn); err != nil {
		t.Fatal(err)
	}
	r.produce(t)
}

const (
	deadSQL    = "select ev_data, reason from pgq.dead_letter order by ev_data"
	retriesSQL = "select ev_data from pgq.retry_queue where ev_dead_time is null order by ev_data"
)

func TestConsumersPutEventsAside(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			config := r.config(r.src, r.dst)
			job, _ := setupJob(t, config.JobConfig)
			worker, err := kind.make(job, config, choose)
			if err != nil {
				t.Fatal(err)
			}
			mustDrain(t, worker) // registers it
			r.src.Exec(t, `update pgq.subscription set sub_max_retries = 1`)
			r.produce(t, "good", "later1", "dead1", "later2", "worn", "dead2", "fine")
			r.produce(t, "next")
			mustDrain(t, worker)
			if got := applied(t, kind.here(r)); !slices.Equal(got, []string{"fine", "good", "next"}) {
				t.Errorf("applied %v at first", got)
			}
			if got := r.src.Rows(t, retriesSQL); !slices.Equal(got, []string{"later1", "later2", "worn"}) {
				t.Errorf("waiting are %v", got)
			}
			r.comeBack(t)
			mustDrain(t, worker)
			if got := kind.here(r).Rows(t, "select n, data from public.applied order by n, data"); !slices.Equal(got, []string{"0|fine", "0|good", "0|next", "1|later1", "1|later2"}) {
				t.Errorf("applied %v", got)
			}
			if got, want := r.src.Rows(t, deadSQL), []string{"dead1|no such user: dead1", "dead2|no such user: dead2", "worn|it never works"}; !slices.Equal(got, want) {
				t.Errorf("dead are %q", got)
			}
			if got := r.src.Rows(t, retriesSQL); len(got) != 0 {
				t.Errorf("waiting are %v", got)
			}
		})
	}
}

func TestPutAsideSurvivesAStopAtAnyStep(t *testing.T) {
	for _, c := range []struct {
		name  string
		kinds []string
		set   func(config *RemoteConfig, who string)
		after func(r *road) // a stop
		turns bool          // before one request, after the next
	}{
		{"by the same", []string{"Consumer", "RemoteConsumer", "SerialConsumer", "CoopConsumer"}, func(*RemoteConfig, string) {}, func(*road) {}, false},
		// Another worker takes the batch over, under a new id.
		{"by another worker", []string{"Consumer", "SerialConsumer"}, func(config *RemoteConfig, who string) {
			config.Slots, config.Workers, config.SlotKey = 2, 1, "ev_type" // all in one, for the steps to be the same
			config.WorkerName, config.WorkerTimeout = who, time.Minute
		}, func(r *road) {
			r.src.Exec(t, "update pgq.subscription set sub_active = now() - interval '1 hour' where sub_batch is not null")
		}, true},
	} {
		for _, kind := range kinds {
			if slices.Contains(c.kinds, kind.name) {
				t.Run(c.name+"/"+kind.name, func(t *testing.T) {
					t.Parallel()
					stopAtEveryStep(t, kind.make, kind.here, c.set, c.after, c.turns)
				})
			}
		}
	}
}

func stopAtEveryStep(t *testing.T, make func(*Job, RemoteConfig, Handler) (Worker, error), here func(*road) *pgtest.Database,
	set func(config *RemoteConfig, who string), after func(r *road), turns bool) {
	r := setupRoad(t)
	faults := pgtest.NewFaults(t)
	config := r.config(faults.Through(t, r.src), faults.Through(t, r.dst))
	var want, dead []string
	number := 0
	produce := func() {
		var data []string
		for _, what := range []string{"good", "later", "dead", "fine"} {
			number++
			data = append(data, fmt.Sprintf("%s%05d", what, number))
		}
		r.produce(t, data...)
		want = append(want, data[0], data[1], data[3])
		dead = append(dead, data[2]+"|no such user: "+data[2])
	}
	round := func(who string) error {
		config := config
		set(&config, who)
		job, err := NewJob("test", config.JobConfig, nil)
		if err != nil {
			t.Fatal(err)
		}
		worker, err := make(job, config, choose)
		if err != nil {
			t.Fatal(err)
		}
		err = drain(worker)
		if closeErr := job.Close(); closeErr != nil {
			t.Fatal(closeErr)
		}
		return err
	}
	if err := round("first"); err != nil { // registers it
		t.Fatal(err)
	}
	produce()
	faults.Count()
	if err := round("first"); err != nil {
		t.Fatal(err)
	}
	steps := faults.Steps()
	for step := 1; step <= steps; step++ {
		for mode, cut := range map[string]func(int){"before": faults.CutBefore, "after": faults.CutAfter} {
			if turns && (step%2 == 0) != (mode == "before") {
				continue
			}
			produce()
			cut(step)
			if err := round("first"); err == nil && step < steps || !faults.Cut() {
				t.Fatalf("cut %s step %d: error %v, cut %v", mode, step, err, faults.Cut())
			}
			after(r)
			if err := round("second"); err != nil {
				t.Fatalf("cut %s step %d of %d: not recovered: %v", mode, step, steps, err)
			}
			r.comeBack(t)
			if err := round("first"); err != nil {
				t.Fatal(err)
			}
			got := here(r).Rows(t, "select data from public.applied order by data")
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("cut %s step %d of %d:\napplied %v\nwant    %v", mode, step, steps, got, want)
			}
			if got := r.src.Rows(t, deadSQL); !slices.Equal(got, dead) {
				t.Fatalf("cut %s step %d of %d:\ndead %v\nwant %v", mode, step, steps, got, dead)
			}
		}
	}
	// The target keeps no more than the last batch's.
	if n := pgtest.Value[int64](t, r.dst, "select count(*) from pgq_ext.event_aside"); n != 0 {
		t.Errorf("%d events are still noted as put aside", n)
	}
	t.Logf("stopped at each of %d requests, %d events", steps, number)
}

// A target or a queue of before 4.0 cannot do it all; what it cannot is told at once, and
// the batch stays whole.
func TestConsumersOnOldSchemasSayWhatTheyLack(t *testing.T) {
	oldExt := `create or replace function pgq_ext.version() returns text language sql as $$ select '3.1'::text $$;
		alter extension pgq_ext drop function pgq_ext.set_events_aside(text, bigint, bigint[], integer[], text[]);
		drop function pgq_ext.set_events_aside(text, bigint, bigint[], integer[], text[]);
		alter extension pgq_ext drop function pgq_ext.get_events_aside(text, bigint);
		drop function pgq_ext.get_events_aside(text, bigint)`
	oldQueue := `create or replace function pgq.version() returns text language sql as $$ select '3.5'::text $$`
	for _, c := range []struct {
		name  string
		old   func(r *road)
		event string
		kinds []string
		want  string
	}{
		{"a retry without pgq_ext 4.0", func(r *road) { r.dst.Exec(t, oldExt) }, "later", []string{"RemoteConsumer", "SerialConsumer"},
			"the database in dst_db has pgq_ext 3.1, but 4.0 or newer is needed; update it with: alter extension pgq_ext update"},
		{"giving up without pgq 4.0", func(r *road) { r.src.Exec(t, oldQueue) }, "dead", []string{"Consumer", "RemoteConsumer", "SerialConsumer", "CoopConsumer"},
			"the database in src_db has pgq 3.5, but 4.0 or newer is needed; update it with: alter extension pgq update"},
		{"a retry with pgq 3.5", func(r *road) { r.src.Exec(t, oldQueue) }, "later", []string{"Consumer", "RemoteConsumer", "SerialConsumer", "CoopConsumer"}, ""},
	} {
		for _, kind := range kinds {
			if !slices.Contains(c.kinds, kind.name) {
				continue
			}
			t.Run(c.name+"/"+kind.name, func(t *testing.T) {
				t.Parallel()
				r := setupRoad(t)
				c.old(r)
				r.register(t)
				r.produce(t, "good", c.event)
				config := r.config(r.src, r.dst)
				job, _ := setupJob(t, config.JobConfig)
				worker, err := kind.make(job, config, choose)
				if err != nil {
					t.Fatal(err)
				}
				err = drain(worker)
				got := applied(t, kind.here(r))
				switch {
				case c.want == "" && (err != nil || !slices.Equal(got, []string{"good"})):
					t.Errorf("applied %v, %v", got, err)
				case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(got) != 0):
					t.Errorf("applied %v, error %v", got, err)
				}
			})
		}
	}
}

// An event that is not of the batch would stop a consumer with a target for good, when
// the effects are there and the batch cannot be finished. It is refused at once.
func TestOnlyEventsOfTheBatchArePutAside(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			r.produce(t, "a", "b")
			config := r.config(r.src, r.dst)
			job, _ := setupJob(t, config.JobConfig)
			calls := 0
			worker, err := kind.make(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				refused := func(id int64) {
					calls++
					for _, err := range []error{batch.Retry(&pgq.Event{ID: id}, time.Second), batch.Fail(&pgq.Event{ID: id}, "no")} {
						if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("put event %d of batch %d of queue %q aside: it is none of", id, batch.ID, testQueue)) {
							t.Errorf("error = %v", err)
						}
					}
				}
				refused(0)
				for ev, err := range batch.Events() {
					if err != nil {
						return err
					}
					refused(ev.ID + 1)
					if ev.Data.String == "a" {
						refused(ev.ID - 1)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			mustDrain(t, worker)
			if calls != 4 {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

// Two processes under one name carry out what is noted once.
func TestTwoProcessesPutAsideOnce(t *testing.T) {
	for _, kind := range kinds {
		if kind.name != "RemoteConsumer" && kind.name != "SerialConsumer" {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			r.produce(t, "later", "dead", "good")
			// Both have applied or found the batch as done, and only then end it.
			faults := pgtest.NewFaults(t)
			config := r.config(faults.Through(t, r.src), faults.Through(t, r.dst))
			job, _ := setupJob(t, config.JobConfig)
			worker, err := kind.make(job, config, choose)
			if err != nil {
				t.Fatal(err)
			}
			lock := r.src.Conn(t)
			ctx := context.Background()
			held, err := lock.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := held.Exec(ctx, "lock table pgq.retry_queue in exclusive mode"); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 2)
			go func() { ended <- drain(worker) }()
			const stuckSQL = `select count(*) = $1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
			r.src.WaitFor(t, stuckSQL, 1)
			other, log := setupJob(t, r.config(r.src, r.dst).JobConfig)
			rival, err := kind.make(other, r.config(r.src, r.dst), choose)
			if err != nil {
				t.Fatal(err)
			}
			go func() { ended <- drain(rival) }()
			r.src.WaitFor(t, stuckSQL, 2)
			if err := held.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := <-ended; err != nil {
					t.Errorf("error %v", err)
				}
			}
			if !strings.Contains(log.String(), "batch was applied before") {
				t.Errorf("the rival's log:\n%s", log)
			}
			if got := r.src.Rows(t, "select ev_data, ev_retry from pgq.retry_queue order by 1"); !slices.Equal(got, []string{"dead|0", "later|1"}) {
				t.Errorf("put aside are %v", got)
			}
			r.comeBack(t)
			mustDrain(t, rival)
			if got := applied(t, r.dst); !slices.Equal(got, []string{"good", "later"}) {
				t.Errorf("applied %v", got)
			}
		})
	}
}
