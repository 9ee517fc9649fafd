package batch

// The loop of rounds.

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(pidFileEnv); path != "" {
		takePidFile(path)
		return
	}
	if path := os.Getenv(parallelEnv); path != "" {
		workInParallel(path)
		return
	}
	if path := os.Getenv(consumerEnv); path != "" {
		consume(path)
		return
	}
	if path := os.Getenv(localEnv); path != "" {
		consumeLocally(path)
		return
	}
	if path := os.Getenv(coopEnv); path != "" {
		cooperate(path)
		return
	}
	if path := os.Getenv(deafEnv); path != "" {
		ignoreAll(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// console collects a log that several goroutines may write.
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

func setupJob(t *testing.T, cfg JobConfig) (*Job, *console) {
	t.Helper()
	out := &console{}
	job, err := NewJob("test", cfg, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := job.Close(); err != nil {
			t.Error(err)
		}
	})
	return job, out
}

func TestRunEndsWhenIdle(t *testing.T) {
	job, out := setupJob(t, JobConfig{LoopDelay: 0, StatsPeriod: time.Hour})
	rounds := 0
	err := job.Run(t.Context(), func(context.Context) (bool, error) {
		rounds++
		job.Stats.Add("count", 10)
		job.Stats.AddDuration("duration", 1500*time.Microsecond)
		return rounds < 3, nil
	})
	if err != nil || rounds != 3 {
		t.Errorf("got %v after %d rounds, want nil after 3", err, rounds)
	}
	if !strings.Contains(out.String(), " INFO {count: 30, duration: 0.0045}\n") {
		t.Errorf("no statistics line in %q", out)
	}
}

func TestRunOneRound(t *testing.T) {
	job, _ := setupJob(t, JobConfig{LoopDelay: -1})
	rounds := 0
	if err := job.Run(t.Context(), func(context.Context) (bool, error) { rounds++; return true, nil }); err != nil || rounds != 1 {
		t.Errorf("got %v after %d rounds, want nil after 1", err, rounds)
	}
}

func TestRunTellsAnErrorOnceAndRecovers(t *testing.T) {
	job, out := setupJob(t, JobConfig{LoopDelay: time.Hour, ExceptionSleep: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rounds := 0
	err := job.Run(ctx, func(context.Context) (bool, error) {
		rounds++
		switch {
		case rounds <= 3:
			return false, errors.New("batch 4" + strings.Repeat("1", rounds) + ": connection lost")
		case rounds == 4:
			return false, errors.New("another trouble")
		case rounds == 5:
			return true, nil
		}
		cancel()
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	log := out.String()
	if n := strings.Count(log, " ERROR "); n != 2 {
		t.Errorf("%d errors logged, want 2:\n%s", n, log)
	}
	if n := strings.Count(log, "INFO recovered"); n != 1 || !strings.Contains(log, "tries=4") {
		t.Errorf("recovered logged %d times, want once with tries=4:\n%s", n, log)
	}
}

// Errors of files are no lost connections: two of them are two kinds.
func TestErrorsOfFilesAreTold(t *testing.T) {
	job, out := setupJob(t, JobConfig{LogLevel: "info"})
	var trouble Trouble
	for _, name := range []string{"a", "b", "a"} {
		_, err := os.Open("/nonexistent/" + name)
		trouble.Note(job.Log, err, time.Second)
	}
	if n := strings.Count(out.String(), " ERROR "); n != 2 || IsConnectionLost(os.ErrNotExist) {
		t.Errorf("%d errors logged, want 2:\n%s", n, out)
	}
}

func TestRunReturnsMisuse(t *testing.T) {
	job, _ := setupJob(t, JobConfig{LoopDelay: time.Hour})
	err := job.Run(t.Context(), func(context.Context) (bool, error) { return false, Usagef("no such queue") })
	if ExitCode(err) != 2 {
		t.Errorf("got %v, want the usage error", err)
	}
}

func TestBackoffGrowsToItsLimit(t *testing.T) {
	job, _ := setupJob(t, JobConfig{})
	var trouble Trouble
	var got []time.Duration
	for range 6 {
		got = append(got, trouble.Note(job.Log, errors.New("x"), 20*time.Second)/time.Second)
	}
	want := []time.Duration{1, 2, 4, 8, 16, 20}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("got %v s, want %v s", got, want)
		}
	}
}

func TestRunStops(t *testing.T) {
	for _, tc := range []struct {
		name      string
		send      func(stop, kill chan struct{}, cancel func())
		want      error
		cancelled bool // the round's context
	}{
		{"after the round when the context ends", func(_, _ chan struct{}, cancel func()) { cancel() }, nil, false},
		{"after the round on SIGINT", func(stop, _ chan struct{}, _ func()) { close(stop) }, nil, false},
		{"at once on SIGTERM", func(stop, kill chan struct{}, _ func()) { close(kill); close(stop) }, ErrTerminated, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			job, _ := setupJob(t, JobConfig{LoopDelay: time.Hour})
			stop, kill := make(chan struct{}), make(chan struct{})
			job.Signals = &Signals{Stop: stop, Kill: kill}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			finished := false
			err := job.Run(ctx, func(ctx context.Context) (bool, error) {
				tc.send(stop, kill, cancel)
				if tc.cancelled {
					<-ctx.Done()
					return false, ctx.Err()
				}
				if ctx.Err() != nil {
					t.Error("the round's context was cancelled")
				}
				finished = true
				return true, nil
			})
			if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if finished == tc.cancelled {
				t.Errorf("round finished: %v", finished)
			}
		})
	}
}
