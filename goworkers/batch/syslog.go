package batch

// The log in the machine's syslog, for configurations that want it there.

import (
	"bytes"
	"fmt"
	"log/syslog"
	"maps"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
)

var facilities = map[string]syslog.Priority{
	"kern": syslog.LOG_KERN, "user": syslog.LOG_USER, "mail": syslog.LOG_MAIL, "daemon": syslog.LOG_DAEMON,
	"auth": syslog.LOG_AUTH, "syslog": syslog.LOG_SYSLOG, "lpr": syslog.LOG_LPR, "news": syslog.LOG_NEWS,
	"uucp": syslog.LOG_UUCP, "cron": syslog.LOG_CRON, "authpriv": syslog.LOG_AUTHPRIV, "ftp": syslog.LOG_FTP,
	"local0": syslog.LOG_LOCAL0, "local1": syslog.LOG_LOCAL1, "local2": syslog.LOG_LOCAL2, "local3": syslog.LOG_LOCAL3,
	"local4": syslog.LOG_LOCAL4, "local5": syslog.LOG_LOCAL5, "local6": syslog.LOG_LOCAL6, "local7": syslog.LOG_LOCAL7,
}

// SyslogFacilities lists the names of facilities.
func SyslogFacilities() []string { return slices.Sorted(maps.Keys(facilities)) }

// Syslog is a connection to a syslog, which has time, process and level of its own. It
// is safe for concurrent use, and connects again when the syslog was started again.
type Syslog struct{ to *syslog.Writer }

// OpenSyslog connects to the machine's syslog, for which network and address are empty,
// or to the one at an address (as net.Dial takes it). Entries carry the name ident and go
// to the facility, one of SyslogFacilities in any case. The error says that there is no
// such facility, or no syslog.
func OpenSyslog(network, address, ident, facility string) (*Syslog, error) {
	priority, known := facilities[strings.ToLower(facility)]
	if !known {
		return nil, fmt.Errorf("syslog has no facility %q", facility)
	}
	to, err := syslog.Dial(network, address, priority|syslog.LOG_INFO, ident)
	if err != nil {
		return nil, err
	}
	return &Syslog{to}, nil
}

// Send sends one line, without its line end. It may block while the syslog is busy.
func (s *Syslog) Send(level logrus.Level, line string) error {
	switch level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		return s.to.Err(line)
	case logrus.WarnLevel:
		return s.to.Warning(line)
	case logrus.InfoLevel:
		return s.to.Info(line)
	}
	return s.to.Debug(line)
}

// Close ends it.
func (s *Syslog) Close() error { return s.to.Close() }

// syslogHook passes a job's log entries on.
type syslogHook struct{ *Syslog }

// Levels are all: the logger has its own threshold.
func (h syslogHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire sends one entry.
func (h syslogHook) Fire(e *logrus.Entry) error {
	var b bytes.Buffer
	writeEntry(&b, e)
	return h.Send(e.Level, b.String())
}
