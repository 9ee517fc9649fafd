package batch

// Parallel consumers on real databases: every event once, each key in order, whatever
// happens to the workers.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// keyed is a road whose events have keys. The tables note what was applied, in the
// order of their ids.
func setupKeyed(t *testing.T) *road {
	t.Helper()
	r := setupRoad(t)
	for _, db := range []*pgtest.Database{r.src, r.dst} {
		db.Exec(t, `create table public.log (id bigserial primary key, key text, n int, worker text)`)
	}
	return r
}

// parallel is the configuration of a consumer of slots.
func (r *road) parallel(slots, workers int) RemoteConfig {
	config := r.config(r.src, r.dst)
	config.Slots, config.Workers, config.SlotKey = slots, workers, "ev_extra1"
	config.WorkerTimeout = time.Minute
	return config
}

// produceKeyed makes a batch with the events n = from … from+count-1 of each key.
func (r *road) produceKeyed(t *testing.T, keys, from, count int) {
	t.Helper()
	ctx := context.Background()
	var events []pgq.Event
	for n := from; n < from+count; n++ {
		for k := range keys {
			events = append(events, pgq.Event{Type: pgq.Text("t"), Data: pgq.Text(fmt.Sprint(n)), Extra1: pgq.Text(fmt.Sprintf("key%d", k))})
		}
	}
	for _, ev := range events {
		if _, err := pgq.InsertEvent(ctx, r.conn, testQueue, ev); err != nil {
			t.Fatal(err)
		}
	}
	r.produce(t)
}

// note writes down each event under its key, and who did it.
func note(worker string) Handler {
	return func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
		for ev, err := range batch.Events() {
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "insert into public.log (key, n, worker) values ($1, $2::text::int, $3)", ev.Extra1, ev.Data, worker); err != nil {
				return err
			}
		}
		return nil
	}
}

// checkKeyed says that every key has the events 0 … count-1, each once and in order.
func checkKeyed(t *testing.T, db *pgtest.Database, keys, count int) {
	t.Helper()
	var numbers []string
	for n := range count {
		numbers = append(numbers, fmt.Sprint(n))
	}
	var want []string
	for k := range keys {
		want = append(want, fmt.Sprintf("key%d|%s", k, strings.Join(numbers, ",")))
	}
	if got := db.Rows(t, "select key, string_agg(n::text, ',' order by id) from public.log group by key order by length(key), key"); !slices.Equal(got, want) {
		t.Errorf("applied\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWorkersShareAConsumerByKeys(t *testing.T) {
	for _, kind := range kinds {
		if kind.name != "Consumer" && kind.name != "SerialConsumer" {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupKeyed(t)
			config := r.parallel(5, 3)
			job, log := setupJob(t, config.JobConfig)
			var begun atomic.Int32
			sideBySide := make(chan struct{})
			worker, err := kind.make(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				// The first one ends only when a second one is at work beside it.
				if begun.Add(1) == 2 {
					close(sideBySide)
				}
				select {
				case <-sideBySide:
				case <-time.After(10 * time.Second):
					return errors.New("only one handler runs at a time")
				}
				return note("w")(ctx, tx, batch)
			})
			if err != nil {
				t.Fatal(err)
			}
			mustDrain(t, worker)
			if !strings.Contains(log.String(), "consumer registered") {
				t.Errorf("the registration is not in the log:\n%s", log)
			}
			const keys, rounds, each = 20, 5, 4
			for n := range rounds {
				r.produceKeyed(t, keys, n*each, each)
				if n%2 == 0 {
					mustDrain(t, worker)
				}
			}
			mustDrain(t, worker)
			checkKeyed(t, kind.here(r), keys, rounds*each)
			if line := job.Stats.Flush(); !strings.HasPrefix(line, fmt.Sprintf("{count: %d, ", keys*rounds*each)) {
				t.Errorf("statistics %q", line)
			}
		})
	}
}

// parallelEnv makes this program a worker of a shared consumer, with the ini file that
// it names.
const parallelEnv = "BATCH_TEST_WORKER"

func workInParallel(path string) {
	var cfg RemoteConfig
	err := mainRun(context.Background(), "worker", &cfg, []string{path}, os.Stdout, os.Stderr, func(job *Job) (Worker, error) {
		handler := func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
			if err := note(cfg.WorkerName)(ctx, tx, batch); err != nil {
				return err
			}
			// What the test holds stops the worker between its effects and the end.
			_, err := tx.Exec(ctx, "select pg_advisory_xact_lock_shared(42)")
			return err
		}
		if cfg.JobName == "serial" {
			return NewSerialConsumer(job, cfg, handler)
		}
		return NewConsumer(job, cfg.ConsumerConfig, handler)
	})
	os.Exit(Report(os.Stderr, "worker", err))
}

