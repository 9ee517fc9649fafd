package batch

// Consumers that hear of ticks.

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"
)

// looping is a consumer under the job's own loop.
func looping(t *testing.T, config RemoteConfig, period time.Duration) *console {
	t.Helper()
	job, log := setupJob(t, config.JobConfig)
	worker, err := NewConsumer(job, config.ConsumerConfig, apply)
	if err != nil {
		t.Fatal(err)
	}
	worker.ear.period = period
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := job.Run(ctx, worker.Work); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return log
}

const (
	isListening = `select exists (select from pg_catalog.pg_stat_activity
		where datname = current_database() and application_name = 'tester' and state = 'idle' and wait_event = 'ClientRead'
		and backend_type = 'client backend' and query like '%next_batch%')`
	appliedSQL = `select count(*) = $1 from public.applied`
)

// notify switches the queue's word of ticks.
func (r *road) notify(t *testing.T, on bool) {
	t.Helper()
	r.src.Exec(t, `update pgq.queue set queue_notify = $1`, on)
}

// With an hour between two looks only word of a tick can be what wakes it.
func TestConsumerIsWoken(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.notify(t, true)
	config := r.config(r.src, r.dst)
	config.LoopDelay = time.Hour
	looping(t, config, time.Hour)
	r.src.WaitFor(t, isListening)
	for i, data := range []string{"a", "b", "c"} {
		r.produce(t, data)
		r.src.WaitFor(t, appliedSQL, i+1)
	}
}

// Ticks that come while it works on a batch are not forgotten.
func TestWokenConsumerMissesNoTick(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.notify(t, true)
	config := r.config(r.src, r.dst)
	config.LoopDelay = time.Hour
	looping(t, config, time.Hour)
	const events = 100
	for range events {
		r.produce(t, "x")
	}
	r.src.WaitFor(t, appliedSQL, events)
}

// The setting may be switched at any time, and a lost connection is replaced.
func TestConsumerFollowsTheSetting(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	config := r.config(r.src, r.dst)
	config.LoopDelay, config.ExceptionSleep = time.Millisecond, time.Millisecond
	looping(t, config, 50*time.Millisecond)
	n := 0
	step := func() {
		t.Helper()
		n++
		r.produce(t, "x")
		r.src.WaitFor(t, appliedSQL, n)
	}
	step()
	r.notify(t, true)
	step()
	step()
	r.src.Exec(t, `select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
		where datname = current_database() and application_name = 'tester'`)
	step()
	r.notify(t, false)
	step()
	step()
}

// A schema before 4.0 has nothing to listen to: the consumer polls.
func TestConsumerPollsAnOldSchema(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.src.Exec(t, `alter extension pgq drop function pgq.tick_channel(text); drop function pgq.tick_channel(text)`)
	config := r.config(r.src, r.dst)
	config.LoopDelay = time.Millisecond
	log := looping(t, config, time.Hour)
	r.produce(t, "a")
	r.src.WaitFor(t, appliedSQL, 1)
	if strings.Contains(log.String(), "ERROR") {
		t.Errorf("an error is in the log:\n%s", log)
	}
}

// A consumer that wants batches of an age or size must look by itself.
func TestConsumerWithAWishPolls(t *testing.T) {
	t.Parallel()
	r := setupRoad(t)
	r.register(t)
	r.notify(t, true)
	config := r.config(r.src, r.dst)
	config.LoopDelay, config.KeepLag = time.Millisecond, 200*time.Millisecond
	looping(t, config, time.Hour)
	r.produce(t, "a")
	r.src.WaitFor(t, appliedSQL, 1)
}
