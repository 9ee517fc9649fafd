package ticker

// What the server complains of: queues that cannot be ticked, and other warnings.

import (
	"regexp"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/sirupsen/logrus"
)

// faults remembers what was told, so that each fault is told once, again when it
// becomes another one, and when it is over.
type faults struct {
	log logrus.FieldLogger

	mu     sync.Mutex
	told   map[string]string // kind of the fault that a queue has
	now    map[string]bool   // queues with a fault in this round
	others map[string]bool   // kinds of warnings that are no queue's
}

// faulty is the form of the warning that pgq.ticker() gives for a queue.
var faulty = regexp.MustCompile(`(?s)^ticker: queue (.*?): (.*)$`)

// operatorClass of SQLSTATEs is the server's last words when it shuts down;
// the lost connection is told anyway.
const operatorClass = "57P"

// numbers vary between repeats of one warning: transaction ids, counts.
var numbers = regexp.MustCompile(`\b[0-9]+\b`)

// warningsMax bounds what is remembered of warnings.
const warningsMax = 1000

// hear makes a connection log the server's warnings, each once.
func (f *faults) hear(cfg *pgx.ConnConfig) {
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.SeverityUnlocalized == "WARNING" && !strings.HasPrefix(n.Code, operatorClass) {
			f.warning(n)
		}
	}
}

// warning takes one that came while the queues were ticked or maintained.
func (f *faults) warning(n *pgconn.Notice) {
	if m := faulty.FindStringSubmatch(n.Message); m != nil {
		f.note(m[1], m[2], n.Code, n.Message)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.others == nil || len(f.others) >= warningsMax {
		f.others = map[string]bool{}
	}
	if kind := kindOf(n.Message + n.Detail); !f.others[kind] {
		f.others[kind] = true
		log := f.log.WithField("sqlstate", n.Code)
		if n.Detail != "" {
			log = log.WithField("detail", n.Detail)
		}
		log.Warn(n.Message)
	}
}

// failed takes the error of one queue.
func (f *faults) failed(queue string, err *pgconn.PgError) {
	f.note(queue, err.Message, err.Code, "ticker: queue "+queue+": "+err.Message)
}

func (f *faults) note(queue, what, code, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now == nil {
		f.now = map[string]bool{}
	}
	if f.told == nil || len(f.told) >= warningsMax {
		f.told = map[string]string{}
	}
	f.now[queue] = true
	if kind := kindOf(what); f.told[queue] != kind {
		f.told[queue] = kind
		f.log.WithFields(logrus.Fields{"queue": queue, "sqlstate": code}).Warn(message)
	}
}

// endRound is called when all queues were looked at: who had no fault has none.
func (f *faults) endRound() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for queue := range f.told {
		if !f.now[queue] {
			delete(f.told, queue)
			f.log.WithField("queue", queue).Info("queue has recovered")
		}
	}
	f.now = nil
}

// queues lists those that have a fault.
func (f *faults) queues() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for queue := range f.told {
		list = append(list, queue)
	}
	return list
}

// kindOf is the same for messages that tell a person the same.
func kindOf(message string) string { return numbers.ReplaceAllString(message, "0") }
