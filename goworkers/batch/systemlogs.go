package batch

// The machine's logs, syslog and journal, beside stderr and logfile.

import (
	"errors"
	"io"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
)

// systemLogs are the machine's logs that a job's log goes to, too.
type systemLogs struct {
	hooks   []logrus.Hook
	sys     *Syslog
	journal bool
	missing map[string]error // by what cannot be reached
}

// openSystemLogs opens those that cfg asks for; the syslog at a unix socket if it is
// not empty.
func openSystemLogs(service string, cfg *JobConfig, socket string) *systemLogs {
	l := &systemLogs{missing: map[string]error{}}
	if ident, facility := cfg.syslog(); ident != "" {
		network := ""
		if socket != "" {
			network = "unixgram"
		}
		var err error
		if l.sys, err = OpenSyslog(network, socket, ident, facility); err == nil {
			l.hooks = append(l.hooks, syslogHook{l.sys})
		} else {
			l.missing["syslog"] = err
		}
	}
	if cfg.Journald {
		if l.journal = journal.Enabled(); l.journal {
			l.hooks = append(l.hooks, journalHook{ident: cfg.ident(), job: cfg.JobName, service: service})
		} else {
			l.missing["journal"] = errors.New("its socket does not answer")
		}
	}
	return l
}

// inJournal tells whether what is written to the console is in the journal anyway.
func (l *systemLogs) inJournal(console io.Writer) bool {
	if !l.journal || console != os.Stderr {
		return false
	}
	same, err := journal.StderrIsJournalStream()
	return same && err == nil
}

// join adds them to the job's log, and tells there which are missing.
func (l *systemLogs) join(job *Job) {
	for _, hook := range l.hooks {
		job.logger.AddHook(hook)
	}
	for name, err := range l.missing {
		job.Log.WithError(err).Info(name + " cannot be reached, the log goes to stderr and logfile only")
	}
}

func (l *systemLogs) close() {
	if l.sys != nil {
		l.sys.Close()
	}
}
