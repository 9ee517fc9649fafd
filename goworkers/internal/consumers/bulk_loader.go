package consumers

// The bulk loader: keeps copies of tables, changes in sets.

import (
	"context"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

// BulkLoaderService is the loader's section in the ini file.
const BulkLoaderService = "bulk_loader"

// BulkLoaderConfig holds the keys of a bulk loader.
type BulkLoaderConfig struct {
	batch.RemoteConfig
	batch.BadEvents
	// LoadMethod is 0, 1 or 2. Default: 0.
	LoadMethod int `ini:"load_method" default:"0" min:"0" help:"0: inserts, updates and deletes as what they are; 1: updates as delete and insert; 2: inserts too, so that rows that are there already do no harm"`
	// RemapTables are tables that have another name at the target.
	RemapTables []string `ini:"remap_tables" help:"tables that have another name in dst_db: source:target, comma separated"`
}

// Validate finds what does not go together.
func (c *BulkLoaderConfig) Validate() []batch.Problem {
	var problems []batch.Problem
	if c.LoadMethod > 2 {
		problems = append(problems, batch.Problem{Key: "load_method", What: "must be 0, 1 or 2"})
	}
	if _, wrong := tablePairs(c.RemapTables); wrong != "" {
		problems = append(problems, batch.Problem{Key: "remap_tables", What: wrong})
	}
	return problems
}

var bulkModes = []loadMode{loadBulk, loadMerge, loadUpsert}

// NewBulkLoader makes a loader. Events are those of pgq.logutriga or pgq.jsontriga; of the changes to a row
// the last one counts, and the changes of a table are carried out together: deletes, then
// updates, then inserts. The order among tables is not kept, so the target's tables should
// have no foreign keys. The place is kept as a tick in the transaction that loads.
func NewBulkLoader(job *batch.Job, cfg BulkLoaderConfig) (*batch.SerialConsumer, error) {
	remap, wrong := tablePairs(cfg.RemapTables)
	if wrong != "" {
		return nil, batch.Usagef("%s: remap_tables %s", job.Service, wrong)
	}
	if cfg.LoadMethod < 0 || cfg.LoadMethod >= len(bulkModes) {
		return nil, batch.Usagef("%s: load_method = %d: must be 0, 1 or 2", job.Service, cfg.LoadMethod)
	}
	loaders := perWorker[*loader]{make: func(n int) *loader { return newLoader(n, job, cfg.DstDB, cfg.BadEvents, "") }}
	return batch.NewSerialConsumer(job, cfg.RemoteConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
		l := loaders.take()
		defer loaders.give(l)
		types := changes{}
		run := l.begin(b, tx)
		return run.run(ctx, func(ev *pgq.Event, _ []field) (*dest, byte, error) {
			table, err := tableOf(ev)
			if err != nil {
				return nil, 0, err
			}
			if to, mapped := remap[table]; mapped {
				table = to
			}
			return run.ofChange(ctx, types, ev, table, bulkModes[cfg.LoadMethod])
		})
	})
}

// ofChange finds the table that a change is carried out on.
func (l *loading) ofChange(ctx context.Context, types changes, ev *pgq.Event, table string, mode loadMode) (*dest, byte, error) {
	ch, err := types.keyed(ev)
	switch {
	case err != nil:
		return nil, 0, err
	case ch.op == 'R':
		return nil, 0, badRowf("it truncates table %s, which is not carried out; truncate the target by hand", table)
	}
	d, err := l.dest(table, func() (*dest, error) { return &dest{mode: mode, key: ch.key}, nil })
	if err == nil {
		err = d.rekey(ctx, ch.key)
	}
	return d, ch.op, err
}
