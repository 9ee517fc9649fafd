package batch

// The consumer that keeps its place in a file: what it does at least once, where it
// goes on, and what it refuses.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// local is the configuration of a consumer with a file of its own.
func (r *road) local(t *testing.T, src *pgtest.Database) LocalConfig {
	t.Helper()
	return LocalConfig{ConsumerConfig: r.config(src, r.dst).ConsumerConfig, TrackingFile: filepath.Join(t.TempDir(), "tester.tick")}
}

// collect makes a handler that puts the events' data into list, as choose would into
// its table.
func collect(list *[]string) Handler {
	return func(_ context.Context, _ pgx.Tx, batch *Batch) error {
		for ev, err := range batch.Events() {
			if err != nil {
				return err
			}
			switch what := ev.Data.String; {
			case strings.HasPrefix(what, "later") && ev.Retry == 0:
				err = batch.Retry(ev, 0)
			case strings.HasPrefix(what, "dead"):
				err = batch.Fail(ev, "no such user: "+what)
			default:
				*list = append(*list, what)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// localRound is a process's life: it works until there is nothing to do.
func localRound(t *testing.T, config LocalConfig, handler Handler) error {
	t.Helper()
	job, err := NewJob("test", config.JobConfig, nil)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := NewLocalConsumer(job, config, handler)
	if err == nil {
		err = drain(worker)
	}
	if closeErr := job.Close(); closeErr != nil {
		t.Error(closeErr)
	}
	return err
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLocalConsumerKeepsItsPlaceInAFile(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	config := r.local(t, r.src)
	var got []string
	step := func(want ...string) {
		t.Helper()
		if err := localRound(t, config, collect(&got)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	r.produce(t, "before")
	step()
	if text := content(t, config.TrackingFile); text != "" {
		t.Errorf("the file says %q before the first batch", text)
	}
	r.produce(t, "a", "b", "c")
	step("a", "b", "c")
	tick := pgtest.Value[int64](t, r.src, "select sub_last_tick from pgq.subscription")
	if text, want := content(t, config.TrackingFile), fmt.Sprintf(`{"queue":"events","consumer":"tester","tick_id":%d}`+"\n", tick); text != want {
		t.Errorf("the file says %s, want %s", text, want)
	}
	r.produce(t, "d")
	r.produce(t)
	step("a", "b", "c", "d")
	// A bare number, as older programs wrote it.
	overwrite(t, config.TrackingFile, fmt.Sprintf("%d\n", tick+2))
	r.produce(t, "e")
	step("a", "b", "c", "d", "e")
	// What a crash has left of the next note is no part of it.
	overwrite(t, config.TrackingFile+".new", "{\"que")
	r.produce(t, "f")
	step("a", "b", "c", "d", "e", "f")
	if names, err := filepath.Glob(filepath.Dir(config.TrackingFile) + "/*"); err != nil || len(names) != 2 {
		t.Errorf("files %v, %v", names, err)
	}
}

// The file decides, whatever was done to the queue meanwhile.
func TestLocalConsumerMovesTheQueueToItsPlace(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name   string
		meddle func(t *testing.T, r *road, done int64)
	}{
		{"nothing was done", func(*testing.T, *road, int64) {}},
		{"moved ahead", func(t *testing.T, r *road, done int64) {
			if _, err := pgq.RegisterConsumerAt(ctx, r.conn, testQueue, testConsumer, done+2); err != nil {
				t.Fatal(err)
			}
		}},
		{"moved back", func(t *testing.T, r *road, done int64) {
			if _, err := pgq.RegisterConsumerAt(ctx, r.conn, testQueue, testConsumer, done-2); err != nil {
				t.Fatal(err)
			}
		}},
		{"the registration is gone", func(t *testing.T, r *road, done int64) {
			if _, err := pgq.UnregisterConsumer(ctx, r.conn, testQueue, testConsumer); err != nil {
				t.Fatal(err)
			}
		}},
		{"another batch is open", func(t *testing.T, r *road, done int64) {
			if _, err := pgq.RegisterConsumerAt(ctx, r.conn, testQueue, testConsumer, done-1); err != nil {
				t.Fatal(err)
			}
			if b, err := pgq.NextBatchCustom(ctx, r.conn, testQueue, testConsumer, pgq.Wish{MinCount: 3000}); err != nil || b == nil || b.Tick <= done {
				t.Fatalf("batch %+v, %v", b, err)
			}
		}},
	} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, running %v", c.name, running), func(t *testing.T) {
				t.Parallel()
				r := setupRoad(t)
				r.register(t)
				r.produce(t, "a")
				r.produce(t, "b")
				config := r.local(t, r.src)
				var got []string
				job, log := setupJob(t, config.JobConfig)
				worker, err := NewLocalConsumer(job, config, collect(&got))
				if err != nil {
					t.Fatal(err)
				}
				mustDrain(t, worker)
				done := pgtest.Value[int64](t, r.src, "select sub_last_tick from pgq.subscription")
				r.produce(t, "c")
				r.produce(t, "d")
				c.meddle(t, r, done)
				r.produce(t, "e") // where the queue's side is at the end, a batch tells
				if !running {     // a new process
					if err := job.Close(); err != nil {
						t.Fatal(err)
					}
					job, log = setupJob(t, config.JobConfig)
					if worker, err = NewLocalConsumer(job, config, collect(&got)); err != nil {
						t.Fatal(err)
					}
				}
				mustDrain(t, worker)
				if moved := strings.Contains(log.String(), "the queue had the consumer at another place"); moved == (c.name == "nothing was done") {
					t.Errorf("the log says:\n%s", log)
				}
				if want := []string{"a", "b", "c", "d", "e"}; !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
			})
		}
	}
}

func TestLocalConsumerTellsWhenItsPlaceIsGone(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	config := r.local(t, r.src)
	var got []string
	if err := localRound(t, config, collect(&got)); err != nil {
		t.Fatal(err)
	}
	r.produce(t, "a")
	overwrite(t, config.TrackingFile, `{"queue":"events","consumer":"tester","tick_id":4711}`)
	for range 2 {
		err := localRound(t, config, collect(&got))
		if !pgq.IsTickNotFound(err) || !strings.Contains(err.Error(), config.TrackingFile) || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("error %v", err)
		}
	}
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewLocalConsumer(job, config, collect(&got))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := worker.Rewind(context.Background()); !pgq.IsTickNotFound(err) {
		t.Errorf("Rewind to a tick that is gone: %v", err)
	}
	for range 2 {
		if err := worker.Reset(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if tick, err := worker.Rewind(context.Background()); tick != nil || err != nil {
		t.Errorf("Rewind without a file = %v, %v", tick, err)
	}
	mustDrain(t, worker)
	if !slices.Equal(got, []string{"a"}) {
		t.Errorf("got %v", got)
	}
	done := pgtest.Value[int64](t, r.src, "select sub_last_tick from pgq.subscription")
	if _, err := pgq.RegisterConsumerAt(context.Background(), r.conn, testQueue, testConsumer, done-1); err != nil {
		t.Fatal(err)
	}
	if tick, err := worker.Rewind(context.Background()); err != nil || tick == nil || *tick != done {
		t.Errorf("Rewind = %v, %v, want %d", tick, err, done)
	}
	if now := pgtest.Value[int64](t, r.src, "select sub_last_tick from pgq.subscription"); now != done {
		t.Errorf("the queue is at %d after it, want %d", now, done)
	}
}

// A file that is no place of this consumer stops the job as misuse, and stays as it is.
func TestLocalConsumerRefusesWhatIsNotItsFile(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "a")
	for _, c := range []struct {
		name, text, want string
	}{
		{"empty", "", `is no consumer's place, but begins with ""`},
		{"cut", `{"queue":"events","consu`, "is no consumer's place"},
		{"more than one", `{"queue":"events","consumer":"tester","tick_id":1}{}`, "is no consumer's place"},
		{"something else", "[tester]\nsrc_db = dbname=x\n", "restore the file, or remove it"},
		{"other JSON", `{"name":"tester"}`, "is no consumer's place"},
		{"without a tick", `{"queue":"events","consumer":"tester"}`, "is no consumer's place"},
		{"no tick", "-5", "is no consumer's place"},
		{"another queue's", `{"queue":"other","consumer":"tester","tick_id":1}`, `is the place of consumer "tester" on queue "other", not of consumer "tester" on queue "events"`},
		{"another consumer's", `{"queue":"events","consumer":"other","tick_id":1}`, "give each consumer a file of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := r.local(t, r.src)
			overwrite(t, config.TrackingFile, c.text)
			err := localRound(t, config, func(context.Context, pgx.Tx, *Batch) error {
				t.Error("the handler was called")
				return nil
			})
			if err == nil || ExitCode(err) != 2 || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "local_tracking_file = "+config.TrackingFile) {
				t.Errorf("error %v, exit code %d", err, ExitCode(err))
			}
			if text := content(t, config.TrackingFile); text != c.text {
				t.Errorf("the file says %q now", text)
			}
		})
	}
	for _, c := range []struct {
		name, want string
		spoil      func(config *LocalConfig)
	}{
		{"no directory", "no such file or directory; make its directory", func(c *LocalConfig) { c.TrackingFile += "/deeper/tick" }},
		{"a directory", "is a directory", func(c *LocalConfig) {
			if err := os.Mkdir(c.TrackingFile, 0o755); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := r.local(t, r.src)
			c.spoil(&config)
			if err := localRound(t, config, collect(new([]string))); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v", err)
			}
		})
	}
	for name, spoil := range map[string]func(*LocalConfig){
		"local_tracking_file is empty": func(c *LocalConfig) { c.TrackingFile = "" },
		"it holds one place":           func(c *LocalConfig) { c.Slots = 2 },
		"queue_name is empty":          func(c *LocalConfig) { c.QueueName = "" },
	} {
		config := r.local(t, r.src)
		spoil(&config)
		if err := localRound(t, config, nil); ExitCode(err) != 2 || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want %q", err, name)
		}
	}
}

