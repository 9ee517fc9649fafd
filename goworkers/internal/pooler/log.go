// The log, in PgBouncer's line format or as JSON, written by goroutines of their own, so
// that neither a slow disk nor a slow syslog holds up the loops.

package pooler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"goworkers/batch"
	"goworkers/internal/pooler/ini"
)

// pid is asked for once: each asking is a system call.
var pid = os.Getpid()

const timeFormat = "2006-01-02 15:04:05.000 MST"

var levelNames = map[logrus.Level]string{
	logrus.PanicLevel: "FATAL", logrus.FatalLevel: "FATAL", logrus.ErrorLevel: "ERROR", logrus.WarnLevel: "WARNING",
	logrus.InfoLevel: "LOG", logrus.DebugLevel: "DEBUG", logrus.TraceLevel: "NOISE",
}

// Fields of an entry. Lines of text have the connection before the message, which tells
// of the others in words.
const (
	fieldConn   = "conn"   // logConn
	fieldAge    = "age"    // time.Duration
	fieldReason = "reason" // string
)

// logConn is the connection that an entry is about.
type logConn struct {
	kind     byte // 'C': a client, 'S': a server
	id       uint64
	db, user string
	end      netEnd
	peer     string // names a link to a peer, which has none of the three before
}

// appendID appends C-1 or S-2.
func (c *logConn) appendID(b []byte) []byte {
	return strconv.AppendUint(append(b, c.kind, '-'), c.id, 10)
}

// appendHost appends where the other end is.
func (c *logConn) appendHost(b []byte) []byte {
	if c.peer != "" {
		return append(b, c.peer...)
	}
	return c.end.append(b)
}

// appendPrefix appends `C-1: db/user@host `.
func (c *logConn) appendPrefix(b []byte) []byte {
	b = append(c.appendID(b), ": "...)
	if c.peer == "" {
		b = append(append(append(append(b, c.db...), '/'), c.user...), '@')
	}
	return append(c.appendHost(b), ' ')
}

// about begins an entry about a connection.
func (p *Pooler) about(c logConn) *logrus.Entry { return p.log.WithField(fieldConn, c) }

// plainLog tells that of an entry nothing but its line is wanted.
func (p *Pooler) plainLog() bool { return p.syslog == nil && p.set.LogFormat != ini.LogJSON }

// note logs what comes with each connection; the message is the parts together. An entry
// takes as long as a tenth of a login: there is one only where its fields are wanted.
func (p *Pooler) note(c logConn, parts ...string) {
	if p.plainLog() {
		p.logOut.line(logrus.InfoLevel, &c, parts...)
		return
	}
	p.about(c).Info(strings.Join(parts, ""))
}

// closed logs the end of a connection.
func (p *Pooler) closed(c logConn, reason string, age time.Duration) {
	seconds := strconv.Itoa(int(age / time.Second))
	if p.plainLog() {
		p.note(c, "closing because: ", reason, " (age=", seconds, "s)")
		return
	}
	p.log.WithFields(logrus.Fields{fieldConn: c, fieldAge: age, fieldReason: reason}).
		Info("closing because: " + reason + " (age=" + seconds + "s)")
}

// isControl tells of a byte that would end the line, or do something to a terminal.
func isControl(c byte) bool { return c < ' ' || c == 0x7f }

// appendVisible appends a text with its control characters as \n, \r or \x1B: nobody can
// forge another line, nor write to the terminal of who reads.
func appendVisible(b []byte, text string) []byte {
	for _, c := range []byte(text) {
		switch {
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case isControl(c):
			b = fmt.Appendf(b, `\x%02X`, c)
		default:
			b = append(b, c)
		}
	}
	return b
}

// textOf is what an entry says, with the error that it has.
func textOf(e *logrus.Entry) string {
	text := e.Message
	if err, ok := e.Data[logrus.ErrorKey]; ok {
		text += ": " + fmt.Sprint(err)
	}
	return text
}

// lineFormat writes `TIMESTAMP [PID] LEVEL PREFIXmessage`.
type lineFormat struct{}

func (lineFormat) Format(e *logrus.Entry) ([]byte, error) {
	return appendLine(appendStamp(make([]byte, 0, 200), e.Time), e.Level, connOf(e), textOf(e)), nil
}

// connOf is the connection that an entry is about, or nil.
func connOf(e *logrus.Entry) *logConn {
	if c, ok := e.Data[fieldConn].(logConn); ok {
		return &c
	}
	return nil
}

// appendStamp appends what a line begins with.
func appendStamp(b []byte, at time.Time) []byte {
	b = at.AppendFormat(b, timeFormat)
	return append(strconv.AppendInt(append(b, " ["...), int64(pid), 10), "] "...)
}

// stamp makes the beginnings of lines, most of them out of that of the second's first.
type stamp struct {
	second int64
	text   []byte
}

