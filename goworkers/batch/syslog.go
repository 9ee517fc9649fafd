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

// Syslogger is a Config that wants its log in syslog besides stderr and logfile.
type Syslogger interface {
	// Syslog gives the name that entries carry and the facility they go to; an
	// empty name means no syslog.
	Syslog() (ident, facility string)
}

var facilities = map[string]syslog.Priority{
	"kern": syslog.LOG_KERN, "user": syslog.LOG_USER, "mail": syslog.LOG_MAIL, "daemon": syslog.LOG_DAEMON,
	"auth": syslog.LOG_AUTH, "syslog": syslog.LOG_SYSLOG, "lpr": syslog.LOG_LPR, "news": syslog.LOG_NEWS,
	"uucp": syslog.LOG_UUCP, "cron": syslog.LOG_CRON, "authpriv": syslog.LOG_AUTHPRIV, "ftp": syslog.LOG_FTP,
	"local0": syslog.LOG_LOCAL0, "local1": syslog.LOG_LOCAL1, "local2": syslog.LOG_LOCAL2, "local3": syslog.LOG_LOCAL3,
	"local4": syslog.LOG_LOCAL4, "local5": syslog.LOG_LOCAL5, "local6": syslog.LOG_LOCAL6, "local7": syslog.LOG_LOCAL7,
}

// SyslogFacilities lists the names of facilities.
func SyslogFacilities() []string { return slices.Sorted(maps.Keys(facilities)) }

// syslogHook passes log entries on. syslog has time, process and level of its own.
type syslogHook struct{ to *syslog.Writer }

// openSyslog connects to the machine's syslog, or to the one at a network address.
func openSyslog(network, address, ident, facility string) (*syslogHook, error) {
	priority, known := facilities[strings.ToLower(facility)]
	if !known {
		return nil, fmt.Errorf("syslog has no facility %q", facility)
	}
	to, err := syslog.Dial(network, address, priority|syslog.LOG_INFO, ident)
	if err != nil {
		return nil, err
	}
	return &syslogHook{to}, nil
}

// Levels are all: the logger has its own threshold.
func (h *syslogHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire sends one entry.
func (h *syslogHook) Fire(e *logrus.Entry) error {
	var b bytes.Buffer
	writeEntry(&b, e)
	line := b.String()
	switch e.Level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		return h.to.Err(line)
	case logrus.WarnLevel:
		return h.to.Warning(line)
	case logrus.InfoLevel:
		return h.to.Info(line)
	}
	return h.to.Debug(line)
}

// Close ends it.
func (h *syslogHook) Close() error { return h.to.Close() }