// A note that cannot be written leaves the batch open.
func TestLocalConsumerThatCannotNoteItsPlace(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "a")
	config := r.local(t, r.src)
	obstacle := config.TrackingFile + ".new"
	if err := os.Mkdir(obstacle, 0o755); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := localRound(t, config, collect(&got))
	if err == nil || !strings.Contains(err.Error(), "note tick 2: is a directory; make room") {
		t.Errorf("error %v", err)
	}
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	if err := localRound(t, config, collect(&got)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{"a", "a"}) {
		t.Errorf("got %v", got)
	}
}

func TestLocalConsumersHandlerCannotWriteToTheQueuesDatabase(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "a")
	err := localRound(t, r.local(t, r.src), apply)
	if err == nil || !strings.Contains(err.Error(), "read-only transaction") {
		t.Errorf("error %v", err)
	}
	if got := applied(t, r.src); len(got) != 0 {
		t.Errorf("applied %v", got)
	}
}

// One file is for one process; within a process, a worker that a reload has made goes on.
func TestLocalConsumersDoNotShareAFile(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "a")
	config := r.local(t, r.src)
	var got []string
	job, _ := setupJob(t, config.JobConfig)
	for range 2 {
		worker, err := NewLocalConsumer(job, config, collect(&got))
		if err != nil {
			t.Fatal(err)
		}
		mustDrain(t, worker)
	}
	r.produce(t, "b")
	err := localRound(t, config, collect(&got))
	if want := fmt.Sprintf("local_tracking_file = %s: is in use by another process (pid %d)", config.TrackingFile, os.Getpid()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
	if err := job.Close(); err != nil {
		t.Fatal(err)
	}
	if err := localRound(t, config, collect(&got)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %v", got)
	}
}