// startWorker starts a process that shares the consumer.
func (r *road) startWorker(t *testing.T, name, kind string, timeout float64) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ini := writeIni(t, fmt.Sprintf("[worker]\njob_name = %s\nqueue_name = %s\nconsumer_name = %s\nsrc_db = %s application_name=%s\ndst_db = %s application_name=%s\n"+
		"consumer_slots = 3\nworker_name = %s\nworker_timeout = %g\nloop_delay = 0.02\nexception_sleep = 0.05\nlog_level = debug\n",
		kind, testQueue, testConsumer, r.src.DSN, name, r.dst.DSN, name, name, timeout))
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), parallelEnv+"="+ini)
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

const workerTimeout = 0.5

// hold lets no worker's handler end until release is called.
func hold(t *testing.T, db *pgtest.Database) (release func()) {
	t.Helper()
	conn := db.Conn(t)
	if _, err := conn.Exec(context.Background(), "select pg_advisory_lock(42)"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := conn.Exec(context.Background(), "select pg_advisory_unlock(42)"); err != nil {
			t.Fatal(err)
		}
	}
}

// halt stops a process, and returns when all of it stands still.
func halt(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	for {
		switch _, err := syscall.Wait4(cmd.Process.Pid, &status, syscall.WUNTRACED, nil); {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil || !status.Stopped():
			t.Fatalf("process %d is not stopped: %v, %v", cmd.Process.Pid, status, err)
		}
		return
	}
}

const waitingSQL = `select exists (select from pg_stat_activity where datname = current_database() and application_name = $1
	and wait_event_type = 'Lock' and wait_event = 'advisory')`

const allDoneSQL = `select not exists (select from pgq.subscription where sub_batch is not null or sub_last_tick < (select max(tick_id) from pgq.tick))`

