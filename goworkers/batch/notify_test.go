package batch

// What systemd is told, over a real socket.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// systemd is the manager's end.
type systemd struct{ *net.UnixConn }

// setupSystemd makes this process a service; watchdog is its WatchdogSec.
func setupSystemd(t *testing.T, watchdog time.Duration) systemd {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	if watchdog > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
		t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	}
	return systemd{conn}
}

// next is the next message, or "" when none comes within the limit.
func (s systemd) next(t *testing.T, limit time.Duration) string {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 4096)
	n, err := s.Read(packet)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(packet[:n])
}

// expect reads messages with these beginnings, and no others in between.
func (s systemd) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, w := range want {
		if got := s.next(t, 10*time.Second); !strings.HasPrefix(got, w) {
			t.Fatalf("systemd hears %q, want %q", got, w)
		}
	}
}

func TestSystemdHearsOfAJob(t *testing.T) {
	manager := setupSystemd(t, 0)
	ini := writeIni(t, "[cleaner]\ndb = dbname=x\nloop_delay = 3600\nexception_sleep = 0.001\nstats_period = 0\n")
	var cfg cleanerConfig
	rounds := 0
	err := RunWorker(t.Context(), "cleaner", &cfg, Options{Path: ini, Stderr: &console{}}, func(job *Job) (Worker, error) {
		return WorkerFunc(func(context.Context) (bool, error) {
			switch rounds++; rounds {
			case 1:
				manager.expect(t, "READY=1")
				job.Stats.Add("count", 20)
				job.Stats.AddDuration("duration", 3100*time.Microsecond)
				return true, nil
			case 2:
				manager.expect(t, "STATUS={count: 20, duration: 0.0031}")
				return false, errors.New("no such\ntable")
			case 3:
				manager.expect(t, `STATUS=work failed, will be tried again: no such\ntable`)
				return true, nil
			case 4:
				manager.expect(t, "STATUS=recovered")
				return false, syscall.Kill(os.Getpid(), syscall.SIGHUP)
			case 5:
				manager.expect(t, "RELOADING=1\nMONOTONIC_USEC=", "READY=1")
				return false, syscall.Kill(os.Getpid(), syscall.SIGINT)
			}
			return false, errors.New("a round too many")
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	manager.expect(t, "STOPPING=1")
	if got := manager.next(t, time.Millisecond); got != "" {
		t.Errorf("%q after the end", got)
	}
}

// What nobody listens to is told once and does no harm.
func TestSystemdThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	t.Setenv("WATCHDOG_USEC", "soon")
	out := &console{}
	var cfg cleanerConfig
	ini := writeIni(t, "[cleaner]\ndb = dbname=x\nloop_delay = 0\n")
	err := RunWorker(t.Context(), "cleaner", &cfg, Options{Path: ini, Stderr: out}, func(job *Job) (Worker, error) {
		return WorkerFunc(func(context.Context) (bool, error) { job.Stats.Add("count", 1); return false, nil }), nil
	})
	if err != nil || strings.Count(out.String(), "WARNING systemd cannot be told how the job is") != 1 ||
		!strings.Contains(out.String(), "WARNING systemd's watchdog is not told") {
		t.Errorf("%v, log:\n%s", err, out)
	}
}

const testWatchdog = 200 * time.Millisecond

// A round that hangs is not told of as alive; pauses and rounds are.
func TestWatchdogHearsOfRoundsAndPauses(t *testing.T) {
	manager := setupSystemd(t, testWatchdog)
	ini := writeIni(t, "[cleaner]\ndb = dbname=x\nloop_delay = 3600\n")
	ctx, cancel := context.WithCancel(t.Context())
	hang := make(chan struct{})
	done := make(chan error)
	var job *Job
	go func() {
		var cfg cleanerConfig
		done <- RunWorker(ctx, "cleaner", &cfg, Options{Path: ini, Stderr: &console{}}, func(j *Job) (Worker, error) {
			job = j
			return WorkerFunc(func(context.Context) (bool, error) { <-hang; return false, nil }), nil
		})
	}()
	manager.expect(t, "READY=1", "WATCHDOG=1")
	if got := manager.next(t, 3*testWatchdog); got != "" {
		t.Errorf("a round that hangs tells %q", got)
	}
	job.Progress() // as from a handler
	manager.expect(t, "WATCHDOG=1")
	close(hang)
	const beats = 8
	begin := time.Now()
	for range beats { // the pause
		manager.expect(t, "WATCHDOG=1")
	}
	if took := time.Since(begin); took > beats*testWatchdog {
		t.Errorf("a pause told the watchdog %d times in %s, want more often than each %s", beats, took, testWatchdog)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A batch may take longer than the watchdog's time while its events are read; one whose
// handler hangs may not, also when another worker of the process goes on.
func TestWatchdogHearsOfEvents(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			manager := setupSystemd(t, testWatchdog)
			r := setupRoad(t)
			config := r.config(r.src, r.dst)
			if config.Workers = workers; workers > 1 {
				config.Slots, config.SlotKey, config.WorkerTimeout = workers, "ev_extra1", time.Minute
			}
			job, _ := setupJob(t, config.JobConfig)
			job.manager = newManager(job.Log, os.Getenv("NOTIFY_SOCKET"))
			var first atomic.Bool
			read, hang := make(chan struct{}), make(chan struct{})
			consumer, err := NewConsumer(job, config.ConsumerConfig, func(ctx context.Context, tx pgx.Tx, b *Batch) error {
				hangs := workers > 1 && first.CompareAndSwap(false, true)
				for _, err := range b.Events() {
					if err != nil {
						return err
					}
					if hangs {
						<-hang
					} else {
						<-read
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := consumer.Register(context.Background()); err != nil {
				t.Fatal(err)
			}
			var data []string
			for n := range 100 {
				data = append(data, strconv.Itoa(n))
			}
			r.produce(t, data...)
			done := make(chan error, 1)
			go func() { done <- drain(consumer) }()

			// Each event comes some time after the one before.
			const pause = testWatchdog / watchdogShare
			for told := 0; workers == 1 && told < 4*watchdogShare; {
				read <- struct{}{}
				switch got := manager.next(t, pause); got {
				case "WATCHDOG=1":
					told++
				case "":
				default:
					t.Fatalf("got %q", got)
				}
			}
			hung := time.Now()
			for silent := hung; time.Since(silent) < 3*testWatchdog; {
				if time.Since(hung) > 10*time.Second {
					t.Fatal("systemd hears that a handler goes on that hangs")
				}
				if workers > 1 { // the other one goes on
					select {
					case read <- struct{}{}:
					case <-time.After(10 * time.Second):
						t.Fatal("the other worker reads no more events")
					}
				}
				if manager.next(t, pause) != "" {
					silent = time.Now()
				}
			}
			close(read)
			close(hang)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}
