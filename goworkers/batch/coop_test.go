package batch

// Workers that share the batches of a consumer: each batch once, whatever happens to
// the workers.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func (r *road) coop(name string, timeout time.Duration) CoopConfig {
	return CoopConfig{ConsumerConfig: r.config(r.src, r.dst).ConsumerConfig, SubconsumerName: name, SubconsumerTimeout: timeout}
}

func TestSubconsumersShareBatches(t *testing.T) {
	t.Parallel()
	r := setupKeyed(t)
	r.register(t)
	var workers []Worker
	begun, end := make(chan string, 2), make(chan struct{})
	for _, name := range []string{"one", "two"} {
		config := r.coop(name, 0)
		job, _ := setupJob(t, config.JobConfig)
		worker, err := NewCoopConsumer(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
			if batch.Consumer != testConsumer+"."+name {
				t.Errorf("the batch is of %q", batch.Consumer)
			}
			select {
			case begun <- name:
				<-end
			default:
			}
			return note(name)(ctx, tx, batch)
		})
		if err != nil {
			t.Fatal(err)
		}
		workers = append(workers, worker)
	}
	for n := range 6 {
		r.produceKeyed(t, 1, n, 1)
	}
	done := make(chan error, 2)
	for _, worker := range workers {
		go func() { done <- drain(worker) }()
	}
	// Both are at work at the same time, on different batches.
	if a, b := <-begun, <-begun; a == b {
		t.Errorf("%s was called twice", a)
	}
	close(end)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := r.src.Rows(t, "select n from public.log order by n"); !slices.Equal(got, []string{"0", "1", "2", "3", "4", "5"}) {
		t.Errorf("applied %v", got)
	}
	if n := pgtest.Value[int](t, r.src, "select count(distinct worker) from public.log"); n != 2 {
		t.Errorf("%d workers did it", n)
	}
}

// coopEnv makes this program a subconsumer, with the ini file that it names.
const coopEnv = "BATCH_TEST_COOP"

func cooperate(path string) {
	var cfg CoopConfig
	err := mainRun(context.Background(), "worker", &cfg, []string{path}, os.Stdout, os.Stderr, func(job *Job) (Worker, error) {
		return NewCoopConsumer(job, cfg, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
			if err := note(cfg.SubconsumerName)(ctx, tx, batch); err != nil {
				return err
			}
			// What the test holds stops the worker between its effects and the end.
			_, err := tx.Exec(ctx, "select pg_advisory_xact_lock_shared(42)")
			return err
		})
	})
	os.Exit(Report(os.Stderr, "worker", err))
}

// startSub starts a process that shares the consumer.
func (r *road) startSub(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ini := writeIni(t, fmt.Sprintf("[worker]\njob_name = %s\nqueue_name = %s\nconsumer_name = %s\nsrc_db = %s application_name=%s\n"+
		"subconsumer_name = %s\nsubconsumer_timeout = %g\nloop_delay = 0.02\nexception_sleep = 0.05\nlog_level = debug\n",
		name, testQueue, testConsumer, r.src.DSN, name, name, workerTimeout))
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), coopEnv+"="+ini)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
	return cmd
}

// checkNumbers says that both keys have the events 0 … count-1, each once; batches have no
// order.
func checkNumbers(t *testing.T, db *pgtest.Database, count int) {
	t.Helper()
	row := fmt.Sprintf("|%d|%[1]d|0|%d", count, count-1)
	if got := db.Rows(t, "select key, count(*), count(distinct n), min(n), max(n) from public.log group by key order by key"); !slices.Equal(got, []string{"key0" + row, "key1" + row}) {
		t.Errorf("applied %v", got)
	}
}

const groupDoneSQL = `select not exists (select from pgq.subscription where sub_batch is not null)
	and (select sub_last_tick = (select max(tick_id) from pgq.tick) from pgq.subscription s join pgq.consumer on co_id = sub_consumer where co_name = $1)`

// A worker whose process is killed, or that is not heard of and comes back late, loses
// its batch to another; nothing is lost or doubled.
func TestASubconsumersBatchGoesToAnother(t *testing.T) {
	for _, ending := range []string{"killed", "stopped, and comes back"} {
		t.Run(ending, func(t *testing.T) {
			t.Parallel()
			r := setupKeyed(t)
			r.register(t)
			release := hold(t, r.src)
			r.produceKeyed(t, 2, 0, 3)
			victim := r.startSub(t, "victim")
			r.src.WaitFor(t, waitingSQL, "victim")
			r.produceKeyed(t, 2, 3, 3)
			if ending == "killed" {
				if err := victim.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				// The server does not see at once that a waiting client is gone.
				r.src.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victim' and datname = current_database()`)
			} else {
				halt(t, victim)
			}
			release()
			second := r.startSub(t, "second")
			r.src.WaitFor(t, groupDoneSQL, testConsumer)
			checkNumbers(t, r.src, 6)
			if n := pgtest.Value[int64](t, r.src, "select count(*) from public.log where worker = 'victim'"); n != 0 {
				t.Errorf("the victim noted %d events", n)
			}
			if ending != "killed" {
				// It goes on where it was: its handler ends, but its batch is gone.
				if err := victim.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
			r.produceKeyed(t, 2, 6, 3)
			r.src.WaitFor(t, groupDoneSQL, testConsumer)
			for _, cmd := range []*exec.Cmd{second, victim} {
				_ = cmd.Process.Signal(syscall.SIGINT)
			}
			checkNumbers(t, r.src, 9)
		})
	}
}

// A handler may take longer than subconsumer_timeout: its worker is heard of meanwhile.
func TestABusySubconsumerKeepsItsBatch(t *testing.T) {
	t.Parallel()
	r := setupKeyed(t)
	config := r.coop("slow", 300*time.Millisecond)
	working, end := make(chan struct{}), make(chan struct{})
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewCoopConsumer(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
		close(working)
		<-end
		return note("slow")(ctx, tx, batch)
	})
	if err != nil {
		t.Fatal(err)
	}
	mustDrain(t, worker)
	r.produceKeyed(t, 3, 0, 2)
	done := make(chan error, 1)
	go func() { done <- drain(worker) }()
	<-working
	r.heardOf(t)
	if b, err := pgq.CoopNextBatch(context.Background(), r.conn, testQueue, testConsumer, "other", pgq.Wish{}, 30*time.Minute); err != nil || b != nil {
		t.Errorf("another worker got %+v, %v", b, err)
	}
	close(end)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkKeyed(t, r.src, 3, 2)
}

