package pgq_test

import (
	"strings"
	"testing"

	"goworkers/pgq"
)

// flat writes parameters as one line.
func flat(list []pgq.Params) string {
	var out []string
	for _, of := range list {
		line := []string{of.Queue + "/" + of.Consumer}
		for _, p := range of.Params {
			value := "NULL"
			if p.Value != nil {
				value = *p.Value
			}
			line = append(line, p.Name+"="+value)
		}
		out = append(out, strings.Join(line, " "))
	}
	return strings.Join(out, "\n")
}

func TestParamsAreToldAsTheyAreSet(t *testing.T) {
	ctx, conn, db := setup(t)
	if _, err := pgq.CreateQueue(ctx, conn, "another"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `update pgq.queue set queue_retention = '1 day 1 hour', queue_ticker_max_lag = '0.5 s', queue_notify = true where queue_name = 'events'`)
	const defaults = "ticker_max_count=500 ticker_max_lag=3s ticker_idle_period=60s ticker_min_lag=0.025s ticker_paused=false " +
		"external_ticker=false notify=false rotation_period=7200s retention=NULL consumer_expiry=NULL disable_insert=false per_tx_limit=NULL"
	changed := strings.NewReplacer("max_lag=3s", "max_lag=0.5s", "notify=false", "notify=true", "retention=NULL", "retention=90000s").Replace(defaults)
	for _, c := range []struct {
		queues []string
		want   string
	}{
		{nil, "another/ " + defaults + "\nevents/ " + changed},
		{[]string{"events"}, "events/ " + changed},
		{[]string{"nope"}, ""},
	} {
		list, err := pgq.QueueParams(ctx, conn, c.queues...)
		if got := flat(list); err != nil || got != c.want {
			t.Errorf("QueueParams(%v) = %v, %s\nwant %s", c.queues, err, got, c.want)
		}
	}
	db.Exec(t, `update pgq.subscription set sub_max_retries = 5, sub_retry_delay = '10 s'`)
	const subscription = "events/c paused=false max_retries=5 retry_delay=10s retry_max_delay=3600s"
	for _, c := range []struct{ queue, consumer, want string }{
		{"", "", subscription}, {"events", "c", subscription}, {"another", "", ""}, {"events", "d", ""},
	} {
		list, err := pgq.ConsumerParams(ctx, conn, c.queue, c.consumer)
		if got := flat(list); err != nil || got != c.want {
			t.Errorf("ConsumerParams(%q, %q) = %v, %s\nwant %s", c.queue, c.consumer, err, got, c.want)
		}
	}
	// A schema that is older lacks some of the columns, and its parameters.
	db.Exec(t, `drop view if exists pgq.rotation_blockers;
		alter table pgq.queue drop column queue_retention cascade, drop column queue_notify cascade;
		alter table pgq.subscription drop column sub_paused cascade, drop column sub_retry_delay cascade`)
	list, err := pgq.QueueParams(ctx, conn, "another")
	if got, want := flat(list), "another/ "+strings.NewReplacer("notify=false ", "", "retention=NULL ", "").Replace(defaults); err != nil || got != want {
		t.Errorf("QueueParams of an older schema = %v, %s\nwant %s", err, got, want)
	}
	list, err = pgq.ConsumerParams(ctx, conn, "", "")
	if got, want := flat(list), "events/c max_retries=5 retry_max_delay=3600s"; err != nil || got != want {
		t.Errorf("ConsumerParams of an older schema = %v, %s\nwant %s", err, got, want)
	}
}

func TestTickerLockIsOfOneSession(t *testing.T) {
	ctx, conn, db := setup(t)
	spare := db.Conn(t)
	want := func(name string, of pgq.DB, want bool) {
		t.Helper()
		if locked, err := pgq.TryTickerLock(ctx, of); err != nil || locked != want {
			t.Fatalf("%s: %v, %v, want %v", name, locked, err, want)
		}
	}
	want("the first", conn, true)
	want("the spare", spare, false)
	if err := pgq.ReleaseTickerLock(ctx, conn); err != nil {
		t.Fatal(err)
	}
	want("the spare once it is free", spare, true)
	if _, err := spare.Exec(ctx, "select pg_advisory_unlock_all()"); err != nil {
		t.Fatal(err)
	}
}
