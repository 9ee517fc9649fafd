package ticker

// The ticker on real servers: ticks, maintenance, retries, lost databases.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goworkers/batch"
	"goworkers/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 20 * time.Second

// console collects the log.
type console struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.Write(p)
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.b.String()
}

// running is a ticker under test.
type running struct {
	job    *batch.Job
	log    *console
	stop   chan struct{}
	kill   chan struct{}
	reload chan struct{}
	ended  chan error
}

// quick settings: everything happens within milliseconds.
func quick(s Settings) Settings {
	s.period, s.maintPeriod, s.retryPeriod = 5*time.Millisecond, 5*time.Millisecond, 5*time.Millisecond
	s.checkPeriod, s.longestPause = 10*time.Millisecond, 10*time.Millisecond
	s.restPeriod, s.peekPeriod, s.sparePeriod = 5*time.Millisecond, 5*time.Millisecond, 100*time.Millisecond
	return s
}

func start(t *testing.T, settings Settings, load func() (Settings, error)) *running {
	t.Helper()
	r := &running{
		log: &console{}, stop: make(chan struct{}), kill: make(chan struct{}),
		reload: make(chan struct{}, 1), ended: make(chan error, 1),
	}
	var err error
	if r.job, err = batch.NewJob("pgqd", batch.JobConfig{JobName: "test", LogLevel: "info"}, r.log); err != nil {
		t.Fatal(err)
	}
	r.job.Signals = &batch.Signals{Stop: r.stop, Kill: r.kill, Reload: r.reload}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { r.ended <- Run(ctx, r.job, settings, load) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
		r.job.Close()
		if t.Failed() {
			t.Logf("log:\n%s", r.log)
		}
	})
	return r
}

func (r *running) waitLog(t *testing.T, text string) {
	t.Helper()
	pgtest.Eventually(t, soon, "the log says "+text, func() bool { return strings.Contains(r.log.String(), text) })
}

func one(d *pgtest.Database) Settings {
	cfg := Config{JobConfig: batch.JobConfig{JobName: "test"}, DB: batch.ConnString(d.DSN)}
	return cfg.Settings()
}

// metric adds up the values of a metric over its labels.
func (r *running) metric(t *testing.T, name string) float64 {
	t.Helper()
	families, err := r.job.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// labelled is a metric's values by the database, "" where there is none.
func (r *running) labelled(t *testing.T, name string) map[string]string {
	t.Helper()
	families, err := r.job.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			database := ""
			for _, l := range m.GetLabel() {
				if l.GetName() == "database" {
					database = l.GetValue()
				}
			}
			values[database] = fmt.Sprint(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return values
}

func TestTickerTicksWhatHasEvents(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0'`)
	d.Exec(t, `select pgq.insert_event('q', 'type', 'data')`)
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select max(tick_event_seq) = (select last_value from pgq.event_1_id_seq) and count(*) > 1 from pgq.tick`)
	r.waitLog(t, "pgq version ok database="+d.Name)
	pgtest.Eventually(t, soon, "the metrics count the ticks", func() bool {
		return r.metric(t, "skytools_ticker_ticks_total") >= 1
	})
	if r.metric(t, "skytools_ticker_up") != 1 || r.metric(t, "skytools_ticker_last_run_timestamp_seconds") == 0 {
		t.Error("the metrics do not say that the database is ticked")
	}
	close(r.stop)
	if err := <-r.ended; err != nil {
		t.Errorf("SIGINT: got %v, want a clean end", err)
	}
	if !strings.Contains(r.log.String(), "INFO {ticks: ") || !strings.Contains(r.log.String(), ", retry: 0}") {
		t.Error("no statistics line at the end")
	}
}

func TestTickerRotatesAndRetries(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.register_consumer('q', 'c');
		update pgq.queue set queue_rotation_period = '0', queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	d.Exec(t, `select pgq.event_retry_raw('q', 'c', now(), null, now(), 1, 'again', 'data', null, null, null, null)`)
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select count(*) = 0 from pgq.retry_queue`)
	d.WaitFor(t, `select count(*) = 1 from pgq.event_template where ev_type = 'again'`)
	// the consumer holds the rotation up until it moves on
	d.Exec(t, `select pgq.unregister_consumer('q', 'c')`)
	d.WaitFor(t, `select queue_cur_table > 0 from pgq.queue`)
	pgtest.Eventually(t, soon, "the metrics count both", func() bool {
		return r.metric(t, "skytools_ticker_retried_events_total") == 1 && r.metric(t, "skytools_ticker_maint_operations_total") > 0
	})
}

// One maintenance operation that fails holds up neither the others nor the ticks.
func TestTickerGoesOnAfterFailingMaintenance(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `create table public.done (at timestamptz default clock_timestamp());
		create function public.bad(text) returns int language plpgsql as $$ begin raise exception 'broken by hand'; end $$;
		create function public.good(text) returns int language sql as $$ insert into public.done default values; select 0 $$;
		select pgq.create_queue('q');
		update pgq.queue set queue_extra_maint = array['public.bad', 'public.good']`)
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select count(*) >= 2 from public.done`)
	r.waitLog(t, "broken by hand")
	if n := strings.Count(r.log.String(), " ERROR "); n != 1 {
		t.Errorf("%d errors logged for one trouble, want 1", n)
	}
	d.Exec(t, `create or replace function public.bad(text) returns int language sql as $$ select 0 $$`)
	r.waitLog(t, "INFO recovered")
}

// A queue that cannot be ticked is told once and stops no other queue.
func TestTickerTellsTheServersWarningsOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('bad'); select pgq.create_queue('good');
		update pgq.queue set queue_ticker_max_lag = '0';
		update pgq.tick set tick_snapshot = '4000000000:4000000000:' where tick_queue = 1`)
	d.Exec(t, `select pgq.insert_event('good', 't', 'd')`)
	r := start(t, quick(one(d)), nil)
	r.waitLog(t, "ticker: queue bad")
	d.WaitFor(t, `select count(*) >= 2 from pgq.tick where tick_queue = 2`)
	rounds := r.metric(t, "skytools_ticker_ticks_total")
	d.Exec(t, `select pgq.insert_event('good', 't', 'd')`)
	pgtest.Eventually(t, soon, "another tick", func() bool { return r.metric(t, "skytools_ticker_ticks_total") > rounds })
	if n := strings.Count(r.log.String(), "ticker: queue bad"); n != 1 {
		t.Errorf("the warning was logged %d times, want once", n)
	}
}

