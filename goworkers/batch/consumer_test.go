package batch

// Consumers on real databases: what they apply, register, retry and refuse.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

const (
	testQueue    = "events"
	testConsumer = "tester"
)

// road is a source with a queue, and a target with a table for what was applied.
// The table has no key, so that what comes twice shows.
type road struct {
	src, dst *pgtest.Database
	conn     *pgx.Conn // of the producer
}

func setupRoad(t *testing.T) *road {
	t.Helper()
	r := &road{src: pgtest.DB(t, "pgq", "pgq_coop"), dst: pgtest.DB(t, "pgq_ext")}
	r.conn = r.src.Conn(t)
	if _, err := pgq.CreateQueue(context.Background(), r.conn, testQueue); err != nil {
		t.Fatal(err)
	}
	for _, db := range []*pgtest.Database{r.src, r.dst} {
		db.Exec(t, "create table public.applied (n int, data text)")
	}
	return r
}

// produce makes a batch of events.
func (r *road) produce(t *testing.T, data ...string) {
	t.Helper()
	ctx := context.Background()
	for _, d := range data {
		if _, err := pgq.InsertEvent(ctx, r.conn, testQueue, pgq.Event{Type: pgq.Text("t"), Data: pgq.Text(d), Extra1: pgq.Text("public." + d)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pgq.ForceTick(ctx, r.conn, testQueue); err != nil {
		t.Fatal(err)
	}
	if tick, err := pgq.TickQueue(ctx, r.conn, testQueue); err != nil || tick == 0 {
		t.Fatalf("TickQueue = %d, %v", tick, err)
	}
}

func (r *road) register(t *testing.T) {
	t.Helper()
	if _, err := pgq.RegisterConsumer(context.Background(), r.conn, testQueue, testConsumer); err != nil {
		t.Fatal(err)
	}
}

func (r *road) config(src, dst *pgtest.Database) RemoteConfig {
	return RemoteConfig{
		ConsumerConfig: ConsumerConfig{
			JobConfig: JobConfig{JobName: testConsumer, LogLevel: "debug"},
			SrcDB:     ConnString(src.DSN), QueueName: testQueue, LazyFetch: 2,
		},
		DstDB: ConnString(dst.DSN),
	}
}

func applied(t *testing.T, db *pgtest.Database) []string {
	t.Helper()
	return db.Rows(t, "select data from public.applied order by n, data")
}

// apply writes down each event.
func apply(ctx context.Context, tx pgx.Tx, batch *Batch) error {
	for ev, err := range batch.Events() {
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "insert into public.applied values ($1, $2)", ev.ID, ev.Data); err != nil {
			return err
		}
	}
	return nil
}

// kinds are the consumers whose effects are in a database, made with one handler.
var kinds = []struct {
	name string
	make func(*Job, RemoteConfig, Handler) (Worker, error)
	here func(*road) *pgtest.Database // where the effects go
}{
	{"Consumer", func(j *Job, c RemoteConfig, h Handler) (Worker, error) { return NewConsumer(j, c.ConsumerConfig, h) },
		func(r *road) *pgtest.Database { return r.src }},
	{"RemoteConsumer", func(j *Job, c RemoteConfig, h Handler) (Worker, error) { return NewRemoteConsumer(j, c, h) },
		func(r *road) *pgtest.Database { return r.dst }},
	{"SerialConsumer", func(j *Job, c RemoteConfig, h Handler) (Worker, error) { return NewSerialConsumer(j, c, h) },
		func(r *road) *pgtest.Database { return r.dst }},
	{"CoopConsumer", func(j *Job, c RemoteConfig, h Handler) (Worker, error) {
		return NewCoopConsumer(j, CoopConfig{ConsumerConfig: c.ConsumerConfig, SubconsumerName: "one"}, h)
	}, func(r *road) *pgtest.Database { return r.src }},
}

// drain works until there is nothing more to do, or an error comes.
func drain(w Worker) error {
	for {
		more, err := w.Work(context.Background())
		if err != nil || !more {
			return err
		}
	}
}

func mustDrain(t *testing.T, w Worker) {
	t.Helper()
	if err := drain(w); err != nil {
		t.Fatal(err)
	}
}

func TestConsumersApplyEachEventOnce(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.produce(t, "before")
			job, log := setupJob(t, r.config(r.src, r.dst).JobConfig)
			worker, err := kind.make(job, r.config(r.src, r.dst), apply)
			if err != nil {
				t.Fatal(err)
			}
			if more, err := worker.Work(context.Background()); err != nil || more {
				t.Fatalf("the first round = %v, %v, want only a registration", more, err)
			}
			if !strings.Contains(log.String(), "consumer registered") {
				t.Errorf("the registration is not in the log:\n%s", log)
			}
			r.produce(t, "a", "b", "c")
			r.produce(t)
			r.produce(t, "d")
			mustDrain(t, worker)
			mustDrain(t, worker)
			if got := applied(t, kind.here(r)); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
				t.Errorf("applied %v", got)
			}
			if line := job.Stats.Flush(); !strings.HasPrefix(line, "{count: 4, duration: ") {
				t.Errorf("statistics %q", line)
			}
		})
	}
}