// Cut at any request, in this process: each event is there at least once, what was put
// aside is not lost, and given up once.
func TestLocalConsumerSurvivesAStopAtAnyStep(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	faults := pgtest.NewFaults(t)
	config := r.local(t, faults.Through(t, r.src))
	var got, want, dead []string
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
	round := func() error { return localRound(t, config, collect(&got)) }
	if err := round(); err != nil {
		t.Fatal(err)
	}
	produce()
	faults.Count()
	if err := round(); err != nil {
		t.Fatal(err)
	}
	steps := faults.Steps()
	for step := 1; step <= steps; step++ {
		for mode, cut := range map[string]func(int){"before": faults.CutBefore, "after": faults.CutAfter} {
			produce()
			cut(step)
			if err := round(); err == nil && step < steps || !faults.Cut() {
				t.Fatalf("cut %s step %d: error %v, cut %v", mode, step, err, faults.Cut())
			}
			if err := round(); err != nil {
				t.Fatalf("cut %s step %d of %d: not recovered: %v", mode, step, steps, err)
			}
			r.comeBack(t)
			if err := round(); err != nil {
				t.Fatal(err)
			}
			have := slices.Compact(slices.Sorted(slices.Values(got)))
			slices.Sort(want)
			if !slices.Equal(have, want) {
				t.Fatalf("cut %s step %d of %d:\ngot  %v\nwant %v", mode, step, steps, have, want)
			}
			if have := r.src.Rows(t, deadSQL); !slices.Equal(have, dead) {
				t.Fatalf("cut %s step %d of %d:\ndead %v\nwant %v", mode, step, steps, have, dead)
			}
		}
	}
	t.Logf("stopped before and after each of %d requests, %d events, %d of them twice", steps, number, len(got)-len(want))
}