// A worker whose process is killed, or that is not heard of and comes back late, loses
// its batch to the others; nothing is lost, doubled or out of order.
func TestAWorkersKeysGoToTheOthers(t *testing.T) {
	for _, kind := range []string{"plain", "serial"} {
		for _, ending := range []string{"killed", "stopped, and comes back"} {
			t.Run(kind+"/"+ending, func(t *testing.T) {
				t.Parallel()
				r := setupKeyed(t)
				if _, err := pgq.RegisterSlots(context.Background(), r.conn, testQueue, testConsumer, 3, ""); err != nil {
					t.Fatal(err)
				}
				here := r.src
				if kind == "serial" {
					here = r.dst
				}
				const keys, each = 12, 5
				release := hold(t, here)
				r.produceKeyed(t, keys, 0, each)
				victim := r.startWorker(t, "victim", kind, workerTimeout)
				here.WaitFor(t, waitingSQL, "victim")
				r.produceKeyed(t, keys, each, each)
				if ending == "killed" {
					if err := victim.Process.Kill(); err != nil {
						t.Fatal(err)
					}
					// The server does not see at once that a waiting client is gone.
					here.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'victim' and datname = current_database()`)
				} else {
					halt(t, victim)
				}
				release()
				others := []*exec.Cmd{r.startWorker(t, "second", kind, workerTimeout), r.startWorker(t, "third", kind, workerTimeout)}
				// In the target a stopped worker still holds its slot, the others go on.
				r.src.WaitFor(t, `select not exists (select from pgq.subscription where sub_worker = 'victim')`)
				here.WaitFor(t, `select exists (select from public.log where worker <> 'victim')`)
				if ending == "killed" || kind == "plain" {
					r.src.WaitFor(t, allDoneSQL)
					checkKeyed(t, here, keys, 2*each)
					if n := pgtest.Value[int64](t, here, "select count(*) from public.log where worker = 'victim'"); n != 0 {
						t.Errorf("the victim noted %d events", n)
					}
				}
				if ending != "killed" {
					// It goes on where it was: its handler ends, but its batch is gone.
					if err := victim.Process.Signal(syscall.SIGCONT); err != nil {
						t.Fatal(err)
					}
				}
				r.produceKeyed(t, keys, 2*each, each)
				r.src.WaitFor(t, allDoneSQL)
				for _, cmd := range append(others, victim) {
					_ = cmd.Process.Signal(syscall.SIGINT)
				}
				checkKeyed(t, here, keys, 3*each)
			})
		}
	}
}

// heardOf waits until the worker of the open batch is heard of again and again, so that
// no other one may have the batch.
func (r *road) heardOf(t *testing.T) {
	t.Helper()
	for range 3 {
		r.src.Exec(t, "update pgq.subscription set sub_active = now() - interval '1 hour' where sub_batch is not null")
		r.src.WaitFor(t, "select sub_active > now() - interval '30 minutes' from pgq.subscription where sub_batch is not null")
	}
}

// A handler may take longer than worker_timeout: its worker is heard of meanwhile.
func TestABusyWorkerKeepsItsBatch(t *testing.T) {
	t.Parallel()
	r := setupKeyed(t)
	config := r.parallel(1, 1).ConsumerConfig
	config.WorkerTimeout = 300 * time.Millisecond
	config.WorkerName = "slow"
	config.SrcDB += " application_name=slow"
	working := make(chan struct{})
	end := make(chan struct{})
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewConsumer(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
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
	if b, err := pgq.NextSlotBatch(context.Background(), r.conn, testQueue, testConsumer, "other", 30*time.Minute); err != nil || b != nil {
		t.Errorf("another worker got %+v, %v", b, err)
	}
	close(end)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	checkKeyed(t, r.src, 3, 2)
}

// A worker hears that its batch is gone while it works, and stops.
func TestAWorkerStopsWhenItsBatchIsTaken(t *testing.T) {
	t.Parallel()
	r := setupKeyed(t)
	config := r.parallel(1, 1).ConsumerConfig
	config.WorkerTimeout = 300 * time.Millisecond
	config.WorkerName = "slow"
	working := make(chan struct{}, 2)
	job, _ := setupJob(t, config.JobConfig)
	stuck := true
	worker, err := NewConsumer(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
		if stuck {
			stuck = false
			working <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
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
	// As if it had not been heard of for an hour.
	var taken *pgq.Batch
	pgtest.Eventually(t, 10*time.Second, "another worker has the batch", func() bool {
		r.src.Exec(t, "update pgq.subscription set sub_active = now() - interval '1 hour'")
		b, err := pgq.NextSlotBatch(context.Background(), r.conn, testQueue, testConsumer, "other", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		taken = b
		return b != nil
	})
	if err := <-done; err == nil || !strings.Contains(err.Error(), "another worker has taken the batch over") {
		t.Errorf("the stopped worker says %v", err)
	}
	if finished, err := pgq.FinishBatch(context.Background(), r.conn, taken.ID); err != nil || !finished {
		t.Errorf("the other cannot finish the batch: %v, %v", finished, err)
	}
}

func TestParallelConsumersRefuseWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	base := RemoteConfig{ConsumerConfig: ConsumerConfig{JobConfig: JobConfig{JobName: "j"}, SrcDB: "dbname=x", QueueName: "q"}, DstDB: "dbname=y"}
	for _, c := range []struct {
		name string
		set  func(*RemoteConfig)
		kind int
		want string
	}{
		{"workers without slots", func(c *RemoteConfig) { c.Workers = 2 }, 0, "needs consumer_slots"},
		{"more workers than slots", func(c *RemoteConfig) { c.Slots, c.Workers = 2, 3 }, 2, "more than consumer_slots = 2"},
		{"a lag", func(c *RemoteConfig) { c.Slots, c.KeepLag = 2, time.Second }, 0, "does not go together"},
		{"below 0", func(c *RemoteConfig) { c.Slots = -1 }, 0, "below 0"},
		{"a place kept by batches", func(c *RemoteConfig) { c.Slots = 2 }, 1, "needs a consumer that keeps its place by ticks"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := base
			c.set(&config)
			job, _ := setupJob(t, config.JobConfig)
			if _, err := kinds[c.kind].make(job, config, nil); err == nil || ExitCode(err) != 2 || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// The number of slots is changed between runs: nothing is lost, nothing is doubled.
func TestSlotsAreResized(t *testing.T) {
	t.Parallel()
	r := setupKeyed(t)
	const keys, each = 9, 2
	from := 0
	run := func(slots int) error {
		t.Helper()
		r.produceKeyed(t, keys, from, each)
		from += each
		config := r.parallel(slots, 1)
		job, _ := setupJob(t, config.JobConfig)
		worker, err := NewSerialConsumer(job, config, note("w"))
		if err != nil {
			t.Fatal(err)
		}
		return drain(worker)
	}
	r.register(t)
	for _, slots := range []int{4, 2, 2, 4, 8, 4, 8, 1, 3} {
		if err := run(slots); err != nil {
			t.Fatalf("%d slots: %v", slots, err)
		}
	}
	checkKeyed(t, r.dst, keys, from)

	// Without slots it would begin anew, at the queue's end.
	err := run(0)
	if err == nil || !isSetup(err) || !strings.Contains(err.Error(), "is split into 3 slots") || !strings.Contains(err.Error(), "consumer_slots = 3") {
		t.Errorf("without slots: %v", err)
	}
	if err := run(3); err != nil {
		t.Fatal(err)
	}
	checkKeyed(t, r.dst, keys, from)
}