func TestConsumersUndoABatchThatFails(t *testing.T) {
	broken := errors.New("the handler broke")
	for _, kind := range kinds {
		for _, c := range []struct {
			name   string
			handle Handler
			want   string
		}{
			{"the handler says so", func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				return errors.Join(apply(ctx, tx, batch), broken)
			}, "the handler broke"},
			{"a statement fails", func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				if err := apply(ctx, tx, batch); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "select 1/0")
				return err
			}, "division by zero"},
			{"a failed statement is kept secret", func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				_, _ = tx.Exec(ctx, "select 1/0")
				return nil
			}, ""},
			{"reading twice is kept secret", func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				if err := apply(ctx, tx, batch); err != nil {
					return err
				}
				_ = apply(ctx, tx, batch)
				return nil
			}, "only once"},
		} {
			t.Run(kind.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				r := setupRoad(t)
				r.register(t)
				r.produce(t, "a", "b", "c")
				config := r.config(r.src, r.dst)
				job, _ := setupJob(t, config.JobConfig)
				worker, err := kind.make(job, config, c.handle)
				if err != nil {
					t.Fatal(err)
				}
				if err := drain(worker); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error = %v, want %q", err, c.want)
				}
				if got := applied(t, kind.here(r)); len(got) != 0 {
					t.Errorf("applied %v in spite of it", got)
				}
				// The same process goes on once the trouble is over.
				job.DropConnections()
				worker, err = kind.make(job, config, apply)
				if err != nil {
					t.Fatal(err)
				}
				mustDrain(t, worker)
				if got := applied(t, kind.here(r)); !slices.Equal(got, []string{"a", "b", "c"}) {
					t.Errorf("applied %v after it", got)
				}
			})
		}
	}
}

