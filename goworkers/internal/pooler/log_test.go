package pooler

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"goworkers/internal/pgtest"
)

func TestLogLinesHaveTheFormThatScriptsKnow(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t))})
	a := r.connect("d")
	exec(t, a, "select 1")
	b := r.connect("d", "host="+r.dir)
	a.Close(background(t))
	b.Close(background(t))
	r.refused("'no such\n\x1b[1mplace'")
	const stamp = `(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+ \[\d+\] `
	for _, want := range []string{
		`LOG process up: skytools pooler `,
		`LOG C-\d+: d/postgres@127\.0\.0\.1:\d+ login attempt: db=d user=postgres tls=no replication=no$`,
		`LOG S-\d+: d/postgres@127\.0\.0\.1:\d+ new connection to server \(from 127\.0\.0\.1:\d+\)$`,
		`LOG C-\d+: d/postgres@127\.0\.0\.1:\d+ closing because: client close request \(age=\d+s\)$`,
		fmt.Sprintf(`LOG C-\d+: d/postgres@unix\(%d\):%d closing because: client close request \(age=\d+s\)$`, os.Getpid(), r.port),
		`WARNING C-\d+: no such\\n\\x1B\[1mplace/postgres@127\.0\.0\.1:\d+ pooler error: no such database: no such\\n\\x1B\[1mplace$`,
	} {
		line := regexp.MustCompile(stamp + want)
		r.waitFor("the log has "+want, func() bool { return line.MatchString(r.log.String()) })
	}
}

func TestJSONLogHasFields(t *testing.T) {
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "log_format = json\nverbose = 1"})
	a := r.connect("d")
	exec(t, a, "select 1")
	addr := a.PgConn().Conn().LocalAddr().String()
	a.Close(background(t))
	r.refused("'nowhere\t\"quoted\"'")
	r.waitLog("no such database")
	// SET changes the form of what comes after it.
	r.console("set log_format = 'text'")
	r.waitFor("a line of text", func() bool { return regexp.MustCompile(`(?m)^\d.* LOG C-`).MatchString(r.log.String()) })
	type line struct {
		Time                                         time.Time
		PID                                          int
		Level, Message, Conn, DB, User, Host, Reason string
		Age                                          *int
	}
	found := map[string]line{}
	for text := range strings.Lines(r.log.String()) {
		if text[0] != '{' {
			continue
		}
		var l line
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil || d.More() {
			t.Fatalf("%q: %v", text, err)
		}
		if l.PID != os.Getpid() || time.Since(l.Time) > time.Minute || time.Since(l.Time) < 0 || l.Level == "" || l.Message == "" {
			t.Errorf("%q", text)
		}
		if l.Conn != "" && (l.DB == "" || l.User == "" || l.Host == "") {
			t.Errorf("a connection without names: %q", text)
		}
		if l.DB == "d" || l.DB == "nowhere\t\"quoted\"" {
			found[l.Conn[:1]+" "+strings.SplitN(l.Message, " (", 2)[0]] = l
		}
	}
	if l := found["C closing because: client close request"]; l.User != "postgres" || l.Host != addr || l.Age == nil || l.Reason != "client close request" || l.Level != "LOG" {
		t.Errorf("closing: %+v", l)
	}
	if l := found["S new connection to server"]; l.DB != "d" || !strings.HasPrefix(l.Conn, "S-") {
		t.Errorf("server: %+v", l)
	}
	if l := found["C pooler error: no such database: nowhere\t\"quoted\""]; l.Level != "WARNING" || l.Reason != "no such database: nowhere\t\"quoted\"" || l.Age != nil {
		t.Errorf("error: %+v", l)
	}
}

func TestSyslogGetsTheLog(t *testing.T) {
	address := filepath.Join(t.TempDir(), "log")
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	next := func(want string) {
		t.Helper()
		line := regexp.MustCompile(want)
		listener.SetReadDeadline(time.Now().Add(20 * time.Second))
		for {
			packet := make([]byte, 4000)
			n, err := listener.Read(packet)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if line.Match(packet[:n]) {
				return
			}
		}
	}
	db := pgtest.DB(t)
	c := config{databases: entry("d", db), settings: "syslog = 1\nsyslog_ident = bouncer\nsyslog_facility = LOCAL3", options: Options{Syslog: address}}
	r := start(t, c)
	next(`^<158>.* bouncer\[\d+\]: process up: `)
	conn := r.connect("d")
	next(`^<158>.* bouncer\[\d+\]: C-\d+: d/postgres@127\.0\.0\.1:\d+ login attempt: db=d user=postgres tls=no replication=no\n?$`)
	r.refused("nowhere")
	next(`^<156>.* bouncer\[\d+\]: C-\d+: nowhere/postgres@127\.0\.0\.1:\d+ pooler error: no such database: nowhere\n?$`)
	// RELOAD changes name and form, and ends it.
	c.settings = "syslog = 1\nsyslog_ident = other\nlog_format = json"
	r.write(c)
	r.reread()
	conn.Close(context.Background())
	next(`^<30>.* other\[\d+\]: \{.*"message":"closing because: client close request \(age=\d+s\)","conn":"C-\d+","db":"d",.*\}\n?$`)
	c.settings = ""
	r.write(c)
	r.reread()
	r.refused("nowhere")
	listener.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := listener.Read(make([]byte, 4000)); err == nil && n > 0 {
		packet := make([]byte, 4000)
		for err == nil {
			n, err = listener.Read(packet)
			if strings.Contains(string(packet[:n]), "nowhere") {
				t.Errorf("syslog still gets the log: %s", packet[:n])
			}
		}
	}
	// A syslog that is not there is no reason not to serve.
	listener.Close()
	os.Remove(address)
	c.settings = "syslog = 1"
	r.write(c)
	r.reread()
	r.waitLog("WARNING no log to syslog; the next RELOAD tries again: ")
	exec(t, r.connect("d"), "select 1")
}

func TestServiceManagerIsToldTheStats(t *testing.T) {
	told := make(chan string, 100)
	r := start(t, config{databases: entry("d", pgtest.DB(t)), settings: "stats_period = 0.5\nlog_stats = 0",
		options: Options{Notify: func(lines ...string) { told <- strings.Join(lines, "\n") }}})
	line := <-told
	if !regexp.MustCompile(`^STATUS=stats: \d+ xacts/s, \d+ queries/s, \d+ client parses/s, \d+ server parses/s, \d+ binds/s, \d+ client logins/s, ` +
		`in \d+ B/s, out \d+ B/s, xact \d+ us, query \d+ us, wait \d+ us$`).MatchString(line) {
		t.Errorf("told %q", line)
	}
	if strings.Contains(r.log.String(), "stats:") {
		t.Error("log_stats = 0 does not keep the line from the log")
	}
}
