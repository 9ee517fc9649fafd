package scriptmgr

// What is known of jobs.

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"goworkers/batch"
)

// States of a job.
const (
	Running  = "running"
	Stopped  = "stopped"  // it has no pid file
	Dead     = "dead"     // its pid file names no living process
	Disabled = "disabled" // and it does not run
	Faulty   = "faulty"   // see Problem
)

// Status is what is known of a job.
type Status struct {
	Job     string   `json:"job"`
	Service string   `json:"service"`
	Config  string   `json:"config"`
	State   string   `json:"state"`
	Pid     *int     `json:"pid"`
	PidFile string   `json:"pidfile"`
	LogFile string   `json:"logfile"`
	LogAge  *float64 `json:"log_age_seconds"` // since the log was last written to
	LogLine *string  `json:"log_line"`        // its last line
	Problem *string  `json:"problem"`         // why nothing can be done with it
}

// Status looks at jobs.
func (m *Manager) Status(jobs []*Job) []Status {
	list := []Status{}
	for _, j := range jobs {
		list = append(list, j.status())
	}
	return list
}

func (j *Job) status() Status {
	s := Status{Job: j.Name, Service: j.Service, Config: j.Config, PidFile: j.pidfile, LogFile: j.logfile}
	pid, err := 0, j.fault
	if err == nil {
		pid, err = batch.RunningPid(j.pidfile)
	}
	_, missing := os.Stat(j.pidfile)
	switch {
	case err != nil:
		text := err.Error()
		s.State, s.Problem = Faulty, &text
	case pid != 0:
		s.State, s.Pid = Running, &pid
	case !errors.Is(missing, os.ErrNotExist):
		s.State = Dead
	case j.Disabled:
		s.State = Disabled
	default:
		s.State = Stopped
	}
	if line, written, err := lastLine(j.logfile); err == nil {
		age := time.Since(written).Seconds()
		s.LogLine, s.LogAge = &line, &age
	}
	return s
}

// tailSize is where the last line of a log is looked for.
const tailSize = 16 << 10

// lastLine is the last line of a log, and when it was written.
func lastLine(path string) (line string, written time.Time, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", time.Time{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", time.Time{}, err
	}
	if _, err := file.Seek(max(0, info.Size()-tailSize), io.SeekStart); err != nil {
		return "", time.Time{}, err
	}
	data, err := io.ReadAll(io.LimitReader(file, 2*tailSize))
	if err != nil {
		return "", time.Time{}, err
	}
	text := strings.TrimRight(string(data), "\r\n")
	return text[strings.LastIndexByte(text, '\n')+1:], info.ModTime(), nil
}