func TestConsumerRetriesSingleEvents(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "good", "bad", "fine")
	config := r.config(r.src, r.dst).ConsumerConfig
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewConsumer(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
		for ev, err := range batch.Events() {
			if err != nil {
				return err
			}
			if ev.Data.String == "bad" && ev.Retry < 2 {
				if err := batch.Retry(ev, 0); err != nil {
					return err
				}
				continue
			}
			if _, err := tx.Exec(ctx, "insert into public.applied values ($1, $2)", ev.Retry, ev.Data); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustDrain(t, worker)
	for range 2 {
		r.src.WaitFor(t, "select count(*) = 1 from pgq.retry_queue where ev_retry_after <= now()")
		if n, err := pgq.MaintRetryEvents(context.Background(), r.conn); err != nil || n != 1 {
			t.Fatalf("MaintRetryEvents = %d, %v", n, err)
		}
		r.produce(t)
		mustDrain(t, worker)
	}
	if got := r.src.Rows(t, "select n, data from public.applied order by n, data"); !slices.Equal(got, []string{"0|fine", "0|good", "2|bad"}) {
		t.Errorf("applied %v", got)
	}
}

func TestConsumerPutsManyEventsAside(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.src.Exec(t, `update pgq.subscription set sub_max_retries = 1`)
	r.produce(t, "good", "soon1", "dead", "soon2", "worn", "changed")
	config := r.config(r.src, r.dst).ConsumerConfig
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewConsumer(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
		for ev, err := range batch.Events() {
			if err != nil {
				return err
			}
			switch name := ev.Data.String; {
			case strings.HasPrefix(name, "soon") && ev.Retry == 0:
				err = batch.Retry(ev, 0)
			case name == "worn":
				err = batch.RetryFor(ev, 0, "it never works")
			case name == "dead":
				err = batch.Fail(ev, "no such user")
			case name == "changed":
				err = errors.Join(batch.Fail(ev, "a rash word"), batch.Retry(ev, time.Hour))
			default:
				_, err = tx.Exec(ctx, "insert into public.applied values ($1, $2)", ev.Retry, ev.Data)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mustDrain(t, worker)
	if n, err := pgq.MaintRetryEvents(context.Background(), r.conn); err != nil || n != 3 {
		t.Fatalf("MaintRetryEvents = %d, %v", n, err)
	}
	r.produce(t)
	mustDrain(t, worker)
	if got := applied(t, r.src); !slices.Equal(got, []string{"good", "soon1", "soon2"}) {
		t.Errorf("applied %v", got)
	}
	if got := r.src.Rows(t, "select ev_data, reason, ev_retry from pgq.dead_letter order by 1"); !slices.Equal(got, []string{"dead|no such user|0", "worn|it never works|1"}) {
		t.Errorf("dead are %q", got)
	}
	if got := r.src.Rows(t, "select ev_data, ev_retry from pgq.retry_queue where ev_dead_time is null"); !slices.Equal(got, []string{"changed|1"}) {
		t.Errorf("waiting are %q", got)
	}
}

func TestConsumersReadAsConfigured(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*ConsumerConfig)
		want []string // data, by batch
	}{
		{"by ticks", func(*ConsumerConfig) {}, []string{"a,b,c", "d"}},
		{"whole batches in memory", func(c *ConsumerConfig) { c.LazyFetch = 0 }, []string{"a,b,c", "d"}},
		{"some tables", func(c *ConsumerConfig) { c.TableFilter = []string{"public.a", "public.c", "public.d"} }, []string{"a,c", "d"}},
		{"ticks joined by count", func(c *ConsumerConfig) { c.CollectEvents = 3000 }, []string{"a,b,c,d"}},
		{"at a distance", func(c *ConsumerConfig) { c.KeepLag = time.Hour }, nil},
		{"ticks not joined yet", func(c *ConsumerConfig) { c.CollectInterval = time.Hour }, nil},
		{"a name of its own", func(c *ConsumerConfig) { c.JobConfig.JobName = "job"; c.ConsumerName = testConsumer }, []string{"a,b,c", "d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			r.produce(t, "a", "b", "c")
			r.produce(t, "d")
			config := r.config(r.src, r.dst).ConsumerConfig
			c.set(&config)
			job, _ := setupJob(t, config.JobConfig)
			var got []string
			worker, err := NewConsumer(job, config, func(_ context.Context, _ pgx.Tx, batch *Batch) error {
				var data []string
				for ev, err := range batch.Events() {
					if err != nil {
						return err
					}
					data = append(data, ev.Data.String)
				}
				got = append(got, strings.Join(data, ","))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			mustDrain(t, worker)
			if !slices.Equal(got, c.want) {
				t.Errorf("batches %q, want %q", got, c.want)
			}
		})
	}
}

func TestLostPositionCanBeCopied(t *testing.T) {
	err := &LostPositionError{Queue: "it's", Consumer: "o'c", PrevTick: 4, Tick: 5, Target: 3}
	if want := "select pgq.register_consumer_at('it''s', 'o''c', 3); if the source is right, run on the target: select pgq_ext.set_last_tick('o''c', 4)"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

// With pgq_lazy_bytes a batch comes in smaller portions than pgq_lazy_fetch says.
func TestConsumersHoldFewBytes(t *testing.T) {
	t.Parallel()
	steps := map[Size]int{}
	for _, bytes := range []Size{0, 8 << 20, 200} {
		r := setupRoad(t)
		r.register(t)
		var want []string
		for n := range 100 {
			want = append(want, fmt.Sprintf("%02d%s", n, strings.Repeat("x", 98)))
		}
		r.produce(t, want...)
		faults := pgtest.NewFaults(t)
		config := r.config(faults.Through(t, r.src), r.dst).ConsumerConfig
		config.LazyFetch, config.LazyBytes = 300, bytes
		job, _ := setupJob(t, config.JobConfig)
		var got []string
		worker, err := NewConsumer(job, config, collect(&got))
		if err != nil {
			t.Fatal(err)
		}
		faults.Count()
		mustDrain(t, worker)
		if steps[bytes] = faults.Steps(); !slices.Equal(got, want) {
			t.Errorf("pgq_lazy_bytes = %d: got %.100v", bytes, got)
		}
	}
	if steps[0] > steps[8<<20] || steps[8<<20] > steps[0]+5 || steps[200] < steps[0]+90 {
		t.Errorf("requests by pgq_lazy_bytes: %v", steps)
	}
}

func TestConsumerThatLostItsRegistrationSkipsNothing(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	config := r.config(r.src, r.dst)
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewRemoteConsumer(job, config, apply)
	if err != nil {
		t.Fatal(err)
	}
	mustDrain(t, worker)
	if gone, err := worker.Unregister(context.Background()); err != nil || !gone {
		t.Fatalf("Unregister = %v, %v", gone, err)
	}
	r.produce(t, "a")
	if err := drain(worker); !pgq.IsNotSubscribed(err) || !strings.Contains(err.Error(), "start it again") {
		t.Errorf("error = %v", err)
	}
	if gone, err := worker.Unregister(context.Background()); err != nil || gone {
		t.Errorf("Unregister again = %v, %v", gone, err)
	}
}

func TestConsumersTellWhatIsMissing(t *testing.T) {
	t.Parallel()
	bare := pgtest.DB(t)
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "a")
	for _, c := range []struct {
		name string
		set  func(*RemoteConfig)
		want string
	}{
		{"queue", func(c *RemoteConfig) { c.QueueName = "nowhere" }, "create the queue with: pgqadm INI create nowhere"},
		{"pgq", func(c *RemoteConfig) { c.SrcDB = ConnString(bare.DSN) }, "needs the extension pgq"},
		{"pgq_ext", func(c *RemoteConfig) { c.DstDB = ConnString(bare.DSN) }, "the database in dst_db needs the extension pgq_ext"},
		{"source", func(c *RemoteConfig) { c.SrcDB = "host=127.0.0.1 port=1 dbname=gone" }, `src_db: cannot connect to database "gone" at 127.0.0.1:1`},
		{"target", func(c *RemoteConfig) { c.DstDB = "host=127.0.0.1 port=1 dbname=gone" }, `dst_db: cannot connect to database "gone" at 127.0.0.1:1`},
	} {
		config := r.config(r.src, r.dst)
		c.set(&config)
		job, _ := setupJob(t, config.JobConfig)
		worker, err := NewRemoteConsumer(job, config, apply)
		if err != nil {
			t.Fatal(err)
		}
		if err := drain(worker); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("missing %s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// A faulty target is told at the start, not when the first event comes.
func TestRemoteConsumersLookAtTheTargetFirst(t *testing.T) {
	t.Parallel()
	bare, old := pgtest.DB(t), pgtest.DB(t)
	old.Exec(t, `create schema pgq; create function pgq.version() returns text language sql as $$ select '2.1.8'::text $$`)
	r := setupRoad(t)
	for _, c := range []struct {
		name string
		set  func(*RemoteConfig)
		want string
	}{
		{"no pgq_ext", func(c *RemoteConfig) { c.DstDB = ConnString(bare.DSN) }, "the database in dst_db needs the extension pgq_ext"},
		{"unreachable", func(c *RemoteConfig) { c.DstDB = "host=127.0.0.1 port=1 dbname=gone" }, "dst_db: cannot connect"},
		{"old source", func(c *RemoteConfig) { c.SrcDB = ConnString(old.DSN) }, "src_db: the database has pgq 2.1.8, but 3.0 or newer is needed"},
	} {
		config := r.config(r.src, r.dst)
		c.set(&config)
		job, _ := setupJob(t, config.JobConfig)
		worker, err := NewRemoteConsumer(job, config, apply)
		if err != nil {
			t.Fatal(err)
		}
		if err := drain(worker); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestConsumersRefuseAnEmptyConfiguration(t *testing.T) {
	t.Parallel()
	full := RemoteConfig{
		ConsumerConfig: ConsumerConfig{JobConfig: JobConfig{JobName: "j"}, SrcDB: "dbname=a", QueueName: "q"},
		DstDB:          "dbname=b",
	}
	for _, c := range []struct {
		set  func(*RemoteConfig)
		want string
	}{
		{func(c *RemoteConfig) { c.SrcDB = "" }, "src_db is empty"},
		{func(c *RemoteConfig) { c.DstDB = "" }, "dst_db is empty"},
		{func(c *RemoteConfig) { c.QueueName = "" }, "queue_name is empty"},
		{func(c *RemoteConfig) { c.JobName = "" }, "consumer_name or job_name is empty"},
		{func(c *RemoteConfig) { c.LazyFetch = -1 }, "pgq_lazy_fetch = -1"},
	} {
		config := full
		c.set(&config)
		job, _ := setupJob(t, config.JobConfig)
		_, err := NewSerialConsumer(job, config, apply)
		if err == nil || !strings.Contains(err.Error(), c.want) || ExitCode(err) != 2 {
			t.Errorf("error %v, exit code %d, want %q and 2", err, ExitCode(err), c.want)
		}
	}
}

func TestSerialConsumerStopsWhenPositionsDiffer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "a")
	r.produce(t, "b")
	config := r.config(r.src, r.dst)
	job, _ := setupJob(t, config.JobConfig)
	worker, err := NewSerialConsumer(job, config, apply)
	if err != nil {
		t.Fatal(err)
	}
	mustDrain(t, worker)
	done := pgtest.Value[int64](t, r.dst, "select pgq_ext.get_last_tick($1)", testConsumer)

	// Somebody moves the queue's side back: the target has gone further.
	if _, err := pgq.RegisterConsumerAt(ctx, r.conn, testQueue, testConsumer, done-2); err != nil {
		t.Fatal(err)
	}
	var lost *LostPositionError
	err = drain(worker)
	if !errors.As(err, &lost) || lost.PrevTick != done-2 || lost.Tick != done-1 || lost.Target != done {
		t.Fatalf("error = %v (%+v)", err, lost)
	}
	if want := fmt.Sprintf("Lost position: batch %d..%d, dst has %d", done-2, done-1, done); !strings.Contains(err.Error(), want) {
		t.Errorf("error = %v, want %q", err, want)
	}
	if tick, err := worker.Rewind(ctx); err != nil || tick == nil || *tick != done {
		t.Fatalf("Rewind = %v, %v", tick, err)
	}
	r.produce(t, "c")
	mustDrain(t, worker)
	if got := applied(t, r.dst); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("applied %v after the rewind", got)
	}

	// The queue's side has gone further: what the error advises, as it stands.
	if _, err := pgq.RegisterConsumerAt(ctx, r.conn, testQueue, testConsumer, done-1); err != nil {
		t.Fatal(err)
	}
	if err := drain(worker); !errors.As(err, &lost) {
		t.Fatalf("error = %v", err)
	}
	advice := lost.Error()
	for _, side := range []struct {
		where string
		db    *pgtest.Database
		want  []string
	}{
		{"run on the source: ", r.src, []string{"a", "b", "c"}},
		{"run on the target: ", r.dst, []string{"a", "b", "b", "c", "c"}},
	} {
		_, sql, _ := strings.Cut(advice, side.where)
		sql, _, _ = strings.Cut(sql, ";")
		side.db.Exec(t, sql)
		if side.db == r.dst { // undo what the source's advice did
			if _, err := pgq.RegisterConsumerAt(ctx, r.conn, testQueue, testConsumer, lost.PrevTick); err != nil {
				t.Fatal(err)
			}
		}
		mustDrain(t, worker)
		if got := applied(t, r.dst); !slices.Equal(got, side.want) {
			t.Errorf("after %q: applied %v, want %v", sql, got, side.want)
		}
	}

	if err := worker.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	if tick, err := worker.Rewind(ctx); err != nil || tick != nil {
		t.Errorf("Rewind without a position = %v, %v", tick, err)
	}
}

// The statistics line is read by programs, metrics by Prometheus.
func TestConsumerCounts(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.produce(t, "a", "b", "c")
	r.produce(t, "d")
	config := r.config(r.src, r.dst)
	job, log := setupJob(t, JobConfig{LogLevel: "info", StatsPeriod: time.Hour, JobName: testConsumer})
	worker, err := NewSerialConsumer(job, config, apply)
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Run(context.Background(), worker.Work); err != nil { // loop_delay is 0
		t.Fatal(err)
	}
	if line := regexp.MustCompile(`(?m)^\S+ \S+ \d+ INFO \{count: 4, duration: 0(\.\d{1,4})?\}$`); !line.MatchString(log.String()) {
		t.Errorf("no statistics line in\n%s", log)
	}
	families, err := job.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../examples/monitoring/README.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, family := range families {
		if strings.HasPrefix(family.GetName(), "skytools_") && !strings.Contains(string(readme), "`"+family.GetName()) {
			t.Errorf("the page about monitoring names no %s", family.GetName())
		}
		if !strings.HasPrefix(family.GetName(), "skytools_consumer_") {
			continue
		}
		seen++
		m := family.GetMetric()[0]
		if labels := fmt.Sprint(m.GetLabel()); !strings.Contains(labels, testQueue) || !strings.Contains(labels, testConsumer) {
			t.Errorf("%s has labels %s", family.GetName(), labels)
		}
		switch family.GetName() {
		case "skytools_consumer_batch_duration_seconds":
			if h := m.GetHistogram(); h.GetSampleCount() != 2 || h.GetSampleSum() <= 0 || h.GetBucket()[9].GetUpperBound() < 260 {
				t.Errorf("batches took %v", h)
			}
		case "skytools_consumer_lag_seconds":
			if lag := m.GetGauge().GetValue(); lag <= 0 || lag > 60 {
				t.Errorf("the lag is %g s", lag)
			}
		}
	}
	if seen != 5 {
		t.Errorf("%d metrics, want 5: %v", seen, families)
	}
}

// Two processes under one name: a mistake, but one that must not double events.
func TestTwoProcessesOfOneNameDoNotDouble(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			r.produce(t, "a", "b")
			config := r.config(r.src, r.dst)

			// The second starts when the first is in the middle of the batch,
			// and the first goes on when the second waits for it or has failed.
			second := make(chan error, 1)
			var start func()
			first, _ := setupJob(t, config.JobConfig)
			worker, err := kind.make(first, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				start()
				return apply(ctx, tx, batch)
			})
			if err != nil {
				t.Fatal(err)
			}
			other, _ := setupJob(t, config.JobConfig)
			rival, err := kind.make(other, config, apply)
			if err != nil {
				t.Fatal(err)
			}
			start = func() {
				start = func() {}
				go func() { second <- drain(rival) }()
				pgtest.Eventually(t, 10*time.Second, "the rival waits for a lock or has ended", func() bool {
					if len(second) > 0 {
						return true
					}
					return pgtest.Value[bool](t, kind.here(r), `select exists (select from pg_stat_activity
						where datname = current_database() and wait_event_type = 'Lock')`)
				})
			}
			errFirst := drain(worker)
			errSecond := <-second
			// In the queue's database the later one fails, since its batch is gone.
			if kind.here(r) == r.dst && (errFirst != nil || errSecond != nil) {
				t.Errorf("errors: %v, %v", errFirst, errSecond)
			}
			if got := applied(t, kind.here(r)); !slices.Equal(got, []string{"a", "b"}) {
				t.Errorf("applied %v (errors: %v, %v)", got, errFirst, errSecond)
			}
		})
	}
}

func TestConsumerMetricsOutliveAReload(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	config := r.config(r.src, r.dst)
	job, _ := setupJob(t, config.JobConfig)
	for _, data := range []string{"", "a", "b"} {
		worker, err := NewRemoteConsumer(job, config, apply)
		if err != nil {
			t.Fatal(err)
		}
		if data == "" { // nothing done yet: 0 would read as a lag since 1970
			if families, err := job.Metrics.Gather(); err != nil || strings.Contains(fmt.Sprint(families), "skytools_consumer_last_tick") {
				t.Errorf("a last tick before the first batch, %v", err)
			}
			continue
		}
		r.produce(t, data)
		mustDrain(t, worker)
	}
	tick := pgtest.Value[int64](t, r.src, "select extract(epoch from max(tick_time))::bigint from pgq.tick")
	families, err := job.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			got[family.GetName()] += metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"skytools_consumer_events_total":                2,
		"skytools_consumer_batches_total":               2,
		"skytools_consumer_last_tick_timestamp_seconds": float64(tick),
	} {
		if got[name] < want-1 || got[name] > want+1 || want == 2 && got[name] != 2 {
			t.Errorf("%s = %v, want %v", name, got[name], want)
		}
	}
}

// A panic is the handler's, not the end of the process: the batch comes again.
func TestPanicOfAHandlerIsAnError(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			r := setupRoad(t)
			r.register(t)
			config := r.config(r.src, r.dst)
			config.LogLevel = "info"
			job, log := setupJob(t, config.JobConfig)
			panics := true
			worker, err := kind.make(job, config, func(ctx context.Context, tx pgx.Tx, batch *Batch) error {
				for ev, err := range batch.Events() {
					if err != nil {
						return err
					}
					if _, err := tx.Exec(ctx, "insert into public.applied values ($1, $2)", ev.ID, ev.Data); err != nil {
						return err
					}
					if panics && ev.Data.String == "b" {
						panic("no such thing")
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			r.produce(t, "a", "b", "c")
			if err := drain(worker); err == nil || !strings.Contains(err.Error(), "the handler panicked at event 2: no such thing") {
				t.Fatalf("error %v", err)
			}
			for _, want := range []string{"handler panicked", "event_id=2", "consumer_test.go"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("no %q in the log:\n%s", want, log)
				}
			}
			panics = false
			job.DropConnections() // as Job.Run does
			mustDrain(t, worker)
			if got := applied(t, kind.here(r)); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("applied %v", got)
			}
		})
	}
}