// When another worker has finished the batch, this one's effects are undone.
func TestASubconsumerThatIsLateKeepsNothing(t *testing.T) {
	t.Parallel()
	r := setupKeyed(t)
	r.register(t)
	config := r.coop("slow", 0)
	job, _ := setupJob(t, config.JobConfig)
	ctx := context.Background()
	worker, err := NewCoopConsumer(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
		if err := note("slow")(ctx, tx, batch); err != nil {
			return err
		}
		// As if it had not been heard of for an hour.
		r.src.Exec(t, "update pgq.subscription set sub_active = now() - interval '1 hour' where sub_batch is not null")
		taken, err := pgq.CoopNextBatch(ctx, r.conn, testQueue, testConsumer, "other", pgq.Wish{}, time.Minute)
		if err != nil || taken == nil || taken.ID != batch.ID || taken.Tick != batch.Tick || taken.PrevTick != batch.PrevTick || !taken.TickTime.Equal(batch.TickTime) {
			t.Errorf("the other got %+v, %v; want %+v", taken, err, batch.Batch)
		}
		finished, err := pgq.CoopFinishBatch(ctx, r.conn, batch.ID)
		if err != nil || !finished {
			t.Errorf("the other finished: %v, %v", finished, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.produceKeyed(t, 1, 0, 1)
	if err := drain(worker); !errors.Is(err, errTakenOver) {
		t.Errorf("error %v", err)
	}
	if n := pgtest.Value[int64](t, r.src, "select count(*) from public.log"); n != 0 {
		t.Errorf("%d events were noted", n)
	}
	if finished, err := pgq.CoopFinishBatch(ctx, r.conn, 4711); err != nil || finished {
		t.Errorf("finishing an unknown batch: %v, %v", finished, err)
	}
}

// A worker that is taken off the queue leaves no batch behind.
func TestASubconsumerUnregisters(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := setupKeyed(t)
	config := r.coop("one", 0)
	job, _ := setupJob(t, config.JobConfig)
	broken := errors.New("the handler broke")
	worker, err := NewCoopConsumer(job, config, func(context.Context, pgx.Tx, *Batch) error { return broken })
	if err != nil {
		t.Fatal(err)
	}
	mustDrain(t, worker)
	r.produce(t, "a")
	if err := drain(worker); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if _, err := worker.Unregister(ctx); err == nil || !strings.Contains(err.Error(), "subconsumer has active batch") {
		t.Errorf("error %v", err)
	}
	if gone, err := pgq.UnregisterSubconsumer(ctx, r.conn, testQueue, testConsumer, "one", true); err != nil || !gone {
		t.Errorf("UnregisterSubconsumer = %v, %v", gone, err)
	}
	if gone, err := worker.Unregister(ctx); err != nil || gone {
		t.Errorf("Unregister again = %v, %v", gone, err)
	}
	// Its batch goes to the next one that asks, with a wish or without.
	b, err := pgq.CoopNextBatch(ctx, r.conn, testQueue, testConsumer, "two", pgq.Wish{MinCount: 10}, 0)
	if err != nil || b == nil {
		t.Fatalf("CoopNextBatch = %+v, %v", b, err)
	}
	if events, err := pgq.GetBatchEvents(ctx, r.conn, b.ID); err != nil || len(events) != 1 || events[0].Data.String != "a" {
		t.Errorf("events %v, %v", events, err)
	}
}

func TestCoopConsumersRefuseWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	for want, set := range map[string]func(*CoopConfig){
		"subconsumer_name is empty":                func(c *CoopConfig) { c.SubconsumerName = "" },
		"do not go together with subconsumer_name": func(c *CoopConfig) { c.Slots = 2 },
		"consumer_name or job_name is empty":       func(c *CoopConfig) { c.JobName = "" },
	} {
		config := r.coop("one", 0)
		set(&config)
		job, _ := setupJob(t, config.JobConfig)
		if _, err := NewCoopConsumer(job, config, nil); ExitCode(err) != 2 || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	bare := pgtest.DB(t, "pgq")
	bare.Exec(t, "select pgq.create_queue('events')")
	config := r.coop("one", 0)
	config.SrcDB = ConnString(bare.DSN)
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewCoopConsumer(job, config, apply)
	if err != nil {
		t.Fatal(err)
	}
	if err := drain(worker); err == nil || !strings.Contains(err.Error(), `create extension pgq_coop`) {
		t.Errorf("error %v", err)
	}
	config.QueueName = "nowhere"
	config.SrcDB = ConnString(r.src.DSN)
	if worker, err = NewCoopConsumer(job, config, apply); err != nil {
		t.Fatal(err)
	}
	if err := drain(worker); !pgq.IsQueueNotFound(err) {
		t.Errorf("error %v", err)
	}
}
