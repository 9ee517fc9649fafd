package cli

// Real tickers, killed at any time while others run beside them.

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
	"goworkers/pgq"
)

// process is a ticker that runs as a program.
type process struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) says(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.log.String(), text)
}

func startProcess(t *testing.T, program string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program, args...)}
	p.cmd.Stderr = p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("a ticker said:\n%s", p.log.String())
		}
	})
	return p
}

// kill ends it as nothing can be noticed by it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// A spare takes over from a ticker that is killed, and ticks by word of writers.
func TestSpareTakesOverFromAKilledTicker(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_notify = true`)
	pgqadm := link(t, "pgqadm")
	ini := setupIni(t, "pgqadm", "db = "+d.DSN+"\nloop_delay = 0.05\n")
	first := startProcess(t, pgqadm, ini, "ticker")
	pgtest.Eventually(t, soon, "the first ticks", func() bool { return first.says("pgq version ok") })
	d.WaitFor(t, `select count(*) > 1 from pgq.tick`)
	second := startProcess(t, pgqadm, ini, "ticker")
	pgtest.Eventually(t, soon, "the second waits", func() bool { return second.says("waiting as its spare") })
	first.kill()
	pgtest.Eventually(t, soon, "the second takes over", func() bool { return second.says("ticking now") })
	d.Exec(t, `select pgq.insert_event('q', 't', 'd')`)
	d.WaitFor(t, `select max(tick_event_seq) = (select last_value from pgq.event_1_id_seq) from pgq.tick`)
}

func TestTickersKilledAtAnyTimeLoseNothing(t *testing.T) {
	t.Parallel()
	const kills, producers = 12, 3
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.register_consumer('q', 'c');
		update pgq.queue set queue_notify = true, queue_ticker_min_lag = '1 millisecond', queue_ticker_max_lag = '0', queue_rotation_period = '0'`)
	pgqadm := link(t, "pgqadm")
	inis := make([]string, 2)
	tickers := make([]*process, 2)
	for i := range tickers {
		inis[i] = setupIni(t, "pgqadm", fmt.Sprintf("job_name = ticker%d\ndb = %s\nloop_delay = 0.01\nmaint_delay = 0.01\n", i, d.DSN))
		tickers[i] = startProcess(t, pgqadm, inis[i], "ticker")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	stop := func() { cancel(); workers.Wait() }
	defer stop()

	var mu sync.Mutex
	sent, came := 0, map[string]int{}
	for n := range producers {
		conn := d.Conn(t)
		workers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				err := pgx.BeginFunc(context.Background(), conn, func(tx pgx.Tx) error {
					_, err := pgq.InsertEvent(context.Background(), tx, "q", pgq.Event{Type: pgq.Text("t"), Data: pgq.Text(fmt.Sprint(n, ":", i))})
					if err == nil && rand.N(4) == 0 { // others commit before it
						_, err = tx.Exec(context.Background(), `select pg_catalog.pg_sleep(random() / 20)`)
					}
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				sent++
				mu.Unlock()
			}
		})
	}
	consuming, ended := context.WithCancel(context.Background())
	defer ended()
	consumer := d.Conn(t)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer ended()
	reader.Go(func() {
		for consuming.Err() == nil {
			b, err := pgq.NextBatch(context.Background(), consumer, "q", "c")
			if err != nil {
				t.Error(err)
				return
			}
			if b == nil {
				select {
				case <-consuming.Done():
				case <-time.After(time.Millisecond):
				}
				continue
			}
			events, err := pgq.GetBatchEvents(context.Background(), consumer, b.ID)
			if err == nil {
				_, err = pgq.FinishBatch(context.Background(), consumer, b.ID)
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			for _, ev := range events {
				came[ev.Data.String]++
			}
			mu.Unlock()
		}
	})

	for range kills {
		i := rand.N(2)
		tickers[i].kill()
		tickers[i] = startProcess(t, pgqadm, inis[i], "ticker")
		tick := pgtest.Value[int64](t, d, `select max(tick_id) from pgq.tick`)
		d.WaitFor(t, `select max(tick_id) > $1 from pgq.tick`, tick+rand.N[int64](20))
	}
	stop()
	pgtest.Eventually(t, soon, "all events come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(came) >= sent
	})
	mu.Lock()
	defer mu.Unlock()
	if len(came) != sent {
		t.Errorf("%d events came, want %d", len(came), sent)
	}
	for data, n := range came {
		if n != 1 {
			t.Errorf("event %s came %d times", data, n)
		}
	}
	t.Logf("%d events, %d kills", sent, kills)
}