// The source goes away in the middle of a batch and comes back, under the job's own loop.
func TestLocalConsumerGoesOnAfterARestartOfItsSource(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	r := &road{src: server.DB(t, "pgq"), dst: pgtest.DB(t)}
	r.conn = r.src.Conn(t)
	if _, err := pgq.CreateQueue(context.Background(), r.conn, testQueue); err != nil {
		t.Fatal(err)
	}
	r.register(t)
	config := r.local(t, r.src)
	config.LoopDelay, config.ExceptionSleep = time.Millisecond, time.Millisecond
	job, _ := setupJob(t, config.JobConfig)
	var got []string
	restarted := false
	worker, err := NewLocalConsumer(job, config, func(_ context.Context, _ pgx.Tx, batch *Batch) error {
		for ev, err := range batch.Events() {
			if err != nil {
				return err
			}
			got = append(got, ev.Data.String)
			if batch.read == 2 && !restarted {
				restarted = true
				server.Restart(t)
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
	r.produce(t, "a", "b", "c", "d")
	go func() { ended <- job.Run(ctx, worker.Work) }()
	r.src.WaitFor(t, finishedSQL)
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	if want := []string{"a", "b", "a", "b", "c", "d"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// localEnv makes this program a consumer with a local file, with the ini file that it
// names. It writes the events into the file of dst_file.
const localEnv = "BATCH_TEST_LOCAL"

type localTestConfig struct {
	LocalConfig
	Into string `ini:"dst_file" required:"true"`
}

func consumeLocally(path string) {
	var cfg localTestConfig
	err := mainRun(context.Background(), "consumer", &cfg, []string{path}, os.Stdout, os.Stderr, func(job *Job) (Worker, error) {
		return NewLocalConsumer(job, cfg.LocalConfig, func(_ context.Context, _ pgx.Tx, batch *Batch) error {
			out, err := os.OpenFile(cfg.Into, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			defer out.Close()
			for ev, err := range batch.Events() {
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintln(out, ev.Data.String); err != nil {
					return err
				}
			}
			return out.Sync()
		})
	})
	os.Exit(Report(os.Stderr, "consumer", err))
}

// The same with a process that is killed, and another one that goes on; its file lies
// where it does without being told.
func TestALocalConsumerProcessIsKilledAtAnyStep(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	faults := pgtest.NewFaults(t)
	into := filepath.Join(t.TempDir(), "events")
	ini := writeIni(t, fmt.Sprintf("[consumer]\njob_name = %s\nqueue_name = %s\npgq_lazy_fetch = 2\nloop_delay = 0.01\nsrc_db = %s\ndst_file = %s\n",
		testConsumer, testQueue, faults.Through(t, r.src).DSN, into))
	run := func(what string, done func() bool) {
		t.Helper()
		process(t, localEnv+"="+ini, what, done)
	}
	var want []string
	produce := func() {
		t.Helper()
		data := fmt.Sprintf("%05d", len(want))
		want = append(want, data)
		r.produce(t, data)
	}
	finished := func() bool { return pgtest.Value[bool](t, r.src, finishedSQL) }
	produce()
	faults.Count()
	run("the events are done", finished)
	steps := 20
	for step := 1; step <= steps; step++ {
		produce()
		if step%2 == 0 {
			faults.CutBefore(step)
		} else {
			faults.CutAfter(step)
		}
		run(fmt.Sprintf("step %d comes", step), faults.Cut)
	}
	faults.Count()
	run("the events are done", finished)
	if got := slices.Compact(slices.Sorted(slices.Values(strings.Fields(content(t, into))))); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if text := content(t, filepath.Join(filepath.Dir(ini), testConsumer+".tick")); !strings.Contains(text, `"consumer":"tester"`) {
		t.Errorf("the file beside the ini file says %q", text)
	}
}
