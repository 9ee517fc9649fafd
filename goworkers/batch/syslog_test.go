package batch

// Entries on their way to a syslog.

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

func TestSyslogGetsTheLog(t *testing.T) {
	address := filepath.Join(t.TempDir(), "log")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	hook, err := OpenSyslog("unixgram", address, "pgqd", "local3")
	if err != nil {
		t.Fatal(err)
	}
	defer hook.Close()
	job, log := setupJob(t, JobConfig{LogLevel: "info"})
	job.logger.AddHook(syslogHook{hook})
	job.Log.Debug("a step")
	job.Log.WithField("queue", "q w").Info("a state")
	job.Log.Error("a fault\nin two lines")

	for _, want := range []string{
		`^<158>.* pgqd\[\d+\]: INFO a state queue="q w"\n?$`,     // local3.info
		`^<155>.* pgqd\[\d+\]: ERROR a fault\\nin two lines\n?$`, // local3.err
	} {
		if err := listener.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		packet := make([]byte, 1000)
		n, err := listener.Read(packet)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(want).Match(packet[:n]) {
			t.Errorf("syslog got %q, want %s", packet[:n], want)
		}
	}
	if log.String() == "" {
		t.Error("the console got nothing")
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
