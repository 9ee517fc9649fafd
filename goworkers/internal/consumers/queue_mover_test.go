package consumers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	srcQueue = "user_events"
	dstQueue = "all_events"
)

// queueDB makes a database with a queue that the consumers are registered on.
func queueDB(t *testing.T, queue string, consumers ...string) (*pgtest.Database, *pgx.Conn) {
	t.Helper()
	db := pgtest.DB(t, "pgq", "pgq_ext")
	conn := db.Conn(t)
	if _, err := pgq.CreateQueue(context.Background(), conn, queue); err != nil {
		t.Fatal(err)
	}
	for _, c := range consumers {
		if _, err := pgq.RegisterConsumer(context.Background(), conn, queue, c); err != nil {
			t.Fatal(err)
		}
	}
	return db, conn
}

func tick(t *testing.T, conn *pgx.Conn, queue string) {
	t.Helper()
	if _, err := pgq.ForceTick(context.Background(), conn, queue); err != nil {
		t.Fatal(err)
	}
	if id, err := pgq.TickQueue(context.Background(), conn, queue); err != nil || id == 0 {
		t.Fatalf("TickQueue = %d, %v", id, err)
	}
}

func insert(t *testing.T, conn *pgx.Conn, queue string, events ...pgq.Event) {
	t.Helper()
	for _, ev := range events {
		if _, err := pgq.InsertEvent(context.Background(), conn, queue, ev); err != nil {
			t.Fatal(err)
		}
	}
}

func text(data string) pgq.Event { return pgq.Event{Data: pgq.Text(data)} }

func config(name string, src, dst *pgtest.Database) QueueMoverConfig {
	return QueueMoverConfig{
		RemoteConfig: batch.RemoteConfig{
			ConsumerConfig: batch.ConsumerConfig{
				JobConfig: batch.JobConfig{JobName: name, LogLevel: "info"},
				SrcDB:     batch.ConnString(src.DSN), QueueName: srcQueue, LazyFetch: 3,
			},
			DstDB: batch.ConnString(dst.DSN),
		},
		DstQueueName: dstQueue,
	}
}

// move runs a mover until the source is empty.
func move(t *testing.T, cfg QueueMoverConfig) error {
	t.Helper()
	job, err := batch.NewJob(QueueMoverService, cfg.JobConfig, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	mover, err := NewQueueMover(job, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if more, err := mover.Work(context.Background()); err != nil || !more {
			return err
		}
	}
}

// moved is the data of all events in the target's queue, in order of their ids.
func moved(t *testing.T, dst *pgtest.Database) []string {
	t.Helper()
	return dst.Rows(t, "select ev_data from pgq.event_template order by ev_id")
}

func TestMoverKeepsAllButTheID(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "mover")
	dst, reader := queueDB(t, dstQueue, "reader")
	insert(t, producer, srcQueue,
		pgq.Event{Type: pgq.Text("I:username"), Data: pgq.Text("username=a&email"), Extra1: pgq.Text("public.users"),
			Extra2: pgq.Text(""), Extra3: pgq.Text("tab\tline\n\\N"), Extra4: pgq.Text("õ")},
		pgq.Event{}, pgq.Event{Type: pgq.Text("")}, text("4"), text("5"))
	src.Exec(t, "update pgq.event_template set ev_time = '2008-05-20 10:00:00.123456+03' where ev_data = '4'")
	tick(t, producer, srcQueue)
	if err := move(t, config("mover", src, dst)); err != nil {
		t.Fatal(err)
	}
	const all = "select ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4 from pgq.event_template order by ev_id"
	want, got := src.Rows(t, all), dst.Rows(t, all)
	if len(want) != 5 || !slices.Equal(want, got) {
		t.Errorf("moved\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	tick(t, reader, dstQueue)
	b, err := pgq.NextBatch(context.Background(), reader, dstQueue, "reader")
	if err != nil || b == nil {
		t.Fatalf("NextBatch at the target = %v, %v", b, err)
	}
	if events, err := pgq.GetBatchEvents(context.Background(), reader, b.ID); err != nil || len(events) != 5 {
		t.Errorf("the target's consumer sees %d events, %v", len(events), err)
	}
}

// A target that was restored from a backup lacks events that the source holds for
// done: to go on would lose them.
func TestMoverStopsWhenItsTargetIsSetBack(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "mover")
	dst, _ := queueDB(t, dstQueue)
	produce := func(data string) {
		insert(t, producer, srcQueue, text(data))
		tick(t, producer, srcQueue)
	}
	produce("a")
	if err := move(t, config("mover", src, dst)); err != nil {
		t.Fatal(err)
	}
	dst.Exec(t, `create schema backup;
		create table backup.completed_tick as table pgq_ext.completed_tick;
		create table backup.completed_batch as table pgq_ext.completed_batch`)
	produce("b")
	if err := move(t, config("mover", src, dst)); err != nil {
		t.Fatal(err)
	}
	dst.Exec(t, `delete from pgq.event_template where ev_data = 'b';
		truncate pgq_ext.completed_tick, pgq_ext.completed_batch;
		insert into pgq_ext.completed_tick table backup.completed_tick;
		insert into pgq_ext.completed_batch table backup.completed_batch`)
	produce("c")
	var lost *batch.LostPositionError
	if err := move(t, config("mover", src, dst)); !errors.As(err, &lost) {
		t.Fatalf("error %v, want one of a lost position", err)
	}
	if got := moved(t, dst); !slices.Equal(got, []string{"a"}) {
		t.Errorf("moved %v", got)
	}

	// The error's advice mends it.
	if _, err := pgq.RegisterConsumerAt(t.Context(), producer, srcQueue, "mover", lost.Target); err != nil {
		t.Fatal(err)
	}
	if err := move(t, config("mover", src, dst)); err != nil {
		t.Fatal(err)
	}
	if got := moved(t, dst); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("moved %v", got)
	}
}