func TestTickerWaitsForTheExtension(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t)
	r := start(t, quick(one(d)), nil)
	r.waitLog(t, `ERROR pgq is not installed, nothing to tick database=`+d.Name+` install_with="pgqadm CONFIG.ini install"`)
	d.Exec(t, `create extension pgq; select pgq.create_queue('q')`)
	d.WaitFor(t, `select count(*) > 1 from pgq.tick`)
	if n := strings.Count(r.log.String(), "pgq is not installed"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

func TestTickerRefusesAnOldVersion(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t)
	d.Exec(t, `create schema pgq;
		create function pgq.ticker() returns bigint language sql as 'select 1/0';
		create function pgq.version() returns text language sql as $$ select '2.1.8'::text $$`)
	r := start(t, quick(one(d)), nil)
	r.waitLog(t, "pgq is too old to be ticked")
	if strings.Contains(r.log.String(), "division") {
		t.Error("it was ticked all the same")
	}
}

// A database that is lost is told once, and ticked again when it is back; the
// others are not held up.
func TestTickerSurvivesALostServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	lost, other := server.DB(t, "pgq"), pgtest.DB(t, "pgq")
	for _, d := range []*pgtest.Database{lost, other} {
		d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	}
	cfg := DaemonConfig{DatabaseList: []string{lost.DSN, other.DSN}}
	r := start(t, quick(cfg.Settings()), nil)
	lost.WaitFor(t, `select count(*) > 1 from pgq.tick`)
	server.Stop(t)
	r.waitLog(t, " ERROR ")
	ticks := pgtest.Value[int64](t, other, `select count(*) from pgq.tick`)
	other.WaitFor(t, `select count(*) > $1 + 5 from pgq.tick`, ticks)
	server.Start(t)
	r.waitLog(t, "INFO recovered after=")
	ticks = pgtest.Value[int64](t, lost, `select max(tick_id) from pgq.tick`)
	lost.WaitFor(t, `select max(tick_id) > $1 from pgq.tick`, ticks)
	if strings.Contains(r.log.String(), "ERROR work failed, will be tried again database="+other.Name) {
		t.Error("the other database was in trouble too")
	}
	// The server's last words, the closed port and its refusals while it
	// starts are one trouble: told once until it is over.
	told, over := strings.Count(r.log.String(), " ERROR "), strings.Count(r.log.String(), " INFO recovered")
	if told > over {
		t.Errorf("%d errors logged, but %d recoveries", told, over)
	}
	if strings.Contains(r.log.String(), " WARNING ") {
		t.Error("the server's last words were logged as a warning")
	}
}

