package batch_test

// The programs of README.md: they are compiled here, and run on servers.

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

type signup struct {
	Username string
	Email    *string
}

func greet(ctx context.Context, tx pgx.Tx, ev *pgq.Event, s *signup) error {
	if s.Email == nil {
		return batch.DeadLetter("nowhere to write to")
	}
	_, err := tx.Exec(ctx, "insert into public.greeting values ($1, $2)", s.Username, s.Email)
	return err
}

func ExampleHandle() {
	var cfg struct {
		batch.ConsumerConfig
		batch.BadEvents
	}
	batch.Main("greeter", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewConsumer(job, cfg.ConsumerConfig, batch.Handle(job, cfg.BadEvents, greet))
	})
}

type moverConfig struct {
	batch.RemoteConfig
	DstQueue string `ini:"dst_queue_name" required:"true" help:"queue in dst_db"`
}

func (cfg *moverConfig) move(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
	_, err := pgq.BulkInsert(ctx, tx, cfg.DstQueue, b.Events())
	return err
}

func ExampleNewRemoteConsumer() {
	var cfg moverConfig
	batch.Main("queue_mover", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewRemoteConsumer(job, cfg.RemoteConfig, cfg.move)
	})
}

type serialConfig struct {
	batch.RemoteConfig
	batch.BadEvents
	DstQuery string `ini:"dst_query" required:"true" help:"statement for each event"`
}

type payload struct {
	Username, Email string
}

func (cfg *serialConfig) run(ctx context.Context, tx pgx.Tx, ev *pgq.Event, p *payload) error {
	_, err := tx.Exec(ctx, cfg.DstQuery, p.Username, p.Email)
	return err
}

func ExampleNewSerialConsumer() {
	var cfg serialConfig
	batch.Main("simple_serial_consumer", &cfg, func(job *batch.Job) (batch.Worker, error) {
		return batch.NewSerialConsumer(job, cfg.RemoteConfig, batch.Handle(job, cfg.BadEvents, cfg.run))
	})
}

// What README.md shows is what stands above.
func TestReadmeShowsTheExamples(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"ExampleHandle", "ExampleNewRemoteConsumer", "ExampleNewSerialConsumer"}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) != len(names) {
		t.Fatalf("README.md has %d Go programs, want %d", len(blocks), len(names))
	}
	for i, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		code = strings.Replace(code, "func main()", "func "+names[i]+"()", 1)
		if !strings.Contains(string(source), code) {
			t.Errorf("the program %d of README.md is not what is compiled here:\n%s", i+1, code)
		}
	}
}

func TestTheProgramsOfTheReadmeWork(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	src, dst := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq", "pgq_ext")
	src.Exec(t, `select pgq.create_queue('signups');
		select pgq.register_consumer('signups', c) from unnest('{greeter,queue_mover,simple_serial_consumer}'::text[]) c;
		create table public.greeting (username text, email text)`)
	src.Exec(t, `select pgq.insert_event('signups', 'new', 'username=bob&email=bob%40example.com');
		select pgq.insert_event('signups', 'new', 'username=eve&email')`)
	src.Exec(t, `select pgq.force_tick('signups'); select pgq.ticker()`)
	dst.Exec(t, `select pgq.create_queue('all_signups'); select pgq.register_consumer('all_signups', 'c');
		create table public.greeting (username text, email text)`)
	work := func(name string, start func(job *batch.Job, cfg batch.RemoteConfig) (batch.Worker, error)) error {
		t.Helper()
		cfg := batch.RemoteConfig{DstDB: batch.ConnString(dst.DSN), ConsumerConfig: batch.ConsumerConfig{
			JobConfig: batch.JobConfig{JobName: name, LogLevel: "error"}, SrcDB: batch.ConnString(src.DSN), QueueName: "signups", LazyFetch: 1,
		}}
		job, err := batch.NewJob(name, cfg.JobConfig, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer job.Close()
		worker, err := start(job, cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = worker.Work(ctx)
		return err
	}

	if err := work("greeter", func(job *batch.Job, cfg batch.RemoteConfig) (batch.Worker, error) {
		return batch.NewConsumer(job, cfg.ConsumerConfig, batch.Handle(job, batch.BadEvents{}, greet))
	}); err != nil {
		t.Error(err)
	}
	if got := src.Rows(t, "select username, email, (select reason from pgq.dead_letter) from public.greeting"); !slices.Equal(got, []string{"bob|bob@example.com|nowhere to write to"}) {
		t.Errorf("the greeter made %q", got)
	}

	if err := work("queue_mover", func(job *batch.Job, cfg batch.RemoteConfig) (batch.Worker, error) {
		return batch.NewRemoteConsumer(job, cfg, (&moverConfig{DstQueue: "all_signups"}).move)
	}); err != nil {
		t.Error(err)
	}
	if got := dst.Rows(t, "select ev_type, ev_data from pgq.event_template order by ev_id"); !slices.Equal(got, []string{"new|username=bob&email=bob%40example.com", "new|username=eve&email"}) {
		t.Errorf("the mover brought %q", got)
	}

	serial := serialConfig{DstQuery: "insert into public.greeting values ($1, $2)", BadEvents: batch.BadEvents{OnBadEvent: "stop"}}
	err := work("simple_serial_consumer", func(job *batch.Job, cfg batch.RemoteConfig) (batch.Worker, error) {
		return batch.NewSerialConsumer(job, cfg, batch.Handle(job, serial.BadEvents, serial.run))
	})
	if err == nil || !strings.Contains(err.Error(), `event 2: field "email": is NULL`) {
		t.Errorf("an email that is NULL: %v", err)
	}
	if got := dst.Rows(t, "select * from public.greeting"); len(got) != 0 {
		t.Errorf("a part of the batch stayed: %q", got)
	}
}
