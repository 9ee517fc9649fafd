package ticker

// Several tickers for one database, queues that fail, and what is told of both.

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/internal/pgtest"
)

// gauge is the value of one series whose labels have these values.
func (r *running) gauge(t *testing.T, name string, labels ...string) (value float64, found bool) {
	t.Helper()
	families, err := r.job.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			has := map[string]bool{}
			for _, l := range m.GetLabel() {
				has[l.GetValue()] = true
			}
			all := true
			for _, l := range labels {
				all = all && has[l]
			}
			if all {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue(), true
			}
		}
	}
	return 0, false
}

const busyQueue = `select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`

// Of two tickers one works. The other says once that it waits, shows it, and takes
// over when the first is gone.
func TestSpareTakesOver(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, busyQueue)
	first := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select count(*) > 2 from pgq.tick`)
	second := start(t, quick(one(d)), nil)
	second.waitLog(t, "another ticker works on the database, waiting as its spare application=test client=127.0.0.1 database="+d.Name+" pid=")
	if value, _ := second.gauge(t, "skytools_ticker_spare", d.Name); value != 1 {
		t.Errorf("spare = %v, want 1", value)
	}
	if value, _ := first.gauge(t, "skytools_ticker_spare", d.Name); value != 0 {
		t.Errorf("spare of the one that ticks = %v, want 0", value)
	}
	if _, found := second.gauge(t, "skytools_queue_tick_age_seconds", d.Name); found {
		t.Error("the spare tells of queues: they would be told twice")
	}
	if got := second.metric(t, "skytools_ticker_maint_operations_total"); got != 0 {
		t.Errorf("the spare did %v maintenance operations", got)
	}
	close(first.stop)
	if err := <-first.ended; err != nil {
		t.Fatal(err)
	}
	second.waitLog(t, "no other ticker works on the database any more, ticking now")
	ticks := pgtest.Value[int64](t, d, `select max(tick_id) from pgq.tick`)
	d.WaitFor(t, `select max(tick_id) > $1 from pgq.tick`, ticks)
	if n := strings.Count(second.log.String(), "waiting as its spare"); n != 1 {
		t.Errorf("told %d times that it is a spare, want once", n)
	}
	if value, _ := second.gauge(t, "skytools_ticker_spare", d.Name); value != 0 {
		t.Errorf("spare = %v after taking over, want 0", value)
	}
}

// Whoever may connect may take the lock. It stops no ticker unless its role may
// tick, which then is told once; the lock is taken when it is free.
func TestTicksInSpiteOfWhoMayNot(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, busyQueue)
	role := d.Name + "_nobody"
	d.Exec(t, "create role "+role+" login")
	defer d.Exec(t, "drop role "+role)
	intruder, err := pgx.Connect(context.Background(), d.DSN+" user="+role)
	if err != nil {
		t.Fatal(err)
	}
	defer intruder.Close(context.Background())
	if _, err := intruder.Exec(context.Background(), `select pg_advisory_lock(7071, 1)`); err != nil {
		t.Fatal(err)
	}
	// what users create must not run in the ticker's session
	d.Exec(t, `create function public.evil(oid, integer) returns boolean language plpgsql as $$ begin raise 'evil'; end $$;
		create operator public.= (leftarg = oid, rightarg = integer, function = public.evil);
		alter database `+d.Name+` set search_path = public, pg_catalog`)
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select count(*) operator(pg_catalog.>) 5 from pgq.tick`)
	r.waitLog(t, "a role that may not tick holds the tickers' lock (7071, 1), ticking without it")
	r.waitLog(t, " user="+role)
	if value, _ := r.gauge(t, "skytools_ticker_spare", d.Name); value != 0 {
		t.Errorf("spare = %v, want 0", value)
	}
	intruder.Close(context.Background())
	r.waitLog(t, "the tickers' lock is free again, and ours")
	if n := strings.Count(r.log.String(), " WARNING "); n != 1 {
		t.Errorf("%d warnings, want 1: %s", n, r.log.String())
	}

	// one that may tick is a ticker
	spare := start(t, quick(one(d)), nil)
	spare.waitLog(t, "another ticker works on the database, waiting as its spare")
}

