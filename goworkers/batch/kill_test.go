package batch

// Consumers stopped between any two of their steps: nothing is lost, nothing is
// doubled.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestConsumersSurviveAStopAtAnyStep(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			faults := pgtest.NewFaults(t)
			config := r.config(faults.Through(t, r.src), faults.Through(t, r.dst))
			config.LoopDelay = time.Second // it listens
			r.notify(t, true)

			var want []string
			produce := func() {
				for _, size := range []int{3, 1} { // with pgq_lazy_fetch = 2: full and partial portions
					var data []string
					for range size {
						data = append(data, fmt.Sprintf("%05d", len(want)))
						want = append(want, data[len(data)-1])
					}
					r.produce(t, data...)
				}
			}
			start := func() (*Job, Worker) {
				job, err := NewJob("test", config.JobConfig, nil)
				if err != nil {
					t.Fatal(err)
				}
				worker, err := kind.make(job, config, apply)
				if err != nil {
					t.Fatal(err)
				}
				return job, worker
			}
			stop := func(job *Job) {
				if err := job.Close(); err != nil {
					t.Fatal(err)
				}
			}

			// How many steps are there?
			produce()
			faults.Count()
			job, worker := start()
			mustDrain(t, worker)
			stop(job)
			steps := faults.Steps()
			if steps < 15 {
				t.Fatalf("two batches took only %d requests", steps)
			}
			for step := 1; step <= steps; step++ {
				for mode, cut := range map[string]func(int){"before": faults.CutBefore, "after": faults.CutAfter} {
					produce()
					cut(step)
					job, worker := start()
					err := drain(worker)
					if err == nil && step < steps || !faults.Cut() {
						t.Fatalf("cut %s step %d: error %v, cut %v", mode, step, err, faults.Cut())
					}
					if (step%2 == 0) == (mode == "before") {
						job.DropConnections() // as Job.Run does after an error
					} else { // the process is gone
						stop(job)
						job, worker = start()
					}
					if err := drain(worker); err != nil {
						t.Fatalf("cut %s step %d of %d: not recovered: %v", mode, step, steps, err)
					}
					stop(job)
					if got := applied(t, kind.here(r)); !slices.Equal(got, want) {
						t.Fatalf("cut %s step %d of %d:\napplied %v\nwant    %v", mode, step, steps, got, want)
					}
				}
			}
			t.Logf("stopped before and after each of %d requests, %d events", steps, len(want))
		})
	}
}

// consumerEnv makes this program a consumer, with the ini file that it names.
const consumerEnv = "BATCH_TEST_CONSUMER"

func consume(path string) {
	var cfg struct {
		RemoteConfig
		Kind string `ini:"kind" required:"true"`
	}
	err := mainRun(context.Background(), "consumer", &cfg, []string{path}, os.Stdout, os.Stderr, func(job *Job) (Worker, error) {
		for _, kind := range kinds {
			if kind.name == cfg.Kind {
				return kind.make(job, cfg.RemoteConfig, apply)
			}
		}
		return nil, Usagef("no kind %q", cfg.Kind)
	})
	os.Exit(Report(os.Stderr, "consumer", err))
}

// process runs this program again, with one variable more, until done says true; then
// it is killed.
func process(t *testing.T, variable, what string, done func() bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	process := exec.Command(self)
	process.Env = append(os.Environ(), variable)
	process.Stderr = &out
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = process.Process.Kill()
		_ = process.Wait()
		if t.Failed() {
			t.Logf("the process said:\n%s", out.String())
		}
	}()
	pgtest.Eventually(t, time.Minute, what, done)
}

// finishedSQL says that everything is done at the queue.
const finishedSQL = `select bool_and(sub_batch is null) and max(sub_last_tick) = (select max(tick_id) from pgq.tick) from pgq.subscription`

// The same with a process that is killed, and another one that goes on: also between the
// target's commit and the end of the batch, so that the batch comes twice.
func TestAConsumerProcessIsKilledAtAnyStep(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			r.notify(t, true)
			faults := pgtest.NewFaults(t)
			ini := writeIni(t, fmt.Sprintf("[consumer]\nkind = %s\njob_name = %s\nqueue_name = %s\npgq_lazy_fetch = 2\nsrc_db = %s\ndst_db = %s\n",
				kind.name, testConsumer, testQueue, faults.Through(t, r.src).DSN, faults.Through(t, r.dst).DSN))
			var want []string
			produce := func() {
				t.Helper()
				data := fmt.Sprintf("%05d", len(want))
				want = append(want, data)
				r.produce(t, data)
			}
			all := func() bool {
				return len(applied(t, kind.here(r))) >= len(want) && pgtest.Value[bool](t, r.src, finishedSQL)
			}
			produce()
			faults.Count()
			process(t, consumerEnv+"="+ini, "the events are applied", all)
			steps := faults.Steps()
			for step := 1; step <= steps; step++ {
				produce()
				if step%2 == 0 {
					faults.CutBefore(step)
				} else {
					faults.CutAfter(step)
				}
				process(t, consumerEnv+"="+ini, fmt.Sprintf("step %d of %d comes", step, steps), faults.Cut)
			}
			faults.Count()
			process(t, consumerEnv+"="+ini, "the events are applied", all)
			if got := applied(t, kind.here(r)); !slices.Equal(got, want) {
				t.Errorf("applied %v\nwant    %v", got, want)
			}
			t.Logf("killed at each of %d steps", steps)
		})
	}
}

