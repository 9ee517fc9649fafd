package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// untilToldTo works until it is told to end, and says by what.
func untilToldTo(why chan<- string) *Loop {
	return NewLoop(func(ctx context.Context, stop <-chan struct{}) {
		if Sleep(ctx, stop, time.Hour) {
			why <- "time"
			return
		}
		if ctx.Err() != nil {
			why <- "cancelled"
			return
		}
		why <- "stopped"
	})
}

func TestStopWaitsForTheEnd(t *testing.T) {
	why := make(chan string, 1)
	l := untilToldTo(why)
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Stop()
	select {
	case got := <-why:
		if got != "stopped" {
			t.Errorf("ended because %s", got)
		}
	default:
		t.Error("Stop returned before the end")
	}
	l.Stop()
}

func TestCancelEndsAtOnce(t *testing.T) {
	why := make(chan string, 1)
	l := untilToldTo(why)
	ctx, cancel := context.WithCancel(t.Context())
	if err := l.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	if got := <-why; got != "cancelled" {
		t.Errorf("ended because %s", got)
	}
	l.Stop()
}

func TestStopBeforeStart(t *testing.T) {
	NewLoop(func(context.Context, <-chan struct{}) { t.Error("ran") }).Stop()
}

// broken is a service that cannot start.
type broken struct{ err error }

func (b broken) Start(context.Context) error { return b.err }
func (b broken) Stop()                       {}

func TestGroupIsStartedWholeOrNotAtAll(t *testing.T) {
	why := make(chan string, 2)
	want := errors.New("port taken")
	g := Group{untilToldTo(why), untilToldTo(why), broken{want}}
	if err := g.Start(t.Context()); !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	if len(why) != 2 {
		t.Errorf("%d of 2 started services were stopped", len(why))
	}
}

func TestSleepEndsInTime(t *testing.T) {
	if !Sleep(t.Context(), nil, time.Millisecond) {
		t.Error("Sleep said to end though nobody asked")
	}
	stop := make(chan struct{})
	close(stop)
	if Sleep(t.Context(), stop, 0) {
		t.Error("Sleep of nothing did not see that it shall end")
	}
}
