package consumers

// A statement that is run for each event, with the event's values.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/sirupsen/logrus"

	"goworkers/batch"
	"goworkers/pgq"
)

// EventQuery holds the keys of a job that runs a statement for each event.
type EventQuery struct {
	// DstQuery is the statement. Required.
	DstQuery string `ini:"dst_query" raw:"true" required:"true" help:"statement to run in dst_db for each event; %(name)s is the column of that name, %(pgq.ev_id)s, %(pgq.ev_data)s and so on are fields of the event"`
	batch.BadEvents
}

const dstQuery = "dst_query"

// Validate finds what is wrong in the statement as far as one sees without the server.
func (c *EventQuery) Validate() []batch.Problem {
	if _, err := parseEventQuery(c.DstQuery); err != nil {
		return []batch.Problem{{Key: dstQuery, What: err.Error()}}
	}
	return nil
}

// eventFields are what a placeholder can name besides the row's columns.
var eventFields = []string{"tick_id", "ev_id", "ev_time", "ev_type", "ev_data", "ev_extra1", "ev_extra2", "ev_extra3", "ev_extra4"}

// eventPrefix before one of eventFields makes plain that no column is meant.
const eventPrefix = "pgq."

func parseEventQuery(text string) (*query, error) {
	q, err := parseOne(dstQuery, text)
	if err != nil {
		return nil, err
	}
	for _, name := range q.names {
		if field, ours := strings.CutPrefix(name, eventPrefix); ours && !slices.Contains(eventFields, field) {
			return nil, fmt.Errorf("has %%(%s)s, but the fields of an event are %s%s", name, eventPrefix, strings.Join(eventFields, ", "+eventPrefix))
		}
	}
	return q, nil
}

// eventRunner runs the statement. Portions of events go to the server at once.
type eventRunner struct {
	job     *batch.Job
	cfg     EventQuery
	query   *query
	columns bool // the statement names columns, so that ev_data has to be a row
	debug   bool
	checked atomic.Bool // by the server; see check
}

func newEventRunner(job *batch.Job, cfg EventQuery) (*eventRunner, error) {
	q, err := parseEventQuery(cfg.DstQuery)
	if err != nil {
		return nil, batch.Usagef("%s: %v", job.Config.Key(dstQuery), err)
	}
	return &eventRunner{
		job: job, cfg: cfg, query: q,
		columns: slices.ContainsFunc(q.names, func(name string) bool { return !strings.HasPrefix(name, eventPrefix) }),
		debug:   job.Config.LogLevel == "debug",
	}, nil
}

// check has the server read the statement, once.
func (r *eventRunner) check(ctx context.Context, conn *pgconn.PgConn) error {
	if r.checked.Load() {
		return nil
	}
	if err := r.query.check(ctx, conn, &r.job.Config); err != nil {
		return err
	}
	r.checked.Store(true)
	return nil
}

// work does a round of the consumer. The handler checks the statement before the first
// event; without one it is checked after the round. So the consumer is registered by
// then, and no event is lost while somebody corrects the statement.
func (r *eventRunner) work(ctx context.Context, consumer batch.Worker, dst batch.ConnString) (more bool, err error) {
	more, err = consumer.Work(ctx)
	if err != nil || r.checked.Load() {
		return more, err
	}
	conn, err := r.job.DB(ctx, "dst_db", dst)
	if err != nil {
		return false, err
	}
	return more, r.check(ctx, conn.PgConn())
}

// call is the statement with the values of one event.
type call struct {
	ev   *pgq.Event
	args [][]byte
}

const (
	// portionEvents and portionBytes are how much goes to the server at once.
	portionEvents = 100
	portionBytes  = 1 << 20
)

