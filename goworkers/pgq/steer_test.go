package pgq_test

import (
	"errors"
	"strings"
	"testing"
	"time"

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
		"external_ticker=false notify=false rotation_period=7200s retention=NULL consumer_expiry=NULL disable_insert=false per_tx_limit=NULL extra_maint=NULL"
	changed := strings.NewReplacer("max_lag=3s", "max_lag=0.5s", "notify=false", "notify=true", "retention=NULL", "retention=90000s").Replace(defaults)
	none := pgq.UnsetQueueConfig(ctx, conn, "another", "retention")
	if err := errors.Join(none, pgq.SetQueueConfig(ctx, conn, "another", "extra_maint", "{a.b,c}")); err != nil {
		t.Fatal(err)
	}
	const another = "another/ " + defaults
	for _, c := range []struct {
		queues []string
		want   string
	}{
		{nil, strings.Replace(another, "maint=NULL", "maint={a.b,c}", 1) + "\nevents/ " + changed},
		{[]string{"events"}, "events/ " + changed},
		{[]string{"nope"}, ""},
	} {
		list, err := pgq.QueueParams(ctx, conn, c.queues...)
		if got := flat(list); err != nil || got != c.want {
			t.Errorf("QueueParams(%v) = %v, %s\nwant %s", c.queues, err, got, c.want)
		}
	}
	for name, value := range map[string]string{"max_retries": "5", "retry_delay": "10 s", "retry_max_delay": "1 h", "paused": "false"} {
		if err := pgq.SetConsumerConfig(ctx, conn, queue, "c", name, &value); err != nil {
			t.Error(err)
		}
	}
	if err := pgq.SetConsumerConfig(ctx, conn, queue, "c", "paused", nil); err == nil {
		t.Error("paused can be NULL")
	}
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
	db.Exec(t, `alter table pgq.queue drop column queue_retention cascade, drop column queue_notify cascade;
		alter table pgq.subscription drop column sub_paused cascade, drop column sub_retry_delay cascade`)
	list, err := pgq.QueueParams(ctx, conn, "another")
	if got, want := flat(list), "another/ "+strings.NewReplacer("notify=false ", "", "retention=NULL ", "", "maint=NULL", "maint={a.b,c}").Replace(defaults); err != nil || got != want {
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

func TestAConsumerIsPausedAndResumed(t *testing.T) {
	ctx, conn, _ := setup(t)
	insert(t, ctx, conn, "1")
	tick(t, ctx, conn)
	for _, step := range []struct {
		name string
		call func() (bool, error)
		want bool
	}{
		{"resume one that runs", func() (bool, error) { return pgq.ResumeConsumer(ctx, conn, queue, "c") }, false},
		{"pause", func() (bool, error) { return pgq.PauseConsumer(ctx, conn, queue, "c") }, true},
		{"pause again", func() (bool, error) { return pgq.PauseConsumer(ctx, conn, queue, "c") }, false},
	} {
		if changed, err := step.call(); err != nil || changed != step.want {
			t.Errorf("%s: %v, %v, want %v", step.name, changed, err, step.want)
		}
	}
	if b, err := pgq.NextBatch(ctx, conn, queue, "c"); err != nil || b != nil {
		t.Errorf("a paused one gets %+v, %v", b, err)
	}
	if changed, err := pgq.ResumeConsumer(ctx, conn, queue, "c"); err != nil || !changed {
		t.Errorf("resume: %v, %v", changed, err)
	}
	nextBatch(t, ctx, conn, "c")
	if _, err := pgq.PauseConsumer(ctx, conn, queue, "nobody"); !pgq.IsNotSubscribed(err) {
		t.Errorf("pause nobody: %v", err)
	}
}

func TestAConsumerIsMovedToATime(t *testing.T) {
	ctx, conn, db := setup(t)
	insert(t, ctx, conn, "1")
	first := tick(t, ctx, conn)
	insert(t, ctx, conn, "2")
	tick(t, ctx, conn)
	db.Exec(t, `update pgq.tick set tick_time = '2020-01-01 10:00+00'::timestamptz + tick_id * interval '1 min'`)
	at := time.Date(2020, 1, 1, 10, int(first), 30, 0, time.UTC)
	if tick, err := pgq.SeekConsumer(ctx, conn, queue, "c", at); err != nil || tick != first {
		t.Errorf("SeekConsumer = %d, %v, want %d", tick, err, first)
	}
	if b := nextBatch(t, ctx, conn, "c"); b.PrevTick != first {
		t.Errorf("the next batch begins at tick %d, want %d", b.PrevTick, first)
	}
	if _, err := pgq.SeekConsumer(ctx, conn, queue, "c", at.AddDate(-1, 0, 0)); !pgq.IsTickNotFound(err) {
		t.Errorf("before all ticks: %v", err)
	}
	if _, err := pgq.SeekConsumer(ctx, conn, queue, "nobody", at); !pgq.IsNotSubscribed(err) {
		t.Errorf("move nobody: %v", err)
	}
}

func TestBlockersOfRotationAreNamed(t *testing.T) {
	ctx, conn, db := setup(t)
	if list, err := pgq.RotationBlockers(ctx, conn); err != nil || len(list) != 0 {
		t.Errorf("while no rotation is due: %+v, %v", list, err)
	}
	insert(t, ctx, conn, "1")
	tick(t, ctx, conn)
	db.Exec(t, `update pgq.queue set queue_switch_time = now() - interval '5 hours'`)
	list, err := pgq.RotationBlockers(ctx, conn)
	if err != nil || len(list) == 0 {
		t.Fatalf("blockers %+v, %v", list, err)
	}
	age := time.Since(*list[0].DueSince).Round(time.Hour)
	if b := list[0]; b.Queue != queue || b.Kind == "" || b.Name == "" || b.Since == nil || b.Detail == "" || age != 3*time.Hour {
		t.Errorf("blocker %+v, due for %v", b, age)
	}
}

func TestInfiniteTimesAreRead(t *testing.T) {
	ctx, conn, db := setup(t)
	insert(t, ctx, conn, "1")
	tick(t, ctx, conn)
	db.Exec(t, `update pgq.queue set queue_switch_time = '-infinity'`)
	list, err := pgq.RotationBlockers(ctx, conn)
	if err != nil || len(list) == 0 || list[0].DueSince == nil || !list[0].DueSince.IsZero() {
		t.Errorf("blockers %+v, %v", list, err)
	}
	db.Exec(t, `update pgq.queue set queue_switch_time = 'infinity'`)
	info, err := pgq.QueueInfo(ctx, conn)
	if err != nil || len(info) != 1 || info[0].SwitchTime.Year() != 9999 {
		t.Errorf("queue %+v, %v", info, err)
	}
	db.Exec(t, `update pgq.tick set tick_time = '-infinity'`)
	if _, err := pgq.NextBatch(ctx, conn, queue, "c"); err != nil {
		t.Errorf("a batch between such ticks: %v", err)
	}
}

func TestRebaseIsDoneWhereItIsNeeded(t *testing.T) {
	ctx, conn, db := setup(t)
	if rebased, err := pgq.RebaseQueue(ctx, conn, queue); err != nil || rebased {
		t.Errorf("a sound queue: %v, %v", rebased, err)
	}
	insert(t, ctx, conn, "1")
	// As after a restore: the queue knows transactions that the server has not had.
	db.Exec(t, `update pgq.tick set tick_snapshot = '900000000:900000000:'; update pgq.event_template set ev_txid = 900000001`)
	db.Exec(t, `update pgq.queue set queue_ticker_max_lag = '0'`)
	if _, err := pgq.TickQueue(ctx, conn, queue); !pgq.IsQueueBroken(err) {
		t.Errorf("a tick of a broken queue: %v", err)
	}
	if rebased, err := pgq.RebaseQueue(ctx, conn, queue); err != nil || !rebased {
		t.Errorf("a broken queue: %v, %v", rebased, err)
	}
	tick(t, ctx, conn)
	if _, err := pgq.RebaseQueue(ctx, conn, "nope"); !pgq.IsQueueNotFound(err) {
		t.Errorf("no such queue: %v", err)
	}
}