// stampMillis is where the milliseconds are in timeFormat.
var stampMillis = strings.Index(timeFormat, ".000") + 1

func (s *stamp) append(b []byte, at time.Time) []byte {
	if second := at.Unix(); second != s.second || s.text == nil {
		s.second, s.text = second, appendStamp(s.text[:0], at)
	}
	ms := at.Nanosecond() / 1e6
	b = append(b, s.text[:stampMillis]...)
	b = append(b, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	return append(b, s.text[stampMillis+3:]...)
}

// appendLine appends the rest of a line; the message is the parts together.
func appendLine(b []byte, level logrus.Level, c *logConn, parts ...string) []byte {
	b = append(append(b, levelNames[level]...), ' ')
	return append(appendMessage(b, c, parts...), '\n')
}

// appendMessage appends a message, behind the connection that it is about.
func appendMessage(b []byte, c *logConn, parts ...string) []byte {
	from := len(b)
	if c != nil {
		b = c.appendPrefix(b)
	}
	for _, part := range parts {
		b = append(b, part...)
	}
	for _, c := range b[from:] {
		if isControl(c) {
			return appendVisible(b[:from], string(b[from:]))
		}
	}
	return b
}

// jsonFormat writes an object a line.
type jsonFormat struct{}

// jsonLine is an entry; what is not known is left out.
type jsonLine struct {
	Time    string  `json:"time"`
	PID     int     `json:"pid"`
	Level   string  `json:"level"`
	Message string  `json:"message"`
	Conn    string  `json:"conn,omitempty"`
	DB      string  `json:"db,omitempty"`
	User    string  `json:"user,omitempty"`
	Host    string  `json:"host,omitempty"`
	Age     *uint64 `json:"age,omitempty"` // seconds
	Reason  string  `json:"reason,omitempty"`
}

func (jsonFormat) Format(e *logrus.Entry) ([]byte, error) {
	line := jsonLine{Time: e.Time.Format("2006-01-02T15:04:05.000Z07:00"), PID: pid, Level: levelNames[e.Level], Message: textOf(e)}
	if c := connOf(e); c != nil {
		line.Conn, line.DB, line.User, line.Host = string(c.appendID(nil)), c.db, c.user, string(c.appendHost(nil))
	}
	if age, ok := e.Data[fieldAge].(time.Duration); ok {
		seconds := uint64(age / time.Second)
		line.Age = &seconds
	}
	line.Reason, _ = e.Data[fieldReason].(string)
	var b bytes.Buffer
	to := json.NewEncoder(&b)
	to.SetEscapeHTML(false)
	err := to.Encode(line)
	return b.Bytes(), err
}

// logFormat is how lines are written.
func logFormat(f ini.LogFormat) logrus.Formatter {
	if f == ini.LogJSON {
		return jsonFormat{}
	}
	return lineFormat{}
}

// logBacklog bounds what waits to be written; what is beyond is dropped and counted.
const logBacklog = 4 << 20

// logWriter hands lines to a goroutine that writes them to the console and a file.
type logWriter struct {
	console io.Writer // nil: not wanted

	mu      sync.Mutex
	wake    chan struct{} // pending is not empty any more
	closing chan struct{}
	pending []byte
	stamp   stamp
	lost    int
	format  logrus.Formatter
	closed  bool
	done    chan struct{}

	fileMu sync.Mutex
	path   string
	file   *os.File
}

func newLogWriter(console io.Writer, path string) (*logWriter, error) {
	w := &logWriter{console: console, path: path, format: lineFormat{}, done: make(chan struct{}), wake: make(chan struct{}, 1), closing: make(chan struct{})}
	if path != "" {
		if err := w.reopen(); err != nil {
			return nil, err
		}
	}
	go w.run()
	return w, nil
}

func (w *logWriter) reopen() error {
	file, err := os.OpenFile(w.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open logfile: %w; create its folder or change logfile", err)
	}
	w.fileMu.Lock()
	defer w.fileMu.Unlock()
	if w.file != nil {
		w.file.Close()
	}
	w.file = file
	return nil
}

// Write takes one line.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(append(w.pending, line...))
	return len(line), nil
}

// line takes what lineFormat would make of an entry of now.
func (w *logWriter) line(level logrus.Level, c *logConn, parts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(appendLine(w.stamp.append(w.pending, time.Now()), level, c, parts...))
}

