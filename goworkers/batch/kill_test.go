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
	var cfg RemoteConfig
	err := mainRun(context.Background(), "consumer", &cfg, []string{path}, os.Stdout, os.Stderr, func(job *Job) (Worker, error) {
		return NewRemoteConsumer(job, cfg, apply)
	})
	os.Exit(Report(os.Stderr, "consumer", err))
}

// The same with a process that is killed, and another one that goes on.
func TestAConsumerProcessIsKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.notify(t, true)
	faults := pgtest.NewFaults(t)
	ini := writeIni(t, fmt.Sprintf("[consumer]\njob_name = %s\nqueue_name = %s\npgq_lazy_fetch = 2\nsrc_db = %s\ndst_db = %s\n",
		testConsumer, testQueue, faults.Through(t, r.src).DSN, faults.Through(t, r.dst).DSN))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := func(what string, done func() bool) {
		t.Helper()
		var out bytes.Buffer
		process := exec.Command(self)
		process.Env = append(os.Environ(), consumerEnv+"="+ini)
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
	var want []string
	produce := func() {
		t.Helper()
		data := fmt.Sprintf("%05d", len(want))
		want = append(want, data)
		r.produce(t, data)
	}
	all := func() bool { return len(applied(t, r.dst)) >= len(want) }
	finished := func() bool {
		return pgtest.Value[bool](t, r.src, `select sub_batch is null and sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription`)
	}
	produce()
	faults.Count()
	run("the events are applied", func() bool { return all() && finished() })
	steps := faults.Steps()
	for step := 1; step <= steps; step++ {
		produce()
		if step%2 == 0 {
			faults.CutBefore(step)
		} else {
			faults.CutAfter(step)
		}
		run(fmt.Sprintf("step %d of %d comes", step, steps), faults.Cut)
	}
	faults.Count()
	run("the events are applied", func() bool { return all() && finished() })
	if got := applied(t, r.dst); !slices.Equal(got, want) {
		t.Errorf("applied %v\nwant    %v", got, want)
	}
	t.Logf("killed at each of %d steps", steps)
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

// A server that goes away and comes back, under the job's own loop.
func TestConsumerGoesOnAfterARestartOfItsServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	r := &road{src: server.DB(t, "pgq"), dst: pgtest.DB(t, "pgq_ext")}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.conn = r.src.Conn(t)
	if _, err := pgq.CreateQueue(ctx, r.conn, testQueue); err != nil {
		t.Fatal(err)
	}
	r.dst.Exec(t, "create table public.applied (n int, data text)")
	r.register(t)
	config := r.config(r.src, r.dst)
	config.LoopDelay, config.ExceptionSleep = time.Millisecond, time.Millisecond
	config.LogLevel = "info"
	job, log := setupJob(t, config.JobConfig)
	worker, err := NewRemoteConsumer(job, config, apply)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- job.Run(ctx, worker.Work) }()

	r.produce(t, "a")
	r.dst.WaitFor(t, "select count(*) = 1 from public.applied")
	server.Stop(t)
	pgtest.Eventually(t, 10*time.Second, "the loss is in the log", func() bool { return strings.Contains(log.String(), "work failed") })
	server.Start(t)
	r.conn = r.src.Conn(t)
	r.produce(t, "b")
	r.dst.WaitFor(t, "select count(*) = 2 from public.applied")
	pgtest.Eventually(t, 10*time.Second, "the recovery is in the log", func() bool { return strings.Contains(log.String(), "recovered") })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	if got := applied(t, r.dst); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("applied %v", got)
	}
}