// A network that swallows everything costs some time and no more: the server gives up
// the ticker that it does not hear of any more, the spare takes over, and the first
// one tells that it does not tick, and is there again when the network is.
func TestSpareTakesOverFromACutOffTicker(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	d := server.DB(t, "pgq")
	d.Exec(t, busyQueue)
	link := pgtest.NewLink(t, server.Port)
	cut := quick(one(&pgtest.Database{DSN: fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=%s", link.Port, d.Name)}))
	cut.roundLimit, cut.deafPeriod = time.Second, time.Second
	first := start(t, cut, nil)
	d.WaitFor(t, `select count(*) > 2 from pgq.tick`)
	second := start(t, quick(one(d)), nil)
	second.waitLog(t, "waiting as its spare")

	link.Set(pgtest.Fault{Do: pgtest.Stall})
	link.Break(pgtest.Stall)
	ticks := pgtest.Value[int64](t, d, `select max(tick_id) from pgq.tick`)
	second.waitLog(t, "no other ticker works on the database any more, ticking now")
	d.WaitFor(t, `select max(tick_id) > $1 + 2 from pgq.tick`, ticks)
	first.waitLog(t, "no answer within 1s")
	pgtest.Eventually(t, soon, "the first one is shown as down", func() bool {
		up, found := first.gauge(t, "skytools_ticker_up", d.Name)
		return found && up == 0
	})

	link.Heal()
	first.waitLog(t, "waiting as its spare")
	pgtest.Eventually(t, soon, "the first one is up again", func() bool {
		up, _ := first.gauge(t, "skytools_ticker_up", d.Name)
		return up == 1
	})
}

// A spare becomes the ticker after a restart of the server, or the first does; one
// of them, and nobody asks for help.
func TestOneOfTwoTicksAfterARestart(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	d := server.DB(t, "pgq")
	d.Exec(t, busyQueue)
	first, second := start(t, quick(one(d)), nil), start(t, quick(one(d)), nil)
	pgtest.Eventually(t, soon, "one of them is a spare", func() bool {
		return first.metric(t, "skytools_ticker_spare")+second.metric(t, "skytools_ticker_spare") == 1
	})
	server.Restart(t)
	ticks := pgtest.Value[int64](t, d, `select max(tick_id) from pgq.tick`)
	d.WaitFor(t, `select max(tick_id) > $1 + 5 from pgq.tick`, ticks)
	d.WaitFor(t, `select count(*) = 1 from pg_catalog.pg_locks where locktype = 'advisory' and classid = 7071 and granted`)
}

// The fault of a queue is told once, again when it is another one, and when it is over.
func TestFaultsOfAQueueAreToldWhenTheyChange(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('bad: one'); select pgq.create_queue('good');
		update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0'`)
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select count(*) > 3 from pgq.tick where tick_queue = 1`)
	d.Exec(t, `create table public.kept as select * from pgq.queue where queue_id = 1;
		update pgq.queue set queue_event_seq = 'pgq.nowhere' where queue_id = 1`)
	r.waitLog(t, "pgq.nowhere")
	pgtest.Eventually(t, soon, "the queue is shown as failing", func() bool {
		_, found := r.gauge(t, "skytools_queue_failing", d.Name, "bad: one")
		return found
	})
	ticks := pgtest.Value[int64](t, d, `select max(tick_id) from pgq.tick where tick_queue = 2`)
	d.WaitFor(t, `select max(tick_id) > $1 + 5 from pgq.tick where tick_queue = 2`, ticks)
	d.Exec(t, `update pgq.queue set queue_event_seq = 'pgq.elsewhere' where queue_id = 1`)
	r.waitLog(t, "pgq.elsewhere")
	d.Exec(t, `update pgq.queue q set queue_event_seq = k.queue_event_seq from public.kept k where q.queue_id = k.queue_id`)
	r.waitLog(t, "INFO queue has recovered database="+d.Name)
	pgtest.Eventually(t, soon, "the queue is shown as failing no more", func() bool {
		_, found := r.gauge(t, "skytools_queue_failing", d.Name)
		return !found
	})
	if n := strings.Count(r.log.String(), " WARNING "); n != 2 {
		t.Errorf("%d warnings for two faults, want 2", n)
	}
	d.Exec(t, `update pgq.queue set queue_event_seq = 'pgq.nowhere' where queue_id = 1`)
	pgtest.Eventually(t, soon, "the queue is shown as failing again", func() bool {
		_, found := r.gauge(t, "skytools_queue_failing", d.Name, "bad: one")
		return found
	})
	d.Exec(t, `lock table pgq.queue;
		update pgq.queue q set queue_event_seq = k.queue_event_seq from public.kept k where q.queue_id = k.queue_id;
		select pgq.drop_queue('bad: one')`)
	r.waitLog(t, "INFO failing queue is gone database="+d.Name)
}

// In the schemas before 4.0 a bad queue makes pgq.ticker() fail: the others are
// ticked all the same.
func TestOldSchemaTicksWhatItCan(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('bad'); select pgq.create_queue('good');
		update pgq.queue set queue_ticker_max_lag = '0', queue_ticker_idle_period = '0';
		update pgq.tick set tick_snapshot = '4000000000:4000000000:' where tick_queue = 1;
		create or replace function pgq.ticker() returns bigint language sql as $$
			select count(pgq.ticker(queue_name)) from (select queue_name from pgq.queue order by 1) q $$`)
	r := start(t, quick(one(d)), nil)
	d.WaitFor(t, `select count(*) > 5 from pgq.tick where tick_queue = 2`)
	r.waitLog(t, "ticker: queue bad: Invalid PgQ state")
	if n := strings.Count(r.log.String(), "ticker: queue bad"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	if r.metric(t, "skytools_ticker_up") != 1 {
		t.Error("the database is shown as not ticked")
	}
}

// Events come back when they are due, long before the next round that the
// configuration names.
func TestRetriesComeInTime(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, `select pgq.create_queue('q'); select pgq.register_consumer('q', 'c')`)
	settings := one(d)
	settings.retryPeriod = 1000 * soon
	r := start(t, settings, nil)
	r.waitLog(t, "pgq version ok")
	d.Exec(t, `select pgq.event_retry_raw('q', 'c', now() + interval '1 second', null, now(), 1, 'again', 'data', null, null, null, null)`)
	d.WaitFor(t, `select count(*) = 1 from pgq.event_template where ev_type = 'again'`)
	if early := pgtest.Value[bool](t, d, `select clock_timestamp() < ev_time + interval '1 second' from pgq.event_template`); early {
		t.Error("the event came before its time")
	}
}
