package batch

// The log's form and its files.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
)

func TestLogLine(t *testing.T) {
	job, out := setupJob(t, JobConfig{LogLevel: "info"})
	job.Log.WithFields(logrus.Fields{"queue": "q", "error": errors.New(`a "bad" word`), "empty": "", "n": 7}).Warn("two\nlines")
	job.Log.Debug("not shown")
	want := regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ` + fmt.Sprint(os.Getpid()) +
		` WARNING two\\nlines empty="" error="a \\"bad\\" word" n=7 queue=q\n$`)
	if !want.MatchString(out.String()) {
		t.Errorf("got %q", out)
	}
}

func TestLogAsJSON(t *testing.T) {
	job, out := setupJob(t, JobConfig{LogFormat: "json"})
	job.Log.WithField("queue", "q").Info("hello")
	var entry map[string]string
	if err := json.Unmarshal([]byte(out.String()), &entry); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if entry["msg"] != "hello" || entry["queue"] != "q" || entry["level"] != "info" || entry["time"] == "" {
		t.Errorf("got %v", entry)
	}
}

func TestLogFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.log")
	f, err := openLogFile(path, 30, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if _, err := fmt.Fprintf(f, "line %d of 15 B\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"": "6 7", ".1": "4 5", ".2": "2 3"} {
		data, err := os.ReadFile(path + name)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(regexp.MustCompile(`line \d`).FindAllString(string(data), -1), " ")
		if got = strings.ReplaceAll(got, "line ", ""); got != want {
			t.Errorf("job.log%s has lines %s, want %s", name, got, want)
		}
	}
	if _, err := os.Stat(path + ".3"); !errors.Is(err, os.ErrNotExist) {
		t.Error("more than log_count files are kept")
	}
}

// The keys of the ini file, with lines of JSON and lines that come from many goroutines.
func TestJobRotatesItsLog(t *testing.T) {
	dir := t.TempDir()
	ini := writeIni(t, "[m]\nlogfile = "+dir+"/%(job_name)s.log\nlog_size = 4kB\nlog_count = 2\nlog_format = json\nloop_delay = 0\n")
	const writers, lines = 4, 100
	err := RunWorker(t.Context(), "m", &JobConfig{}, Options{Path: ini, Stderr: &console{}}, func(job *Job) (Worker, error) {
		return WorkerFunc(func(context.Context) (bool, error) {
			var writing sync.WaitGroup
			for w := range writers {
				writing.Go(func() {
					for n := range lines {
						job.Log.WithFields(logrus.Fields{"queue": "q", "n": n, "w": w}).Info("ü\n")
					}
				})
			}
			writing.Wait()
			return false, nil
		}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, name := range []string{"mover_a.log", "mover_a.log.1", "mover_a.log.2"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 4096 || name != "mover_a.log" && len(data) < 3500 {
			t.Errorf("%s has %d bytes", name, len(data))
		}
		for line := range strings.Lines(string(data)) {
			var entry struct{ Msg, Level, Queue string }
			if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg != "ü\n" || entry.Level != "info" || entry.Queue != "q" {
				t.Fatalf("%s: %v in %q", name, err, line)
			}
			total++
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 3 || total >= writers*lines {
		t.Errorf("%d files, %d lines", len(left), total)
	}
}

func TestLogFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.log")
	job, _ := setupJob(t, JobConfig{LogFile: path})
	job.Log.Info("one")
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	job.ReopenLog()
	job.Log.Info("two")
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), "INFO two") || strings.Contains(string(data), "one") {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestLogFileThatCannotBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "job.log")
	_, err := NewJob("test", JobConfig{LogFile: path}, nil)
	want := "open logfile " + path + ": no such file or directory; create its directory or change logfile"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestStatsKeepTheOrderOfFirstUse(t *testing.T) {
	var s Stats
	if line := s.Flush(); line != "" {
		t.Errorf("nothing counted gives %q", line)
	}
	s.Add("zebra", 2)
	s.Add("ant", 0)
	s.Add("zebra", 3)
	if line := s.Flush(); line != "{zebra: 5, ant: 0}" {
		t.Errorf("got %q", line)
	}
	if line := s.Flush(); line != "" {
		t.Errorf("the second flush gives %q", line)
	}
}