func TestMoversOfPartitionsFillOneQueue(t *testing.T) {
	t.Parallel()
	dst, _ := queueDB(t, dstQueue)
	const partitions, events = 3, 40
	ended := make(chan error, partitions)
	var configs []QueueMoverConfig
	for p := range partitions {
		// Batch ids are the same in all sources; names keep the movers apart.
		name := fmt.Sprintf("mover_p%d", p)
		src, producer := queueDB(t, srcQueue, name)
		for i := range events {
			insert(t, producer, srcQueue, text(fmt.Sprintf("%d:%02d", p, i)))
			if i%10 == 9 {
				tick(t, producer, srcQueue)
			}
		}
		configs = append(configs, config(name, src, dst))
	}
	for _, cfg := range configs {
		go func() { ended <- move(t, cfg) }()
	}
	for range configs {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	got := moved(t, dst)
	for p := range partitions {
		// Of each partition everything, once, in order.
		var part, want []string
		for _, data := range got {
			if strings.HasPrefix(data, fmt.Sprintf("%d:", p)) {
				part = append(part, data)
			}
		}
		for i := range events {
			want = append(want, fmt.Sprintf("%d:%02d", p, i))
		}
		if !slices.Equal(part, want) {
			t.Errorf("partition %d: %v", p, part)
		}
	}
	if len(got) != partitions*events {
		t.Errorf("%d events moved, want %d", len(got), partitions*events)
	}
}

func TestMoverSurvivesAStopAtAnyStep(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "mover")
	dst, _ := queueDB(t, dstQueue)
	faults := pgtest.NewFaults(t)
	cfg := config("mover", faults.Through(t, src), faults.Through(t, dst))
	var want []string
	produce := func() {
		for range 2 {
			for range 4 { // pgq_lazy_fetch is 3: a full portion and a part of one
				want = append(want, fmt.Sprintf("%05d", len(want)))
				insert(t, producer, srcQueue, text(want[len(want)-1]))
			}
			tick(t, producer, srcQueue)
		}
	}
	stopAtEachStep(t, faults, produce, func() error { return move(t, cfg) }, func() error { return sameRows(moved(t, dst), want) })
}

func TestMoverTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	src, producer := queueDB(t, srcQueue, "mover")
	dst, _ := queueDB(t, dstQueue)
	extOnly := pgtest.DB(t, "pgq_ext")
	insert(t, producer, srcQueue, text("a"))
	tick(t, producer, srcQueue)
	for _, c := range []struct {
		name string
		set  func(*QueueMoverConfig)
		want string
	}{
		{"target queue", func(c *QueueMoverConfig) { c.DstQueueName = "nowhere" }, "create the queue in dst_db with: pgqadm INI create nowhere"},
		{"source queue", func(c *QueueMoverConfig) { c.QueueName = "nowhere" }, "create the queue with: pgqadm INI create nowhere"},
		{"pgq at the target", func(c *QueueMoverConfig) { c.DstDB = batch.ConnString(extOnly.DSN) }, "the database in dst_db needs the extension pgq"},
	} {
		cfg := config("mover", src, dst)
		c.set(&cfg)
		if err := move(t, cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("missing %s: error %v, want %q", c.name, err, c.want)
		}
	}
	job, err := batch.NewJob(QueueMoverService, batch.JobConfig{JobName: "j"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	cfg := config("mover", src, dst)
	cfg.DstQueueName, cfg.ConsumerName = "nowhere", "idle" // who gets only what comes from now on
	idle, err := NewQueueMover(job, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := idle.Work(t.Context()); err == nil || !strings.Contains(err.Error(), `no queue "nowhere"; create it in dst_db`) {
		t.Errorf("missing target queue, before an event comes: %v", err)
	}
	cfg.DstQueueName = ""
	if _, err := NewQueueMover(job, cfg); batch.ExitCode(err) != 2 {
		t.Errorf("without dst_queue_name: %v", err)
	}
	if got := moved(t, dst); len(got) != 0 {
		t.Errorf("moved %v", got)
	}
}

// Databases of two encodings: what can be written in both comes over.
func TestMoverReadsADatabaseOfAnotherEncoding(t *testing.T) {
	t.Parallel()
	server := pgtest.DB(t)
	name := server.Name + "_latin1"
	server.Exec(t, "create database "+name+" template template0 encoding latin1 locale 'C'")
	t.Cleanup(func() { server.Exec(t, "drop database "+name+" with (force)") })
	src := &pgtest.Database{Name: name, DSN: server.DSN + " dbname=" + name}
	src.Exec(t, "create extension pgq schema pg_catalog")
	conn := src.Conn(t)
	if _, err := pgq.CreateQueue(t.Context(), conn, srcQueue); err != nil {
		t.Fatal(err)
	}
	if _, err := pgq.RegisterConsumer(t.Context(), conn, srcQueue, "mover"); err != nil {
		t.Fatal(err)
	}
	src.Exec(t, "select pgq.insert_event('"+srcQueue+"', 't', 'Saaremaa ' || chr(214) || chr(233))")
	tick(t, conn, srcQueue)
	dst, _ := queueDB(t, dstQueue)
	if err := move(t, config("mover", src, dst)); err != nil {
		t.Fatal(err)
	}
	if got := moved(t, dst); !slices.Equal(got, []string{"Saaremaa Öé"}) {
		t.Errorf("moved %q", got)
	}
}
