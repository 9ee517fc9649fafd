package batch

// The log in systemd's journal, where fields stay fields: journalctl QUEUE=events.

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
)

// journalHook passes a job's log entries on. It blocks while the journal is busy.
type journalHook struct{ ident, job, service string }

// Levels are all: the logger has its own threshold.
func (h journalHook) Levels() []logrus.Level { return logrus.AllLevels }

var journalPriorities = map[logrus.Level]journal.Priority{
	logrus.PanicLevel: journal.PriErr, logrus.FatalLevel: journal.PriErr, logrus.ErrorLevel: journal.PriErr,
	logrus.WarnLevel: journal.PriWarning, logrus.InfoLevel: journal.PriInfo,
	logrus.DebugLevel: journal.PriDebug, logrus.TraceLevel: journal.PriDebug,
}

// Fire sends one entry. Its message has the fields too, since journalctl shows them
// only when asked to.
func (h journalHook) Fire(e *logrus.Entry) error {
	vars := map[string]string{"SYSLOG_IDENTIFIER": h.ident, "JOB_NAME": h.job, "SERVICE": h.service}
	for key, value := range e.Data {
		vars[journalField(key)] = fmt.Sprint(value)
	}
	var message bytes.Buffer
	writeMessage(&message, e)
	return journal.Send(message.String(), journalPriorities[e.Level], vars)
}

// journalFieldMax is the length of the longest name that a field may have.
const journalFieldMax = 64

var notOfAField = regexp.MustCompile(`[^A-Z0-9_]+`)

// journalField makes a field's name fit for the journal: capitals, digits and
// underscores, of which a letter is the first. Names that the journal has itself get
// out of the way.
func journalField(key string) string {
	name := notOfAField.ReplaceAllString(strings.ToUpper(key), "_")
	switch name = strings.TrimLeft(name, "_0123456789"); name {
	case "", "MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "JOB_NAME", "SERVICE":
		name = "FIELD_" + name
	}
	return name[:min(len(name), journalFieldMax)]
}
