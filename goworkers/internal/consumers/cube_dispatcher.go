package consumers

// The cube dispatcher: of each row one state a day, in tables by date.

import (
	"context"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

// CubeDispatcherService is the dispatcher's section in the ini file.
const CubeDispatcherService = "cube_dispatcher"

// CubeDispatcherConfig holds the keys of a cube dispatcher.
type CubeDispatcherConfig struct {
	batch.RemoteConfig
	batch.BadEvents
	// Mode is keep_latest or keep_all. Default: keep_latest.
	Mode string `ini:"mode" default:"keep_latest" choice:"keep_latest,keep_all" help:"keep_latest: of each row the latest state stays, deletes remove it; keep_all: each state is a row, deletes are refused"`
	// DateFormat is the end of the tables' names. Default: YYYY_MM_DD.
	DateFormat string `ini:"dateformat" default:"YYYY_MM_DD" help:"end of the tables' names, a format of to_char for the time of the batch (in the time zone of dst_db); empty: no partitions"`
	// PartTemplate makes a table. Default: one like the parent, with the primary key.
	PartTemplate string `ini:"part_template" help:"SQL that makes a missing table; _DEST_TABLE is its name, _PARENT that of the table that it is a part of, _PKEY the columns of the key, _SCHEMA_TABLE the name without a dot; empty: a table like _PARENT with _PKEY as primary key"`
}

// NewCubeDispatcher makes a dispatcher. Events are those of pgq.logutriga or pgq.jsontriga; a row goes to
// the table of its own name and the date of the batch. The place is kept as a tick in the
// transaction that loads.
func NewCubeDispatcher(job *batch.Job, cfg CubeDispatcherConfig) (*batch.SerialConsumer, error) {
	loaders := perWorker[*loader]{make: func(n int) *loader { return newLoader(n, job, cfg.DstDB, cfg.BadEvents, cfg.PartTemplate) }}
	return batch.NewSerialConsumer(job, cfg.RemoteConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
		suffix, err := batchSuffix(ctx, tx, b, cfg.DateFormat)
		if err != nil {
			return err
		}
		l := loaders.take()
		defer loaders.give(l)
		types := changes{}
		run := l.begin(b, tx)
		return run.run(ctx, func(ev *pgq.Event, _ []field) (*dest, byte, error) {
			ch, err := types.keyed(ev)
			switch {
			case err != nil:
				return nil, 0, err
			case ch.op == 'R' && suffix == "":
				return nil, 0, badRowf("it truncates table %s, which is not carried out; truncate the target by hand", ev.Extra1.String)
			case ch.op == 'R':
				return nil, 0, nil // the days keep what there was
			case ch.op == 'D' && cfg.Mode == "keep_all":
				return nil, 0, badRowf("it deletes a row, and mode = keep_all takes no deletes")
			}
			parent, err := tableOf(ev)
			if err != nil {
				return nil, 0, err
			}
			return run.ofPart(ctx, parent, suffix, ch, cfg.Mode == "keep_latest")
		})
	})
}

const batchSuffixSQL = `select '_' || pg_catalog.to_char($1::timestamptz, $2::text)`

// batchSuffix is the end of the names of a batch's tables.
func batchSuffix(ctx context.Context, tx pgx.Tx, b *batch.Batch, format string) (suffix string, err error) {
	if format == "" {
		return "", nil
	}
	err = tx.QueryRow(ctx, batchSuffixSQL, b.TickTime, format).Scan(&suffix)
	return suffix, err
}

// ofPart finds the table of a row that goes by parent and suffix, and makes it.
func (l *loading) ofPart(ctx context.Context, parent, suffix string, ch change, latest bool) (*dest, byte, error) {
	table := parent + suffix
	d, err := l.dest(table, func() (*dest, error) {
		if suffix != "" {
			if err := l.parts.ensure(ctx, l.tx, partition{table: table, parent: parent, key: ch.key, many: !latest}); err != nil {
				return nil, err
			}
		}
		if !latest {
			return &dest{mode: loadPlain}, nil
		}
		return &dest{mode: loadLatest, key: ch.key}, nil
	})
	if err == nil && latest {
		err = d.rekey(ctx, ch.key)
	}
	return d, ch.op, err
}
