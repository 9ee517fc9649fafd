package consumers

// The simple consumer: a statement for each event that a trigger wrote, each in a
// transaction of its own.

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/batch"
	"goworkers/pgq"
)

// SimpleConsumerService is the simple consumer's section in the ini file.
const SimpleConsumerService = "simple_consumer"

// SimpleConsumerConfig holds the keys of a simple consumer.
type SimpleConsumerConfig struct {
	batch.ConsumerConfig
	// DstDB is the database that the statement is run in. Required.
	DstDB batch.ConnString `ini:"dst_db" required:"true" help:"connection string of the database that dst_query runs in"`
	EventQuery
}

// SimpleConsumer is a Worker that runs a statement for each event of a row: those of
// the types I:, U: and D:, as pgq.logutriga writes them, or the like of pgq.jsontriga;
// others are ignored. Each is
// committed by itself, and the place is kept on the queue alone. So an event may be run
// again after a crash, and what the statement calls has to bear that.
type SimpleConsumer struct {
	*batch.Consumer
	*eventRunner
	dst batch.ConnString
}

// NewSimpleConsumer makes a consumer. Its first round registers it on the queue.
func NewSimpleConsumer(job *batch.Job, cfg SimpleConsumerConfig) (*SimpleConsumer, error) {
	if cfg.DstDB == "" {
		return nil, batch.Usagef("%s: dst_db is empty", job.Service)
	}
	if cfg.Workers > 1 {
		return nil, batch.Usagef("%s: has no workers side by side in one process; start several processes with the same consumer_slots", job.Config.Key("consumer_workers"))
	}
	runner, err := newEventRunner(job, cfg.EventQuery)
	if err != nil {
		return nil, err
	}
	s := &SimpleConsumer{eventRunner: runner, dst: cfg.DstDB}
	s.Consumer, err = batch.NewConsumer(job, cfg.ConsumerConfig, runner.oneByOne(cfg.DstDB))
	return s, err
}

// Work does one batch, if there is one.
func (s *SimpleConsumer) Work(ctx context.Context) (more bool, err error) {
	return s.work(ctx, s.Consumer, s.dst)
}

// oneByOne is a handler that runs the statement for each event of a row, each in a
// transaction of its own.
func (r *eventRunner) oneByOne(dst batch.ConnString) batch.Handler {
	return func(ctx context.Context, _ pgx.Tx, b *batch.Batch) error {
		conn, err := r.job.DB(ctx, "dst_db", dst)
		if err != nil {
			return err
		}
		if err := r.check(ctx, conn.PgConn()); err != nil {
			return err
		}
		return r.each(b, ofRow, func(calls []call) error { return r.commitEach(ctx, conn.PgConn(), b, calls) })
	}
}

// ofRow says whether an event is about a row: inserted, updated or deleted.
func ofRow(ev *pgq.Event) bool {
	if strings.HasPrefix(ev.Type.String, "{") { // of pgq.jsontriga
		var kind struct {
			Op string `json:"op"`
		}
		return json.Unmarshal([]byte(ev.Type.String), &kind) == nil && slices.Contains([]string{"INSERT", "UPDATE", "DELETE"}, kind.Op)
	}
	for _, kind := range []string{"I:", "U:", "D:"} {
		if strings.HasPrefix(ev.Type.String, kind) {
			return true
		}
	}
	return false
}

// commitEach runs the calls, each in its own transaction: one that fails undoes no other,
// and those behind it are run all the same. The statement goes along with each, since
// a connection pooler may give each transaction another server.
func (r *eventRunner) commitEach(ctx context.Context, conn *pgconn.PgConn, b *batch.Batch, calls []call) error {
	p := conn.StartPipeline(ctx)
	for _, c := range calls {
		p.SendQueryParams(r.query.sql, c.args, nil, nil, nil)
		p.SendPipelineSync()
	}
	if err := p.Flush(); err != nil {
		return err
	}
	faults := make([]error, len(calls))
	for i, c := range calls {
		fault := resultOf(p, func(reader *pgconn.ResultReader) error { return r.result(c, reader) })
		err := synced(p)
		var server *pgconn.PgError
		if err != nil && !errors.As(err, &server) { // the connection is gone
			faults[i] = errors.Join(fault, err)
			break
		}
		if fault == nil {
			fault = err
		}
		faults[i] = fault
	}
	closed := p.Close()
	for i, c := range calls {
		switch err := faults[i]; {
		case err == nil:
		case isDataError(err):
			if err := r.cfg.PutAside(r.job, b, c.ev, err); err != nil {
				return err
			}
		default:
			return &eventError{c.ev, err}
		}
	}
	var server *pgconn.PgError
	if errors.As(closed, &server) {
		return nil // told above
	}
	return closed
}