// The kill test is worth something only if it can fail: a handler that writes
// past its transaction must be caught.
func TestAStopShowsEffectsOutsideTheTransaction(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	faults := pgtest.NewFaults(t)
	config := r.config(faults.Through(t, r.src), faults.Through(t, r.dst))
	aside := r.dst.Conn(t)
	careless := func(ctx context.Context, _ pgx.Tx, batch *Batch) error {
		for ev, err := range batch.Events() {
			if err != nil {
				return err
			}
			if _, err := aside.Exec(ctx, "insert into public.applied values ($1, $2)", ev.ID, ev.Data); err != nil {
				return err
			}
		}
		return nil
	}
	for step := 1; step <= 20; step++ {
		r.produce(t, fmt.Sprint(step))
		faults.CutBefore(step)
		for range 2 {
			job, _ := setupJob(t, config.JobConfig)
			worker, err := NewRemoteConsumer(job, config, careless)
			if err != nil {
				t.Fatal(err)
			}
			_ = drain(worker)
		}
	}
	doubled := pgtest.Value[int](t, r.dst, "select count(*) - count(distinct data) from public.applied")
	if doubled == 0 {
		t.Error("no step doubled an event of a careless handler")
	}
}

// Servers that go away in the middle of a batch and come back, under the job's own loop:
// the source's, while the handler has applied some of the events, and the target's.
func TestConsumersGoOnAfterARestartOfAServer(t *testing.T) {
	t.Parallel()
	servers := map[string]*pgtest.PrivateServer{"source": pgtest.Server(t), "target": pgtest.Server(t)}
	var odd = []string{"Łódź 'quoted' \\ back", "", "tab\tand\nline", strings.Repeat("long ", 20_000)}
	type mode struct {
		name  string
		sides []string
		make  func(*Job, RemoteConfig, Handler) (Worker, error)
		here  func(*road) *pgtest.Database
	}
	var modes []mode
	for _, kind := range kinds {
		m := mode{kind.name, []string{"source"}, kind.make, kind.here}
		if strings.HasPrefix(kind.name, "Remote") || strings.HasPrefix(kind.name, "Serial") {
			m.sides = append(m.sides, "target")
		}
		modes = append(modes, m)
	}
	for _, m := range modes {
		for _, side := range m.sides {
			t.Run(m.name+"/"+side, func(t *testing.T) {
				r := &road{src: servers["source"].DB(t, "pgq", "pgq_coop"), dst: servers["target"].DB(t, "pgq_ext")}
				r.conn = r.src.Conn(t)
				if _, err := pgq.CreateQueue(context.Background(), r.conn, testQueue); err != nil {
					t.Fatal(err)
				}
				for _, db := range []*pgtest.Database{r.src, r.dst} {
					db.Exec(t, "create table public.applied (n int, data text)")
				}
				r.register(t)
				config := r.config(r.src, r.dst)
				config.LoopDelay, config.ExceptionSleep = time.Millisecond, time.Millisecond
				config.LogLevel = "info"
				job, log := setupJob(t, config.JobConfig)
				restart := true
				worker, err := m.make(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
					for ev, err := range batch.Events() {
						if err != nil {
							return err
						}
						if _, err := tx.Exec(ctx, "insert into public.applied values ($1, $2)", ev.ID, ev.Data); err != nil {
							return err
						}
						if restart && batch.read == 2 {
							restart = false
							servers[side].Restart(t)
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				ended := make(chan error, 1)
				r.produce(t, odd...)
				go func() { ended <- job.Run(ctx, worker.Work) }()
				m.here(r).WaitFor(t, "select count(*) = $1 from public.applied", len(odd))
				r.conn = r.src.Conn(t)
				r.produce(t, "b")
				r.src.WaitFor(t, finishedSQL)
				pgtest.Eventually(t, 10*time.Second, "loss and recovery are in the log", func() bool {
					return strings.Contains(log.String(), "work failed") && strings.Contains(log.String(), "recovered")
				})
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run = %v", err)
				}
				got := pgtest.Value[[]string](t, m.here(r), "select array_agg(data order by n) from public.applied")
				if want := append(slices.Clone(odd), "b"); !slices.Equal(got, want) {
					t.Errorf("applied %.200q", got)
				}
			})
		}
	}
}