// each gives the batch's events to send in portions. Those that wanted does not want
// are passed by; nil wants all. Events whose values cannot be found are put aside.
func (r *eventRunner) each(b *batch.Batch, wanted func(*pgq.Event) bool, send func([]call) error) error {
	var calls []call
	size := 0
	flush := func() error {
		if len(calls) == 0 {
			return nil
		}
		err := send(calls)
		calls, size = nil, 0
		return err
	}
	for ev, err := range b.Events() {
		if err != nil {
			return err
		}
		if wanted != nil && !wanted(ev) {
			r.job.Stats.Add("ignored", 1)
			continue
		}
		args, err := r.args(b, ev)
		if err != nil {
			if err := flush(); err != nil { // what stands before it comes first
				return err
			}
			if err := r.cfg.PutAside(r.job, b, ev, err); err != nil {
				return err
			}
			continue
		}
		bytes := 0
		for _, arg := range args {
			bytes += len(arg)
		}
		if size+bytes > portionBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		calls = append(calls, call{ev, args})
		if size += bytes; len(calls) == portionEvents {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// args are the statement's parameters for an event.
func (r *eventRunner) args(b *batch.Batch, ev *pgq.Event) ([][]byte, error) {
	var row pgq.Row
	if r.columns {
		decode := pgq.DecodeRow
		if strings.HasPrefix(ev.Data.String, "{") { // no url-encoded row begins so
			decode = pgq.DecodeJSON
		}
		var err error
		if row, err = decode(ev.Data.String); err != nil {
			return nil, fmt.Errorf("ev_data is no row: %w", err)
		}
	}
	return r.query.args(func(name string) (pgtype.Text, bool) {
		field, ours := strings.CutPrefix(name, eventPrefix)
		if !ours {
			if value, found := row[name]; found {
				return value, true
			}
		}
		return eventField(b, ev, field)
	}, func() string { return columnsOf(row) })
}

func eventField(b *batch.Batch, ev *pgq.Event, name string) (_ pgtype.Text, found bool) {
	switch name {
	case "tick_id":
		return pgq.Text(strconv.FormatInt(b.Tick, 10)), true
	case "ev_id":
		return pgq.Text(strconv.FormatInt(ev.ID, 10)), true
	case "ev_time":
		return pgq.Text(ev.Time.Format("2006-01-02 15:04:05.999999-07:00")), true
	case "ev_type":
		return ev.Type, true
	case "ev_data":
		return ev.Data, true
	case "ev_extra1":
		return ev.Extra1, true
	case "ev_extra2":
		return ev.Extra2, true
	case "ev_extra3":
		return ev.Extra3, true
	case "ev_extra4":
		return ev.Extra4, true
	}
	return pgtype.Text{}, false
}

// columnsOf lists the row's columns for an error.
func columnsOf(row pgq.Row) string {
	const shown = 20
	names := make([]string, 0, len(row))
	for name := range row {
		names = append(names, name)
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return "the event's row has no columns"
	case len(names) > shown:
		return fmt.Sprintf("the event's row has %s and %d others", strings.Join(names[:shown], ", "), len(names)-shown)
	}
	return "the event's row has " + strings.Join(names, ", ")
}

// result reads what came of one call. The first row goes to the log for who wants to see
// it.
func (r *eventRunner) result(c call, reader *pgconn.ResultReader) error {
	for first := true; reader.NextRow(); first = false {
		if r.debug && first {
			r.job.Log.WithFields(rowFields(reader)).WithField("event_id", c.ev.ID).Debug("result")
		}
	}
	_, err := reader.Close()
	return err
}

func rowFields(reader *pgconn.ResultReader) logrus.Fields {
	fields := logrus.Fields{}
	for i, value := range reader.Values() {
		name := reader.FieldDescriptions()[i].Name
		if fields[name] = nil; value != nil {
			fields[name] = string(value)
		}
	}
	return fields
}

// synced reads up to the end of a transaction and returns what went wrong there.
func synced(p *pgconn.Pipeline) error {
	var fault error
	for {
		results, err := p.GetResults()
		var server *pgconn.PgError
		switch {
		case err != nil && !errors.As(err, &server):
			return err
		case err != nil && fault == nil:
			fault = err
		case err == nil:
			if _, ok := results.(*pgconn.PipelineSync); ok || results == nil {
				return fault
			}
		}
	}
}
