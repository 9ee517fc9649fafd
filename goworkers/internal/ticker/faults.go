package ticker

// What the server complains of: queues that cannot be ticked, and other warnings.

import (
	"context"
	"fmt"
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
	if prefix := "ticker: queue " + n.TableName + ": "; n.TableName != "" && strings.HasPrefix(n.Message, prefix) {
		f.note(n.TableName, strings.TrimPrefix(n.Message, prefix), n.Code, n.Message)
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

// endRound is called when all queues were looked at: who had no fault has none. It
// returns those that had one before, for recovered to tell.
func (f *faults) endRound() (over []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for queue := range f.told {
		if !f.now[queue] {
			delete(f.told, queue)
			over = append(over, queue)
		}
	}
	f.now = nil
	return over
}

const hasQueueSQL = `select exists (select from pgq.queue where queue_name operator(pg_catalog.=) $1)`

// recovered tells that queues have no fault any more, and why.
func (f *faults) recovered(ctx context.Context, conn *pgx.Conn, queues []string) error {
	for _, queue := range queues {
		var there bool
		if err := conn.QueryRow(ctx, hasQueueSQL, queue).Scan(&there); err != nil {
			return fmt.Errorf("look for queue %q: %w", queue, err)
		}
		log := f.log.WithField("queue", queue)
		if there {
			log.Info("queue has recovered")
		} else {
			log.Info("failing queue is gone")
		}
	}
	return nil
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
