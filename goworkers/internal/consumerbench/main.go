// Consumerbench measures a consumer from outside its framework, for
// scripts/bench/drivers/consumers. Ticks come from a ticker that runs beside it.
//
//	consumerbench latency DSN QUEUE LOOP_DELAY SECONDS   prints p50 and p99 in ms
//	consumerbench idle    DSN QUEUE LOOP_DELAY           consumes until it is ended
//	consumerbench drain   DSN QUEUE EVENTS               prints events a second
//	consumerbench run     COMMAND ARGS...                runs a job to its end; prints the seconds it
//	                                                     took, those of its processor time, and MB at most
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

const (
	name       = "consumerbench"
	gap        = 100 * time.Millisecond // between events, on the average: 10 a second
	stragglers = 20 * time.Second       // to wait for the last events
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 1 && args[0] == "run" {
		return runJob(args[1:])
	}
	if len(args) < 4 {
		return errors.New("wants latency, idle or drain, DSN QUEUE and a number, or run and a command")
	}
	mode, dsn, queue := args[0], args[1], args[2]
	number, err := strconv.ParseFloat(args[3], 64)
	if err != nil {
		return err
	}
	switch mode {
	case "latency":
		if len(args) != 5 {
			return errors.New("latency wants DSN QUEUE LOOP_DELAY SECONDS")
		}
		length, err := strconv.ParseFloat(args[4], 64)
		if err != nil {
			return err
		}
		return latency(ctx, dsn, queue, seconds(number), seconds(length))
	case "idle":
		return consume(ctx, dsn, queue, seconds(number), func(context.Context, pgx.Tx, *batch.Batch) error { return nil })
	case "drain":
		return drain(ctx, dsn, queue, int(number))
	}
	return fmt.Errorf("no mode %q", mode)
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// consume runs a consumer as a program of the framework does.
func consume(ctx context.Context, dsn, queue string, loopDelay time.Duration, handler batch.Handler) error {
	cfg := batch.JobConfig{JobName: name, LogLevel: "error", LoopDelay: loopDelay, StatsPeriod: time.Hour, ExceptionSleep: time.Second}
	job, err := batch.NewJob(name, cfg, os.Stderr)
	if err != nil {
		return err
	}
	defer job.Close()
	consumer, err := batch.NewConsumer(job, batch.ConsumerConfig{
		JobConfig: cfg, SrcDB: batch.ConnString(dsn), QueueName: queue, LazyFetch: 300,
	}, handler)
	if err != nil {
		return err
	}
	return job.Run(ctx, consumer.Work)
}

// latency inserts events, each in a transaction of its own, and measures from before
// the insert until the handler has the event.
func latency(ctx context.Context, dsn, queue string, loopDelay, length time.Duration) error {
	producer, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer producer.Close(context.WithoutCancel(ctx))
	if _, err := pgq.RegisterConsumer(ctx, producer, queue, name); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	came := make(chan time.Duration, 10_000)
	var consumer sync.WaitGroup
	var failed error
	consumer.Go(func() {
		failed = consume(running, dsn, queue, loopDelay, func(_ context.Context, _ pgx.Tx, b *batch.Batch) error {
			for ev, err := range b.Events() {
				if err != nil {
					return err
				}
				sent, err := strconv.ParseInt(ev.Data.String, 10, 64)
				if err != nil {
					return err
				}
				came <- time.Since(time.Unix(0, sent))
			}
			return nil
		})
	})
	defer consumer.Wait()
	defer stop()

	// The first events find everything cold.
	var all []time.Duration
	sent, got, cold := 0, 0, 5
	for began := time.Now(); time.Since(began) < length+time.Duration(cold)*gap; sent++ {
		data := pgq.Text(strconv.FormatInt(time.Now().UnixNano(), 10))
		if _, err := pgq.InsertEvent(ctx, producer, queue, pgq.Event{Type: pgq.Text("t"), Data: data}); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(gap/2 + rand.N(gap)): // no beat with anybody's period
		}
	}
	deadline := time.After(stragglers)
	for ; got < sent; got++ {
		select {
		case took := <-came:
			if got >= cold {
				all = append(all, took)
			}
		case <-deadline:
			return fmt.Errorf("of %d events only %d have come", sent, got)
		}
	}
	stop()
	consumer.Wait()
	slices.Sort(all)
	at := func(part float64) float64 {
		i := min(int(part*float64(len(all))), len(all)-1)
		return float64(all[i].Microseconds()) / 1000
	}
	fmt.Printf("%.3f %.3f\n", at(0.50), at(0.99))
	return failed
}

// drain consumes what is there, and ends then.
func drain(ctx context.Context, dsn, queue string, events int) error {
	got := 0
	began := time.Now()
	err := consume(ctx, dsn, queue, 0, func(_ context.Context, _ pgx.Tx, b *batch.Batch) error {
		for ev, err := range b.Events() {
			if err != nil {
				return err
			}
			if ev.Data.Valid {
				got++
			}
		}
		return nil
	})
	took := time.Since(began)
	if err == nil && got != events {
		err = fmt.Errorf("%d events came, want %d", got, events)
	}
	if err == nil {
		fmt.Printf("%.0f\n", float64(got)/took.Seconds())
	}
	return err
}

// runJob measures a process from outside.
func runJob(command []string) error {
	job := exec.Command(command[0], command[1:]...)
	job.Stdout, job.Stderr = os.Stderr, os.Stderr
	began := time.Now()
	if err := job.Run(); err != nil {
		return err
	}
	took := time.Since(began)
	state := job.ProcessState
	usage := state.SysUsage().(*syscall.Rusage)
	_, err := fmt.Printf("%.3f %.3f %.1f\n", took.Seconds(), (state.UserTime() + state.SystemTime()).Seconds(), float64(usage.Maxrss)*1024/1e6)
	return err
}
