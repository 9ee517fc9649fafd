package ticker

// Ticks by word of writers.

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
)

// lazy settings: nothing happens unless somebody sends word.
func lazy(s Settings) Settings {
	s.period, s.maintPeriod, s.retryPeriod = time.Hour, time.Hour, time.Hour
	return s
}

// awake waits until the ticker listens.
func awake(t *testing.T, d *pgtest.Database) {
	t.Helper()
	d.WaitFor(t, `select exists (select from pg_catalog.pg_stat_activity
		where datname = current_database() and state = 'idle' and query like '%from pgq.queue%queue_ticker_paused%')`)
}

// write inserts an event and sends word of it.
func write(queue string) string {
	return `begin; select pgq.insert_event('` + queue + `', 't', 'd'); notify pgq_insert, '` + queue + `'; commit`
}

const notifyingQueue = `select pgq.create_queue('q'); select pgq.create_queue('r'); select pgq.create_queue('still');
	update pgq.queue set queue_notify = true where queue_name <> 'still'`

func TestTickerIsWoken(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, notifyingQueue)
	r := start(t, lazy(one(d)), nil)
	awake(t, d)
	for range 3 {
		for id, queue := range []string{"q", "r"} {
			d.Exec(t, write(queue))
			d.WaitFor(t, `select max(tick_event_seq) = (select last_value from pgq.event_`+strconv.Itoa(id+1)+`_id_seq)
				from pgq.tick where tick_queue = $1`, id+1)
		}
	}
	pgtest.Eventually(t, soon, "the metrics count words and ticks", func() bool {
		return r.metric(t, "skytools_ticker_wakeups_total") >= 1 && r.metric(t, "skytools_ticker_ticks_total") >= 6
	})
	// nobody can make it tick what it must not, or end
	d.Exec(t, `notify pgq_insert, 'nowhere'; notify pgq_insert; notify pgq_insert, 'still'`)
	d.Exec(t, write("q"))
	d.WaitFor(t, `select max(tick_event_seq) = (select last_value from pgq.event_1_id_seq) from pgq.tick where tick_queue = 1`)
	if ticks := pgtest.Value[int](t, d, `select count(*) from pgq.tick where tick_queue = 3`); ticks > 2 {
		t.Errorf("the queue without notify has %d ticks, want its first and that of the first look", ticks)
	}
}

// An event that is written before the one whose word wakes the ticker, but is
// committed after it, is not left lying.
func TestWokenTickerSeesLateCommits(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, notifyingQueue)
	d.Exec(t, `select pgq.register_consumer('q', 'c')`)
	start(t, lazy(one(d)), nil)
	awake(t, d)
	held := d.Conn(t)
	insert := func(conn *pgx.Conn, data string) {
		t.Helper()
		if _, err := conn.Exec(context.Background(), `select pgq.insert_event('q', 't', $1)`, data); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(context.Background(), `notify pgq_insert, 'q'`); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := held.Exec(context.Background(), `begin`); err != nil {
		t.Fatal(err)
	}
	insert(held, "late")
	insert(d.Conn(t), "early")
	d.WaitFor(t, `select count(*) > 1 from pgq.tick where tick_queue = 1`)
	if _, err := held.Exec(context.Background(), `commit`); err != nil {
		t.Fatal(err)
	}
	// all that is written lies between ticks
	d.WaitFor(t, `select bool_and(pg_catalog.txid_visible_in_snapshot(e.ev_txid, (
			select tick_snapshot from pgq.tick where tick_queue = 1 order by tick_id desc limit 1)))
		from pgq.event_template e`)
}

// A queue that is written to all the time costs no more looks than its ticks may be.
func TestBusyQueueDoesNotSpinTheTicker(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, notifyingQueue)
	start(t, lazy(one(d)), nil)
	awake(t, d)
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	stop := func() { cancel(); writers.Wait() }
	defer stop()
	for range 3 {
		conn := d.Conn(t)
		writers.Go(func() {
			for ctx.Err() == nil {
				if _, err := conn.Exec(context.Background(), write("q")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	began := time.Now() // before the first tick that counts, and it ends after the last one
	before := pgtest.Value[int](t, d, `select max(tick_id) from pgq.tick where tick_queue = 1`)
	d.WaitFor(t, `select count(*) > 20 from pgq.tick where tick_queue = 1`)
	stop()
	ticks := pgtest.Value[int](t, d, `select max(tick_id) from pgq.tick where tick_queue = 1`) - before
	took := time.Since(began)
	if most := int(took.Seconds()/0.025) + 2; ticks > most {
		t.Errorf("%v ticks in %s, want at most %v", ticks, took, most)
	}
}

// A listening connection that is lost is replaced, and word is heard again.
func TestWokenTickerComesBack(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, notifyingQueue)
	settings := lazy(one(d))
	settings.longestPause = 10 * time.Millisecond
	r := start(t, settings, nil)
	for range 3 {
		awake(t, d)
		d.Exec(t, `select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
			where datname = current_database() and pid <> pg_catalog.pg_backend_pid()`)
	}
	r.waitLog(t, "INFO recovered")
	awake(t, d)
	d.Exec(t, write("q"))
	d.WaitFor(t, `select max(tick_event_seq) = (select last_value from pgq.event_1_id_seq) from pgq.tick where tick_queue = 1`)
}

// Settings that are switched on and off take effect without a restart: while all
// queues send word the looks are rare, else they are not.
func TestLooksAreRareWhileAllQueuesSendWord(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, notifyingQueue+`; update pgq.queue set queue_notify = true`)
	settings := quick(one(d))
	settings.restPeriod = time.Second / 2
	r := start(t, settings, nil)
	awake(t, d)
	looks := func() time.Time {
		value, _ := r.gauge(t, "skytools_ticker_last_run_timestamp_seconds", d.Name)
		return time.UnixMicro(int64(value * 1e6))
	}
	next := func(after time.Time) (look time.Time) {
		pgtest.Eventually(t, soon, "another look", func() bool { look = looks(); return look.After(after) })
		return look
	}
	rare := func() bool {
		one := next(looks())
		return next(one).Sub(one) > settings.restPeriod/2
	}
	pgtest.Eventually(t, soon, "looks are rare", rare)
	d.Exec(t, `update pgq.queue set queue_notify = false where queue_name = 'r'`)
	pgtest.Eventually(t, soon, "looks are frequent", func() bool { return !rare() })
}
