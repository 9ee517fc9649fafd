// The log in PgBouncer's line format, written by a goroutine of its own, so that a
// slow disk does not hold up the loop.

package pooler

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// lineFormat writes `TIMESTAMP [PID] LEVEL message`.
type lineFormat struct{}

var levelNames = map[logrus.Level]string{
	logrus.PanicLevel: "FATAL", logrus.FatalLevel: "FATAL", logrus.ErrorLevel: "ERROR", logrus.WarnLevel: "WARNING",
	logrus.InfoLevel: "LOG", logrus.DebugLevel: "DEBUG", logrus.TraceLevel: "NOISE",
}

// oneLine keeps an entry on its line, so that nobody can forge another.
var oneLine = strings.NewReplacer("\n", `\n`, "\r", `\r`)

func (lineFormat) Format(e *logrus.Entry) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s [%d] %s %s", e.Time.Format("2006-01-02 15:04:05.000 MST"), os.Getpid(), levelNames[e.Level], oneLine.Replace(e.Message))
	if err, ok := e.Data[logrus.ErrorKey]; ok {
		fmt.Fprintf(&b, ": %s", oneLine.Replace(fmt.Sprint(err)))
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// logBacklog bounds what waits to be written; what is beyond is dropped and counted.
const logBacklog = 4 << 20

// logWriter hands lines to a goroutine that writes them to the console and a file.
type logWriter struct {
	console io.Writer // nil: not wanted

	mu      sync.Mutex
	wake    *sync.Cond
	pending []byte
	lost    int
	closed  bool
	done    chan struct{}

	fileMu sync.Mutex
	path   string
	file   *os.File
}

func newLogWriter(console io.Writer, path string) (*logWriter, error) {
	w := &logWriter{console: console, path: path, done: make(chan struct{})}
	w.wake = sync.NewCond(&w.mu)
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
	if len(w.pending)+len(line) > logBacklog {
		w.lost++
		return len(line), nil
	}
	w.pending = append(w.pending, line...)
	w.wake.Broadcast()
	return len(line), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	var batch []byte
	for {
		w.mu.Lock()
		for len(w.pending) == 0 && !w.closed {
			w.wake.Wait()
		}
		if len(w.pending) == 0 {
			w.mu.Unlock()
			return
		}
		batch, w.pending = w.pending, batch[:0]
		lost := w.lost
		w.lost = 0
		w.mu.Unlock()
		if lost > 0 {
			batch = fmt.Appendf(batch, "%s [%d] WARNING %d log lines lost: the log is written too slowly\n",
				time.Now().Format("2006-01-02 15:04:05.000 MST"), os.Getpid(), lost)
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
	w.wake.Broadcast()
	w.mu.Unlock()
	<-w.done
	if w.file != nil {
		w.file.Close()
	}
}

func newLog(out *logWriter) *logrus.Logger {
	log := logrus.New()
	log.SetFormatter(lineFormat{})
	log.SetOutput(out)
	return log
}

// setVerbosity takes over `verbose` and -v.
func (p *Pooler) setVerbosity() {
	level := logrus.InfoLevel
	switch v := p.set.Verbose + p.options.Verbose; {
	case v == 1:
		level = logrus.DebugLevel
	case v > 1:
		level = logrus.TraceLevel
	}
	p.log.SetLevel(level)
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
