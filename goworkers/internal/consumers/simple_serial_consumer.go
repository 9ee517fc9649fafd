package consumers

// The simple serial consumer: a statement for each event, once.

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"goworkers/batch"
)

// SimpleSerialConsumerService is the simple serial consumer's section in the ini file.
const SimpleSerialConsumerService = "simple_serial_consumer"

// SimpleSerialConsumerConfig holds the keys of a simple serial consumer.
type SimpleSerialConsumerConfig struct {
	batch.RemoteConfig
	EventQuery
}

// SimpleSerialConsumer is a Worker that runs a statement for each event, whatever its
// type. A batch is one transaction of the target, which also keeps the place there: so
// each event takes effect once.
type SimpleSerialConsumer struct {
	*batch.SerialConsumer
	*eventRunner
	dst batch.ConnString
}

// NewSimpleSerialConsumer makes a consumer. Its first round registers it on the queue.
func NewSimpleSerialConsumer(job *batch.Job, cfg SimpleSerialConsumerConfig) (*SimpleSerialConsumer, error) {
	runner, err := newEventRunner(job, cfg.EventQuery)
	if err != nil {
		return nil, err
	}
	s := &SimpleSerialConsumer{eventRunner: runner, dst: cfg.DstDB}
	s.SerialConsumer, err = batch.NewSerialConsumer(job, cfg.RemoteConfig, s.handle)
	return s, err
}

// Work does one batch, if there is one; with several workers it does many.
func (s *SimpleSerialConsumer) Work(ctx context.Context) (more bool, err error) {
	return s.work(ctx, s.SerialConsumer, s.dst)
}

func (s *SimpleSerialConsumer) handle(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
	if err := s.check(ctx, tx.Conn().PgConn()); err != nil {
		return err
	}
	return s.each(b, nil, func(calls []call) error { return s.apply(ctx, tx, b, calls) })
}

// apply runs the calls in the batch's transaction. When one of them is a bad event that
// is put aside, those before it are undone with it, and run again.
func (s *SimpleSerialConsumer) apply(ctx context.Context, tx pgx.Tx, b *batch.Batch, calls []call) error {
	for len(calls) > 0 {
		done, err := s.attempt(ctx, tx, calls)
		switch {
		case err == nil:
			return nil
		case done < 0:
			return err
		case !isDataError(err):
			return &eventError{calls[done].ev, err}
		}
		if err := s.cfg.PutAside(s.job, b, calls[done].ev, err); err != nil {
			return err
		}
		if err := s.apply(ctx, tx, b, calls[:done]); err != nil {
			return err
		}
		calls = calls[done+1:]
	}
	return nil
}

// attempt runs all of the calls or none. After an error it says which call failed, or
// -1 when it was none of them.
func (s *SimpleSerialConsumer) attempt(ctx context.Context, tx pgx.Tx, calls []call) (failed int, err error) {
	if s.cfg.Stops() { // the whole transaction is undone then
		return s.send(ctx, tx.Conn().PgConn(), calls)
	}
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return -1, err
	}
	if failed, err = s.send(ctx, tx.Conn().PgConn(), calls); err == nil {
		return -1, savepoint.Commit(ctx)
	}
	if err := savepoint.Rollback(ctx); err != nil {
		return -1, err
	}
	return failed, err
}

func (s *SimpleSerialConsumer) send(ctx context.Context, conn *pgconn.PgConn, calls []call) (failed int, err error) {
	return s.query.runAll(ctx, conn, len(calls),
		func(i int) [][]byte { return calls[i].args },
		func(i int, r *pgconn.ResultReader) error { return s.result(calls[i], r) })
}
