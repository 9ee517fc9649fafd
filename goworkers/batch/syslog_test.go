package batch

// Entries on their way to a syslog.

import (
	"context"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// setupSyslog is a syslog; next is its next entry.
func setupSyslog(t *testing.T) (address string, next func() string) {
	t.Helper()
	address = filepath.Join(t.TempDir(), "log")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return address, func() string {
		t.Helper()
		if err := listener.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		packet := make([]byte, 1000)
		n, err := listener.Read(packet)
		if err != nil {
			t.Fatal(err)
		}
		return string(packet[:n])
	}
}

func TestSyslogGetsTheLog(t *testing.T) {
	for _, tc := range []struct {
		name, keys           string
		info, fault, console string
	}{
		{"as it is by default", "syslog = 1", `^<30>.* mover_a\[\d+\]: `, `^<27>.* mover_a\[\d+\]: `, `INFO a state queue="q w"`},
		{"as the keys say", "syslog = yes\nsyslog_ident = moving\nsyslog_facility = LOCAL3", `^<158>.* moving\[\d+\]: `, `^<155>.* moving\[\d+\]: `, "ERROR"},
		{"as an old file says", "use_skylog = 2\nskylog_locations = skylog.ini", `^<30>.* mover_a\[\d+\]: `, `^<27>.* mover_a\[\d+\]: `,
			`[m] use_skylog = \"2\": means syslog = 1 now; write that`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address, next := setupSyslog(t)
			out := &console{}
			var cfg JobConfig
			opt := Options{Path: writeIni(t, "[m]\nloop_delay = 0\n"+tc.keys+"\n"), Stderr: out, Syslog: address}
			err := RunWorker(t.Context(), "m", &cfg, opt, func(job *Job) (Worker, error) {
				return WorkerFunc(func(context.Context) (bool, error) {
					job.Log.Debug("a step")
					job.Log.WithField("queue", "q w").Info("a state")
					job.Log.Error("a fault\nin two lines")
					return false, nil
				}), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			entry := next()
			for strings.Contains(entry, "skylog") {
				entry = next()
			}
			if !regexp.MustCompile(tc.info + `INFO a state queue="q w"\n?$`).MatchString(entry) {
				t.Errorf("syslog got %q, want %s", entry, tc.info)
			}
			if entry = next(); !regexp.MustCompile(tc.fault + `ERROR a fault\\nin two lines\n?$`).MatchString(entry) {
				t.Errorf("syslog got %q, want %s", entry, tc.fault)
			}
			if !strings.Contains(strings.ReplaceAll(out.String(), `"[m`, `[m`), strings.ReplaceAll(tc.console, `\"`, `"`)) {
				t.Errorf("the console lacks %s:\n%s", tc.console, out)
			}
		})
	}
}

// A log that cannot be had is no reason not to work; a daemon's only log is.
func TestSystemLogsThatAreMissing(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	out := &console{}
	opt := Options{Path: writeIni(t, "[m]\nloop_delay = 0\nsyslog = 1\njournald = 1\n"), Stderr: out, Syslog: none}
	idle := func(*Job) (Worker, error) {
		return WorkerFunc(func(context.Context) (bool, error) { return false, nil }), nil
	}
	if err := RunWorker(t.Context(), "m", &JobConfig{}, opt, idle); err != nil {
		t.Fatal(err)
	}
	if want := "INFO syslog cannot be reached, the log goes to stderr and logfile only"; !strings.Contains(out.String(), want) {
		t.Errorf("the log lacks %s:\n%s", want, out)
	}
	opt = Options{Path: writeIni(t, "[m]\npidfile = "+none+".pid\nsyslog = 1\n"), Stderr: out, Syslog: none, Daemon: true}
	if err := RunWorker(t.Context(), "m", &JobConfig{}, opt, idle); ExitCode(err) != 2 || !strings.Contains(err.Error(), "[m] logfile: is missing") {
		t.Errorf("a daemon without a log: %v", err)
	}
	opt = Options{Path: writeIni(t, "[m]\nsyslog = 1\nsyslog_facility = nothing\n")}
	if err := RunWorker(t.Context(), "m", &JobConfig{}, opt, idle); ExitCode(err) != 2 || !strings.Contains(err.Error(), `[m] syslog_facility = "nothing": is none of auth, `) {
		t.Errorf("a facility that there is not: %v", err)
	}
}

func TestSyslogNamesItsFaults(t *testing.T) {
	if _, err := OpenSyslog("unixgram", filepath.Join(t.TempDir(), "none"), "x", "nothing"); err == nil || err.Error() != `syslog has no facility "nothing"` {
		t.Errorf("got %v", err)
	}
	if _, err := OpenSyslog("unixgram", filepath.Join(t.TempDir(), "none"), "x", "daemon"); err == nil {
		t.Error("a syslog that is not there was opened")
	}
}
