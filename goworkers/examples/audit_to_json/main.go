// Command audit_to_json writes the changes that queue triggers log to files, a JSON object a
// line, a file a day (UTC). Each is written at least once, and a batch that comes again goes
// on where it stopped: the file tells which of its events it has. See files.go.
//
//	[audit_to_json]
//	src_db = dbname=shop
//	queue_name = audit
//	audit_dir = ~/audit
//	on_bad_event = deadletter
package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"goworkers/batch"
	"goworkers/pgq"
)

type config struct {
	batch.ConsumerConfig
	batch.BadEvents
	Dir string `ini:"audit_dir" path:"true" required:"true" help:"folder of the files"`
}

// entry is a line of a file.
type entry struct {
	Event, Batch int64
	Time         time.Time
	Op, Table    string
	Row, Old     pgq.Row
}

func main() {
	var cfg config
	batch.Main("audit_to_json", &cfg, func(job *batch.Job) (batch.Worker, error) {
		if cfg.Slots > 0 {
			return nil, batch.Usagef("audit_to_json: the files have one writer: take consumer_slots away")
		}
		files := &files{dir: cfg.Dir, days: map[string]*day{}}
		write := batch.Handle(job, cfg.BadEvents, files.write)
		return batch.NewConsumer(job, cfg.ConsumerConfig, func(ctx context.Context, tx pgx.Tx, b *batch.Batch) error {
			files.begin(b.ID)
			return files.end(write(ctx, tx, b))
		})
	})
}