func TestTickerFindsDatabases(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	first := server.DB(t, "pgq")
	first.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	cfg := DaemonConfig{
		BaseConnstr:     batch.ConnString(strings.Replace(server.DSN, "dbname=postgres", "", 1)),
		InitialDatabase: "template1",
	}
	r := start(t, quick(cfg.Settings()), nil)
	first.WaitFor(t, `select count(*) > 1 from pgq.tick`)
	r.waitLog(t, "INFO pgq is not installed, nothing to tick database=postgres")

	admin := &pgtest.Database{Name: "postgres", DSN: server.DSN}
	admin.Exec(t, `create database "it's new" template template0`)
	r.waitLog(t, `INFO pgq is not installed, nothing to tick database="it's new"`)
	admin.Exec(t, `drop database "it's new" with (force)`)
	r.waitLog(t, `INFO database is gone database="it's new"`)
	close(r.stop)
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

// A server that cannot be reached at the start is seen by who watches, and no longer
// when it can be.
func TestTickerTellsOfAServerThatNeverAnswered(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	d := server.DB(t, "pgq")
	server.Stop(t)
	cfg := DaemonConfig{
		BaseConnstr:     batch.ConnString(strings.Replace(server.DSN, "dbname=postgres", "", 1)),
		InitialDatabase: "template1",
	}
	r := start(t, quick(cfg.Settings()), nil)
	pgtest.Eventually(t, soon, "it is told", func() bool {
		return r.labelled(t, "skytools_ticker_up")["template1"] == "0" && r.labelled(t, "skytools_ticker_errors_total")["template1"] != ""
	})
	server.Start(t)
	pgtest.Eventually(t, soon, "its database is told instead", func() bool {
		up := r.labelled(t, "skytools_ticker_up")
		return up[d.Name] == "1" && up["template1"] == ""
	})
}

// The queues of a standby are ticked as soon as it is promoted, not only when all
// that was not fit for ticking is looked at again.
func TestTickerNoticesAPromotion(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	d := server.DB(t, "pgq")
	d.Exec(t, busyQueue)
	server.Demote(t)
	settings := quick(one(d))
	settings.checkPeriod, settings.standbyPeriod = 1000*soon, 10*time.Millisecond
	r := start(t, settings, nil)
	r.waitLog(t, "server is a standby")
	server.Promote(t)
	d.WaitFor(t, `select count(*) > 2 from pgq.tick`)
	if n := strings.Count(r.log.String(), "server is a standby"); n != 1 {
		t.Errorf("told %d times that it is a standby, want once", n)
	}
}

func TestTickerReloads(t *testing.T) {
	t.Parallel()
	first, second := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq")
	for _, d := range []*pgtest.Database{first, second} {
		d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	}
	loads := 0
	r := start(t, quick(one(first)), func() (Settings, error) {
		if loads++; loads == 1 {
			return Settings{}, errors.New("line 3 is wrong")
		}
		return quick(one(second)), nil
	})
	first.WaitFor(t, `select count(*) > 1 from pgq.tick`)
	r.reload <- struct{}{}
	r.waitLog(t, `ERROR reload failed, going on as before error="line 3 is wrong"`)
	ticks := pgtest.Value[int64](t, first, `select count(*) from pgq.tick`)
	first.WaitFor(t, `select count(*) > $1 from pgq.tick`, ticks)
	r.reload <- struct{}{}
	r.waitLog(t, "INFO configuration reloaded")
	second.WaitFor(t, `select count(*) > 1 from pgq.tick`)
}

// SIGTERM does not wait for a statement that hangs.
func TestTickerEndsAtOnce(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q')`)
	holder := d.Conn(t)
	if _, err := holder.Exec(t.Context(), `begin; lock table pgq.queue in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select exists (select from pg_locks l where l.relation = 'pgq.queue'::regclass and not l.granted)`)
	close(r.kill)
	close(r.stop)
	if err := <-r.ended; !errors.Is(err, batch.ErrTerminated) {
		t.Errorf("got %v, want %v", err, batch.ErrTerminated)
	}
}

// SIGINT waits for the statement under way; SIGTERM after it does not.
func TestTickerEndsAtOnceWhileItWaits(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	holder := d.Conn(t)
	if _, err := holder.Exec(t.Context(), `begin; lock table pgq.queue in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select exists (select from pg_locks l where l.relation = 'pgq.queue'::regclass and not l.granted)`)
	close(r.stop)
	select {
	case err := <-r.ended:
		t.Fatalf("SIGINT did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(r.kill)
	select {
	case err := <-r.ended:
		if !errors.Is(err, batch.ErrTerminated) {
			t.Errorf("got %v, want %v", err, batch.ErrTerminated)
		}
	case <-time.After(soon):
		_ = holder.Close(t.Context())
		t.Error("SIGTERM after SIGINT was not heard")
	}
}

// A reload waits for maintenance under way, ticking does not.
func TestTickerTicksThroughAReload(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	holder := d.Conn(t)
	if _, err := holder.Exec(t.Context(), `begin; lock table pgq.retry_queue in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	defer holder.Close(t.Context())
	r := start(t, quick(one(d)), func() (Settings, error) { return quick(one(d)), nil })
	d.WaitFor(t, `select exists (select from pg_locks l where l.relation = 'pgq.retry_queue'::regclass and not l.granted)`)
	r.reload <- struct{}{}
	pgtest.Eventually(t, soon, "the reload is taken", func() bool { return len(r.reload) == 0 })
	ticks := pgtest.Value[int64](t, d, `select max(tick_id) from pgq.tick`)
	d.WaitFor(t, `select max(tick_id) > $1 + 5 from pgq.tick`, ticks)
	r.waitLog(t, "INFO configuration reloaded")
	close(r.kill)
	close(r.stop)
	if err := <-r.ended; !errors.Is(err, batch.ErrTerminated) {
		t.Errorf("got %v, want %v", err, batch.ErrTerminated)
	}
}

// up says what the operator is to be called for, and nothing is told of databases
// that are the ticker's no more.
func TestTickerMetricsFollowTheDatabase(t *testing.T) {
	t.Parallel()
	first, second := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq")
	for _, d := range []*pgtest.Database{first, second} {
		d.Exec(t, `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	}
	r := start(t, quick(one(first)), func() (Settings, error) { return quick(one(second)), nil })
	up := func(d *pgtest.Database, want string) {
		t.Helper()
		pgtest.Eventually(t, soon, "up of "+d.Name+" is "+want, func() bool {
			return r.labelled(t, "skytools_ticker_up")[d.Name] == want
		})
	}
	up(first, "1")
	// The table that the ticker begins with comes first, or both might wait for each other.
	first.Exec(t, `lock table pgq.queue; select pgq.drop_queue('q', true); drop extension pgq cascade`)
	r.waitLog(t, "pgq is not installed, nothing to tick")
	up(first, "0")
	errors := r.metric(t, "skytools_ticker_errors_total")
	for range 3 {
		if got := r.metric(t, "skytools_ticker_errors_total"); got != errors {
			t.Errorf("a scrape of a database without pgq counts %v errors", got-errors)
		}
	}
	if strings.Contains(r.log.String(), "loop=metrics") {
		t.Error("a database without pgq was asked for its queues")
	}
	first.Exec(t, `create extension pgq`)
	up(first, "1")
	r.reload <- struct{}{}
	up(second, "1")
	pgtest.Eventually(t, soon, "the first is forgotten", func() bool {
		for _, name := range []string{"up", "errors_total", "ticks_total", "last_run_timestamp_seconds"} {
			if r.labelled(t, "skytools_ticker_"+name)[first.Name] != "" {
				return false
			}
		}
		return true
	})
	if got := r.labelled(t, "skytools_job_last_success_timestamp_seconds"); len(got) != 0 {
		t.Errorf("a ticker has no rounds of a job, but their last success is %v", got)
	}
}

func TestDaemonConfigNamesItsFaults(t *testing.T) {
	cfg := DaemonConfig{
		Period: time.Second, MaintPeriod: time.Second, RetryPeriod: 0, CheckPeriod: time.Second,
		DatabaseList: []string{"a", "dbname=a host=x", "port=oh"},
	}
	problems := cfg.Validate()
	var got []string
	for _, p := range problems {
		got = append(got, p.Key+" "+p.What)
	}
	for i, want := range []string{"retry_period is too short", `database_list has "a" twice`, `database_list "port=oh" is not a connection string`} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Fatalf("got %q, want %q at %d", got, want, i)
		}
	}
}

func TestDatabasesOfAList(t *testing.T) {
	for _, tc := range []struct{ base, entry, name, dsn string }{
		{"host=h", "a", "a", "host=h dbname='a'"},
		{"", "it's", "it's", `dbname='it\'s'`},
		{"host=h port=1", "dbname=b port=2", "b", "host=h port=1 dbname=b port=2"},
		{"postgres://u@h/", "a b", "a b", "postgres://u@h/a%20b"},
		{"host=h", "postgres://u@g/b", "b", "postgres://u@g/b"},
	} {
		cfg := DaemonConfig{BaseConnstr: batch.ConnString(tc.base)}
		got := cfg.target(tc.entry)
		if got.name != tc.name || string(got.dsn) != tc.dsn {
			t.Errorf("%q + %q: got %+v", tc.base, tc.entry, got)
		}
		if name := databaseName(got.dsn); name != tc.name {
			t.Errorf("%q leads to database %q, want %q", got.dsn, name, tc.name)
		}
	}
}
