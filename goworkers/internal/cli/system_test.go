package cli

// The real binary as a service of systemd: what it tells of itself, and its log in the
// journal.

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"goworkers/internal/pgtest"
)

// datagrams is a socket of systemd's; next is the next message.
func datagrams(t *testing.T, path string) (next func() string) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	packet := make([]byte, 64<<10)
	return func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(soon)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(packet)
		if err != nil {
			t.Fatal(err)
		}
		return string(packet[:n])
	}
}

func TestTickerTellsSystemd(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t, "pgq")
	d.Exec(t, busyQueue)
	socket := filepath.Join(t.TempDir(), "notify")
	next := datagrams(t, socket)
	expect := func(want string) {
		t.Helper()
		for message := next(); !regexp.MustCompile(want).MatchString(message); message = next() {
			if message != "WATCHDOG=1" && !strings.HasPrefix(message, "STATUS={ticks: ") {
				t.Fatalf("systemd hears %q, want %s", message, want)
			}
		}
	}
	cmd := exec.Command(link(t, "ticker"), setupIni(t, "pgqadm", "db = "+d.DSN+"\nloop_delay = 0.05\nstats_period = 0.1\n"))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=200000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	expect("^READY=1$")
	for range 3 {
		expect("^WATCHDOG=1$")
	}
	expect(`^STATUS=\{ticks: \d+, maint: \d+, retry: 0\}$`)
	for _, step := range []struct {
		sig  syscall.Signal
		want []string
	}{{syscall.SIGHUP, []string{`^RELOADING=1\nMONOTONIC_USEC=\d+$`, "^READY=1$", "^WATCHDOG=1$"}}, {syscall.SIGINT, []string{"^STOPPING=1$"}}} {
		if err := cmd.Process.Signal(step.sig); err != nil {
			t.Fatal(err)
		}
		for _, want := range step.want {
			expect(want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// fieldsOf reads an entry of the journal's native protocol.
func fieldsOf(t *testing.T, entry string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for entry != "" {
		line, rest, _ := strings.Cut(entry, "\n")
		name, value, plain := strings.Cut(line, "=")
		if !plain { // a value with line ends has its length before it
			size := binary.LittleEndian.Uint64([]byte(rest[:8]))
			value, rest = rest[8:8+size], rest[8+size+1:]
		}
		fields[name], entry = value, rest
	}
	return fields
}

// The journal's socket has one name only, so a program is built that takes another.
func TestJournalGetsTheLog(t *testing.T) {
	t.Parallel()
	d, e := pgtest.DB(t, "pgq"), pgtest.DB(t, "pgq", "pgq_ext")
	d.Exec(t, busyQueue)
	e.Exec(t, "select pgq.create_queue('all')")
	dir := t.TempDir()
	socket, program := filepath.Join(dir, "journal"), filepath.Join(dir, "skytools")
	out, err := exec.Command("go", "build", "-ldflags", "-X github.com/coreos/go-systemd/v22/journal.journalSocket="+socket,
		"-o", program, "goworkers/cmd/skytools").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ini := setupIni(t, "queue_mover", fmt.Sprintf("job_name = mover\nsrc_db = %s\ndst_db = %s\npgq_queue_name = q\ndst_queue_name = all\n"+
		"loop_delay = 0\njournald = 1\nsyslog_ident = moving\n", d.DSN, e.DSN))

	// Without a journal the job works all the same.
	if code, _, stderr := call(t, program, "queue_mover", ini); code != 0 || !strings.Contains(stderr, "INFO journal cannot be reached, the log goes to stderr and logfile only") {
		t.Errorf("without a journal: %d, %s", code, stderr)
	}
	next := datagrams(t, socket)
	d.Exec(t, "select pgq.insert_event('q', 't', 'x'); select pgq.force_tick('q')")
	d.Exec(t, "select pgq.ticker()")
	if code, _, stderr := call(t, program, "queue_mover", "-v", ini); code != 0 || !strings.Contains(stderr, "DEBUG batch finished") {
		t.Errorf("with a journal: %d, %s", code, stderr)
	}
	var got map[string]string
	for got["MESSAGE"] == "" || !strings.HasPrefix(got["MESSAGE"], "batch finished ") {
		got = fieldsOf(t, next())
	}
	for name, want := range map[string]string{
		"PRIORITY": "7", "SYSLOG_IDENTIFIER": "moving", "JOB_NAME": "mover", "SERVICE": "queue_mover",
		"QUEUE": "q", "CONSUMER": "mover", "BATCH_ID": "1", "EVENTS": "1", "MESSAGE": "batch finished batch_id=1 consumer=mover ",
	} {
		if value := got[name]; value != want && !(name == "MESSAGE" && strings.HasPrefix(value, want)) {
			t.Errorf("%s = %q, want %q", name, value, want)
		}
	}

	// What is on stderr is in the journal anyway when that leads there.
	stderr, err := os.OpenFile(filepath.Join(dir, "stderr"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	info, err := stderr.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	cmd := exec.Command(program, "queue_mover", "-v", ini)
	cmd.Env, cmd.Stderr = append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino)), stderr
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	if told, err := os.ReadFile(stderr.Name()); err != nil || len(told) > 0 {
		t.Errorf("stderr got %q, %v", told, err)
	}
	for got = fieldsOf(t, next()); got["PRIORITY"] != "7" && got["PRIORITY"] != "6"; got = fieldsOf(t, next()) {
	}
}