// Programs on Main can change their place as the stock jobs can.
func TestProgramsChangeTheirPlace(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	ini := writeIni(t, fmt.Sprintf("[consumer]\njob_name = %s\nqueue_name = %s\nsrc_db = %s\ndst_db = %s\nloop_delay = 0\n", testConsumer, testQueue, r.src.DSN, r.dst.DSN))
	run := func(args ...string) (string, error) {
		var cfg RemoteConfig
		var stderr strings.Builder
		err := mainRun(context.Background(), "consumer", &cfg, append(args, ini), io.Discard, &stderr, func(job *Job) (Worker, error) {
			return NewSerialConsumer(job, cfg, apply)
		})
		return stderr.String(), err
	}
	must := func(want string, args ...string) {
		t.Helper()
		if log, err := run(args...); err != nil || !strings.Contains(log, want) {
			t.Fatalf("%q: %v, log %q, want %q", args, err, log, want)
		}
	}
	must("consumer registered", "--register")
	r.produce(t, "a")
	must("", "-q")
	r.dst.Exec(t, "delete from public.applied; update pgq_ext.completed_tick set last_tick_id = last_tick_id - 1")
	must("consumer moved on its queue", "--rewind")
	must("", "-q")
	if got := applied(t, r.dst); !slices.Equal(got, []string{"a"}) {
		t.Errorf("after --rewind: applied %v", got)
	}
	must("the target still knows its place", "--unregister")
	must("target has forgotten its place", "--reset")
	if _, err := run("--unregister"); err == nil || !strings.Contains(err.Error(), "not registered on queue \"events\"") {
		t.Errorf("--unregister twice: %v", err)
	}
	if _, err := run("--reset", "--rewind"); ExitCode(err) != 2 {
		t.Errorf("two at once: %v", err)
	}
	var cfg struct{ JobConfig }
	path := writeIni(t, "[other]\n")
	if err := mainRun(context.Background(), "other", &cfg, []string{"--register", path}, io.Discard, io.Discard, func(*Job) (Worker, error) {
		return WorkerFunc(func(context.Context) (bool, error) { return false, nil }), nil
	}); ExitCode(err) != 2 || !strings.Contains(err.Error(), "no consumer of a queue") {
		t.Errorf("of a job without a queue: %v", err)
	}
}
