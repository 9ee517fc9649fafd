package batch

// The log: one line an entry, to the console and to a file that rotates.

import (
	"bytes"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// lineFormat writes `2026-11-22 14:09:37,465 26374 INFO message key=value`,
// the form that scripts reading SkyTools logs know.
type lineFormat struct{}

func (lineFormat) Format(e *logrus.Entry) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(strings.Replace(e.Time.Format("2006-01-02 15:04:05.000"), ".", ",", 1))
	fmt.Fprintf(&b, " %d ", os.Getpid())
	writeEntry(&b, e)
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// writeEntry writes `INFO message key=value`.
func writeEntry(b *bytes.Buffer, e *logrus.Entry) {
	b.WriteString(strings.ToUpper(e.Level.String()) + " ")
	writeMessage(b, e)
}

// writeMessage writes `message key=value`.
func writeMessage(b *bytes.Buffer, e *logrus.Entry) {
	b.WriteString(oneLine(e.Message))
	keys := make([]string, 0, len(e.Data))
	for key := range e.Data {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	for _, key := range keys {
		value := fmt.Sprint(e.Data[key])
		if value == "" || strings.ContainsAny(value, " =\"\n\r\t") {
			value = strconv.Quote(value)
		}
		fmt.Fprintf(b, " %s=%s", key, value)
	}
}

// oneLine keeps an entry on its line, so that nobody can forge another.
func oneLine(text string) string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(text)
}

// shapeLog takes over level and format of the config.
func shapeLog(log *logrus.Logger, cfg *JobConfig) {
	log.SetFormatter(lineFormat{})
	if cfg.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	level, err := logrus.ParseLevel(cfg.LogLevel)
	if err != nil {
		level = logrus.InfoLevel
	}
	log.SetLevel(level)
}

// logFile is a log file that moves itself to NAME.1 … NAME.count when it
// reaches its size, and that can be opened anew after others have moved it.
type logFile struct {
	path  string
	limit int64
	count int

	mu   sync.Mutex
	file *os.File
	size int64
}

func openLogFile(path string, limit int64, count int) (*logFile, error) {
	f := &logFile{path: path, limit: limit, count: count}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("open logfile %s: %w; create its directory or change logfile", path, baseError(err))
	}
	return f, nil
}

func (f *logFile) open() error {
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return err
	}
	f.file, f.size = file, info.Size()
	return nil
}

func (f *logFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limit > 0 && f.size > 0 && f.size+int64(len(p)) > f.limit {
		f.rotate()
	}
	n, err := f.file.Write(p)
	f.size += int64(n)
	return n, err
}

// rotate keeps the old file open when a new one cannot be had: a log in the
// wrong file is better than none.
func (f *logFile) rotate() {
	for i := f.count; i > 0; i-- {
		from := f.path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", f.path, i-1)
		}
		os.Rename(from, fmt.Sprintf("%s.%d", f.path, i))
	}
	if f.count <= 0 {
		os.Remove(f.path)
	}
	old := f.file
	if f.open() == nil {
		old.Close()
	} else {
		f.size = 0 // try again after another limit
	}
}

// resize takes other limits over.
func (f *logFile) resize(limit int64, count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit, f.count = limit, count
}

// reopen follows a log file that was moved away.
func (f *logFile) reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.file
	if err := f.open(); err != nil {
		return fmt.Errorf("open logfile %s: %w", f.path, baseError(err))
	}
	return old.Close()
}

func (f *logFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}