// take has the goroutine write what is pending with one line more; the caller holds mu.
func (w *logWriter) take(more []byte) {
	if len(more) > logBacklog {
		w.lost++
		return
	}
	if len(w.pending) == 0 {
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
	w.pending = more
}

// logGather is how long lines are gathered before they are written: many logins in a
// second wake the goroutine a few times and not for each line.
const logGather = 5 * time.Millisecond

func (w *logWriter) run() {
	defer close(w.done)
	gather := time.NewTimer(0)
	defer gather.Stop()
	var batch []byte
	for closed := false; !closed; {
		select {
		case <-w.wake:
			gather.Reset(logGather)
			select {
			case <-gather.C:
			case <-w.closing:
			}
		case <-w.closing:
		}
		w.mu.Lock()
		batch, w.pending = w.pending, batch[:0]
		lost, format := w.lost, w.format
		w.lost, closed = 0, w.closed
		w.mu.Unlock()
		if lost > 0 {
			line, _ := format.Format(&logrus.Entry{Time: time.Now(), Level: logrus.WarnLevel,
				Message: fmt.Sprintf("%d log lines lost: the log is written too slowly", lost)})
			batch = append(batch, line...)
		}
		if len(batch) == 0 {
			continue
		}
		if w.console != nil {
			w.console.Write(batch)
		}
		w.fileMu.Lock()
		if w.file != nil {
			w.file.Write(batch)
		}
		w.fileMu.Unlock()
	}
}

// Close writes what waits and ends the goroutine.
func (w *logWriter) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	close(w.closing)
	<-w.done
	if w.file != nil {
		w.file.Close()
	}
}

// syslogBacklog is how many entries may wait for the syslog.
const syslogBacklog = 4096

// syslogHook hands entries to a goroutine that sends them to the syslog.
type syslogHook struct {
	to     *batch.Syslog
	format logrus.Formatter
	done   chan struct{}

	mu      sync.Mutex
	entries chan syslogEntry // nil: closed
}

type syslogEntry struct {
	level logrus.Level
	line  string
}

func newSyslogHook(to *batch.Syslog, format logrus.Formatter) *syslogHook {
	entries := make(chan syslogEntry, syslogBacklog)
	h := &syslogHook{to: to, format: format, entries: entries, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for e := range entries {
			// A syslog that is gone is no reason to stop; the next entry tries again.
			h.to.Send(e.level, e.line)
		}
	}()
	return h
}

// Levels are all: the logger has its own threshold.
func (h *syslogHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire hands an entry over; it is dropped when too many wait.
func (h *syslogHook) Fire(e *logrus.Entry) error {
	// Time, process and level are the syslog's own.
	line := string(appendMessage(nil, connOf(e), textOf(e)))
	if _, ok := h.format.(jsonFormat); ok {
		b, err := h.format.Format(e)
		if err != nil {
			return err
		}
		line = strings.TrimSuffix(string(b), "\n")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case h.entries <- syslogEntry{e.Level, line}:
	default:
	}
	return nil
}

// close sends what waits; entries that still come are dropped.
func (h *syslogHook) close() {
	h.mu.Lock()
	close(h.entries)
	h.entries = nil
	h.mu.Unlock()
	<-h.done
	h.to.Close()
}

func newLog(out *logWriter) *logrus.Logger {
	log := logrus.New()
	log.SetFormatter(lineFormat{})
	log.SetOutput(out)
	return log
}

// configureLog takes over `verbose` and -v, log_format and the syslog settings; it is for
// use within alone.
func (p *Pooler) configureLog() {
	level := logrus.InfoLevel
	switch v := p.set.Verbose + p.options.Verbose; {
	case v == 1:
		level = logrus.DebugLevel
	case v > 1:
		level = logrus.TraceLevel
	}
	p.log.SetLevel(level)
	format := logFormat(p.set.LogFormat)
	p.log.SetFormatter(format)
	p.logOut.mu.Lock()
	p.logOut.format = format
	p.logOut.mu.Unlock()

	want := ""
	if p.set.Syslog {
		want = strings.Join([]string{p.set.SyslogIdent, p.set.SyslogFacility, p.set.LogFormat.String()}, "\x00")
	}
	if want == p.syslogAs {
		return
	}
	p.closeSyslog()
	if want == "" {
		return
	}
	network := ""
	if p.options.Syslog != "" {
		network = "unixgram"
	}
	to, err := batch.OpenSyslog(network, p.options.Syslog, p.set.SyslogIdent, p.set.SyslogFacility)
	if err != nil {
		p.log.WithError(err).Warn("no log to syslog; the next RELOAD tries again")
		return
	}
	p.syslog, p.syslogAs = newSyslogHook(to, format), want
	p.log.AddHook(p.syslog)
}

// closeSyslog ends the log to syslog.
func (p *Pooler) closeSyslog() {
	if p.syslog == nil {
		return
	}
	p.log.ReplaceHooks(logrus.LevelHooks{})
	p.syslog.close()
	p.syslog, p.syslogAs = nil, ""
}

// reopenLog follows a log file that was moved away.
func (p *Pooler) reopenLog() {
	if p.logOut.path == "" {
		return
	}
	if err := p.logOut.reopen(); err != nil {
		p.log.Error(err.Error())
	}
}
